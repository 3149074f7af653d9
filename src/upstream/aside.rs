//! What passes between a client's connection and an instance's beside request and answer: interim answers, and the
//! connection itself once it has switched to another protocol. One client connection has one, for one request at a time.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use bytes::BytesMut;
use http::{HeaderValue, StatusCode, header::UPGRADE};

use super::{permit::Permit, pool::Connection};
use crate::{
    model::fields::Fields,
    telemetry::{cells::Outcome, journey::Journey},
    wire::Io,
};

/// Between a client's connection and whoever answers its present request. A default one wants neither.
#[derive(Debug, Default)]
pub struct Aside {
    /// The protocols that the client asks for.
    upgrade: RefCell<Option<HeaderValue>>,
    /// Whether the client knows interim answers.
    wants_interim: Cell<bool>,
    interim: RefCell<Vec<(StatusCode, Fields)>>,
    switched: RefCell<Option<Switched>>,
    /// What is told of the request, where somebody wants to know.
    journey: RefCell<Option<Rc<Journey>>>,
    /// Bytes of its body that came.
    received: Cell<u64>,
    /// As many may come; 0: any number.
    most: Cell<u64>,
    /// Whether the request lets other tasks go first.
    deferred: Cell<bool>,
}

/// A connection to an instance that speaks another protocol from now on.
#[derive(Debug)]
pub struct Switched {
    /// The socket.
    pub io: Io,
    /// What was read of the other protocol already.
    pub input: BytesMut,
    /// What the instance calls that protocol.
    pub protocol: HeaderValue,
    /// How long nothing may pass.
    pub idle: Duration,
    /// What was admitted, until the connection ends.
    _permit: Permit,
}

/// How much of interim answers waits for the client, in bytes of their fields. Beyond it they are dropped: they are hints.
const MOST: usize = 8 * 1024;

impl Aside {
    /// The client's next request begins.
    pub fn begin(&self, upgrade: Option<HeaderValue>, wants_interim: bool) {
        *self.upgrade.borrow_mut() = upgrade;
        self.wants_interim.set(wants_interim);
        self.interim.borrow_mut().clear();
        *self.switched.borrow_mut() = None;
        *self.journey.borrow_mut() = None;
        self.received.set(0);
        self.most.set(0);
        self.deferred.set(false);
    }

    /// The present request's body may have so many bytes (0: any number), which is known with its route.
    pub fn allow(&self, most: u64) {
        self.most.set(most);
    }

    /// How many bytes the present request's body may have; `None`: any number.
    #[must_use]
    pub fn most(&self) -> Option<u64> {
        Some(self.most.get()).filter(|most| *most != 0)
    }

    /// The request lets other tasks go first, and has seen to it that it is asked again at once.
    pub fn defer(&self) {
        self.deferred.set(true);
    }

    /// Whether it did so since this was asked last: there is nothing yet that its client could be told, or asked.
    #[must_use]
    pub fn was_deferred(&self) -> bool {
        self.deferred.take()
    }

    /// Has what becomes of the present request be told there.
    pub fn follow(&self, journey: Rc<Journey>) {
        *self.journey.borrow_mut() = Some(journey);
    }

    /// Nothing is told of it any more.
    pub fn forget(&self) {
        *self.journey.borrow_mut() = None;
    }

    /// Where what becomes of the present request is told.
    #[must_use]
    pub fn journey(&self) -> Option<Rc<Journey>> {
        self.journey.borrow().clone()
    }

    /// Bytes of the present request's body came.
    pub fn note(&self, bytes: usize) {
        self.received.set(self.received.get() + bytes as u64);
    }

    /// Bytes of the present request's body that came.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    /// The protocols that the client asks for, as they go into the `Upgrade` field.
    #[must_use]
    pub fn upgrade(&self) -> Option<HeaderValue> {
        self.upgrade.borrow().clone()
    }

    /// The interim answers that came since this was asked last.
    #[must_use]
    pub fn interim(&self) -> Vec<(StatusCode, Fields)> {
        self.interim.take()
    }

    /// The connection that has switched, where the answer is 101.
    #[must_use]
    pub fn switched(&self) -> Option<Switched> {
        self.switched.take()
    }

    /// Passes an interim answer on. Others than 100 and 103 mean something to this connection alone, or nothing.
    pub(super) fn tell(&self, status: StatusCode, fields: Fields) {
        let passes = matches!(status, StatusCode::CONTINUE | StatusCode::EARLY_HINTS);
        if !self.wants_interim.get() || !passes {
            return;
        }
        let mut waiting = self.interim.borrow_mut();
        let held: usize = waiting.iter().map(|(_, fields)| size(fields)).sum();
        if held + size(&fields) <= MOST {
            waiting.push((status, fields));
        }
    }

    /// What an instance switches to, where that is one thing that was asked for. Source: RFC 9110 §7.8.
    pub(super) fn granted(&self, fields: &Fields) -> Option<HeaderValue> {
        let asked = self.upgrade.borrow();
        let mut told = fields.get_all(UPGRADE);
        let (Some(protocol), None) = (told.next(), told.next()) else { return None };
        let mut asked = asked.as_ref()?.as_bytes().split(|&b| b == b',');
        let granted = protocol.as_bytes().trim_ascii();
        asked.any(|one| one.trim_ascii().eq_ignore_ascii_case(granted)).then(|| fields.get_owned(UPGRADE)).flatten()
    }

    /// Hands the connection over: what it carries now is no business of HTTP's.
    pub(super) fn switch(&self, connection: Connection, protocol: HeaderValue, idle: Duration, mut permit: Permit) {
        permit.answered();
        permit.proven();
        permit.settle(Outcome::Success);
        let Connection { io, input, .. } = connection;
        *self.switched.borrow_mut() = Some(Switched { io, input, protocol, idle, _permit: permit });
    }
}

fn size(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade(to: &[&'static str]) -> Fields {
        to.iter().map(|to| (UPGRADE, HeaderValue::from_static(to))).collect()
    }

    #[test]
    fn only_what_was_asked_for_is_granted() {
        for (asked, told, granted) in [
            (Some("websocket"), &["websocket"][..], true),
            (Some("websocket"), &["WebSocket"], true),
            (Some("a/1, b"), &["B"], true),
            (Some("a/1, b"), &["a/1"], true),
            (Some("a/1, b"), &["a"], false),
            (Some("a, b"), &["a, b"], false),
            (Some("a, b"), &["a", "b"], false),
            (Some("websocket"), &["h2c"], false),
            (Some("websocket"), &[""], false),
            (Some("websocket"), &[], false),
            (None, &["websocket"], false),
            (None, &[], false),
        ] {
            let aside = Aside::default();
            aside.begin(asked.map(HeaderValue::from_static), true);
            assert_eq!(aside.granted(&upgrade(told)).is_some(), granted, "{asked:?} {told:?}");
        }
    }

    #[test]
    fn hints_pass_to_who_knows_them_and_not_without_end() {
        let aside = Aside::default();
        aside.tell(StatusCode::EARLY_HINTS, Fields::new());
        assert!(aside.interim().is_empty());
        aside.begin(None, true);
        for status in [100, 102, 103, 199] {
            aside.tell(StatusCode::from_u16(status).unwrap(), Fields::new());
        }
        let told: Vec<_> = aside.interim().into_iter().map(|(status, _)| status.as_u16()).collect();
        assert_eq!(told, [100, 103]);
        let long = HeaderValue::from_bytes(&[b'x'; 5_000]).unwrap();
        for _ in 0..3 {
            aside.tell(StatusCode::EARLY_HINTS, [(http::header::LINK, long.clone())].into_iter().collect());
        }
        assert_eq!(aside.interim().len(), 1);
    }
}
