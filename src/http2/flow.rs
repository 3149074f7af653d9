//! Flow control: how much either side may still send, of a stream or of all of them. Source: RFC 9113 §5.2, §6.9.

use super::{Reason, frame::MAX};

/// What the other side has room for. It may be less than nothing, once the other side has less room than it said at first.
#[derive(Clone, Copy, Debug)]
pub struct Room(i64);

impl Room {
    /// So many bytes.
    #[must_use]
    pub fn new(bytes: u32) -> Self {
        Self(bytes.into())
    }

    /// How many bytes may be sent.
    #[inline]
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// So many were sent, which were no more than there was room for.
    #[inline]
    pub fn take(&mut self, bytes: usize) {
        self.0 -= i64::try_from(bytes).unwrap_or(i64::MAX);
    }

    /// There is room for so many more, or fewer.
    ///
    /// # Errors
    /// `FLOW_CONTROL_ERROR`: it is more than there may ever be.
    pub fn give(&mut self, bytes: i64) -> Result<(), Reason> {
        self.0 += bytes;
        if self.0 > i64::from(MAX) { Err(Reason::FLOW_CONTROL_ERROR) } else { Ok(()) }
    }
}

/// What this side has room for.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    size: u32,
    /// What the other side may still send.
    left: u32,
    /// What came and is of no more use to anybody, and of which the other side was not told yet.
    owed: u32,
}

impl Window {
    /// Of so many bytes.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self { size, left: size, owed: 0 }
    }

    /// What came and is not given back yet, in bytes.
    #[must_use]
    pub fn kept(&self) -> u32 {
        self.size - self.left - self.owed
    }

    /// So many bytes came.
    ///
    /// # Errors
    /// `FLOW_CONTROL_ERROR`: there was no room for them.
    #[inline]
    pub fn came(&mut self, bytes: usize) -> Result<(), Reason> {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.left.checked_sub(bytes));
        self.left = left.ok_or(Reason::FLOW_CONTROL_ERROR)?;
        Ok(())
    }

    /// So many of them are done with. What the other side is to be told: seldom, for each time costs a frame.
    #[inline]
    pub fn release(&mut self, bytes: usize) -> Option<u32> {
        self.owed += u32::try_from(bytes).unwrap_or(0);
        if self.owed < self.size / 2 {
            return None;
        }
        self.left += self.owed;
        Some(std::mem::take(&mut self.owed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_may_be_less_than_nothing_and_never_more_than_two_gibibytes() {
        let mut room = Room::new(100);
        room.take(100);
        room.give(-50).unwrap();
        assert_eq!(room.bytes(), 0);
        room.give(60).unwrap();
        assert_eq!(room.bytes(), 10);
        room.give(i64::from(MAX) - 10).unwrap();
        assert_eq!(room.give(1), Err(Reason::FLOW_CONTROL_ERROR));
    }

    #[test]
    fn a_window_is_opened_again_when_half_of_it_is_done_with() {
        let mut window = Window::new(100);
        window.came(100).unwrap();
        assert_eq!(window.came(1), Err(Reason::FLOW_CONTROL_ERROR));
        window.came(0).unwrap();
        assert_eq!((window.release(49), window.release(1), window.release(10)), (None, Some(50), None));
        window.came(50).unwrap();
        assert!(window.came(1).is_err());
    }
}
