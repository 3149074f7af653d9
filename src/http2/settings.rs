//! What the other side says of itself, and what we say of us. Source: RFC 9113 §6.5.

use super::{
    Reason,
    frame::{FrameHead, LARGEST, MAX, kind},
};

/// The settings of the other side.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The most that its table of names may take, in bytes.
    pub header_table: u32,
    /// The least that it was meanwhile, since the frame before.
    pub least_table: u32,
    /// Streams at once.
    pub max_streams: u32,
    /// Room on a new stream, in bytes.
    pub window: u32,
    /// The largest payload of a frame, in bytes.
    pub max_frame: usize,
}

impl Default for Settings {
    /// What holds until something else was said.
    fn default() -> Self {
        Self { header_table: 4096, least_table: 4096, max_streams: u32::MAX, window: 65_535, max_frame: LARGEST }
    }
}

impl Settings {
    /// Reads what a frame changes. `from_server` is who says it.
    ///
    /// # Errors
    /// A value that may not be, or half of one.
    pub fn apply(&mut self, payload: &[u8], from_server: bool) -> Result<(), Reason> {
        let (settings, []) = payload.as_chunks::<6>() else { return Err(Reason::FRAME_SIZE_ERROR) };
        self.least_table = self.header_table;
        for &[a, b, value @ ..] in settings {
            let value = u32::from_be_bytes(value);
            match u16::from_be_bytes([a, b]) {
                HEADER_TABLE_SIZE => {
                    self.header_table = value;
                    self.least_table = self.least_table.min(value);
                }
                // Nobody is pushed anything here, and no server may say that it takes any.
                ENABLE_PUSH if value > 1 || (from_server && value == 1) => return Err(Reason::PROTOCOL_ERROR),
                MAX_CONCURRENT_STREAMS => self.max_streams = value,
                INITIAL_WINDOW_SIZE if value > MAX => return Err(Reason::FLOW_CONTROL_ERROR),
                INITIAL_WINDOW_SIZE => self.window = value,
                MAX_FRAME_SIZE => {
                    let size = value as usize;
                    if !(LARGEST..=MAX_FRAME).contains(&size) {
                        return Err(Reason::PROTOCOL_ERROR);
                    }
                    self.max_frame = size;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Appends a frame of ours.
pub fn write(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    FrameHead { length: 6 * settings.len(), kind: kind::SETTINGS, flags: 0, stream: 0 }.write(out);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;
/// The largest that may be said.
const MAX_FRAME: usize = (1 << 24) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_may_not_be_are_told_by_their_reason() {
        for (name, value, from_server, want) in [
            (ENABLE_PUSH, 0, true, Ok(())),
            (ENABLE_PUSH, 1, true, Err(Reason::PROTOCOL_ERROR)),
            (ENABLE_PUSH, 1, false, Ok(())),
            (ENABLE_PUSH, 2, false, Err(Reason::PROTOCOL_ERROR)),
            (INITIAL_WINDOW_SIZE, MAX, false, Ok(())),
            (INITIAL_WINDOW_SIZE, MAX + 1, false, Err(Reason::FLOW_CONTROL_ERROR)),
            (MAX_FRAME_SIZE, 16_383, false, Err(Reason::PROTOCOL_ERROR)),
            (MAX_FRAME_SIZE, 16_384, false, Ok(())),
            (MAX_FRAME_SIZE, 16_777_215, false, Ok(())),
            (MAX_FRAME_SIZE, 16_777_216, false, Err(Reason::PROTOCOL_ERROR)),
            (MAX_CONCURRENT_STREAMS, 0, true, Ok(())),
            (0xfafa, 7, true, Ok(())),
        ] {
            let mut frame = Vec::new();
            write(&mut frame, &[(MAX_CONCURRENT_STREAMS, 9), (name, value)]);
            let mut settings = Settings::default();
            assert_eq!(settings.apply(&frame[9..], from_server), want, "{name} {value}");
            assert_eq!(settings.apply(&frame[9..20], from_server), Err(Reason::FRAME_SIZE_ERROR));
        }
    }
}
