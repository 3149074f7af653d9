//! What happened and why: kept for a while, told to whoever listens, and logged.

use std::{
    collections::VecDeque,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use serde::{Serialize, Serializer};
use tokio::sync::broadcast;

use crate::model::name::{InstanceId, ServiceName};

/// Something that an operator may want to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When it happened.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
    /// What happened, such as `instance_joined`. The last word decides how loud the log is: see [`LOUD`].
    pub kind: &'static str,
    /// The service it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// The instance it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Why it happened. May hold what others wrote: anything.
    pub cause: String,
}

impl Event {
    /// Something that happens now.
    #[must_use]
    pub fn new(kind: &'static str, cause: impl Into<String>) -> Self {
        Self { at: SystemTime::now(), kind, service: None, instance: None, cause: cause.into() }
    }

    /// The same, about a service.
    #[must_use]
    pub fn service(mut self, service: &ServiceName) -> Self {
        self.service = Some(service.clone());
        self
    }

    /// The same, about an instance.
    #[must_use]
    pub fn instance(mut self, instance: &InstanceId) -> Self {
        self.instance = Some(instance.clone());
        self
    }

    fn is_loud(&self) -> bool {
        self.kind.rsplit('_').next().is_some_and(|last| LOUD.contains(&last))
    }
}

/// A kind that ends with one of these words is something to act on soon: a warning in the log.
pub const LOUD: [&str; 6] = ["failed", "lost", "opened", "refused", "rejected", "unexposed"];

/// An event with its place in the order of all events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Published {
    /// Counts up by one from 1.
    pub id: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Deref for Published {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// The last events, and those who listen for more.
#[derive(Debug)]
pub struct Events(Mutex<Told>);

#[derive(Debug)]
struct Told {
    last: u64,
    recent: VecDeque<Arc<Published>>,
    listeners: broadcast::Sender<Arc<Published>>,
}

impl Events {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let listeners = broadcast::Sender::new(KEPT);
        Arc::new(Self(Mutex::new(Told { last: 0, recent: VecDeque::with_capacity(KEPT), listeners })))
    }

    /// Logs, keeps and tells an event.
    pub fn publish(&self, mut event: Event) {
        clip(&mut event.cause);
        log(&event);
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.last += 1;
        let published = Arc::new(Published { id: told.last, event });
        if told.recent.len() == KEPT {
            told.recent.pop_front();
        }
        told.recent.push_back(Arc::clone(&published));
        // An error means that nobody listens.
        _ = told.listeners.send(published);
    }

    /// The last events, oldest first, and all that follow. Who falls behind by more than 256 is told that some were missed.
    #[must_use]
    pub fn subscribe(&self) -> (Vec<Arc<Published>>, broadcast::Receiver<Arc<Published>>) {
        // Under one lock, so that none is missed or told twice in between.
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (told.recent.iter().cloned().collect(), told.listeners.subscribe())
    }
}

const KEPT: usize = 256;

/// A cause may hold an answer of Consul's, of any length.
const LONGEST_CAUSE: usize = 4096;

fn clip(cause: &mut String) {
    if cause.len() > LONGEST_CAUSE {
        cause.truncate(cause.floor_char_boundary(LONGEST_CAUSE - '…'.len_utf8()));
        cause.push('…');
    }
}

fn log(event: &Event) {
    let Event { kind, cause, .. } = event;
    let service = event.service.as_ref().map(ServiceName::as_str);
    let instance = event.instance.as_ref().map(InstanceId::as_str);
    if event.is_loud() {
        tracing::warn!(kind, service, instance, cause);
    } else {
        tracing::info!(kind, service, instance, cause);
    }
}

/// Writes a moment as RFC 3339 has it, to the millisecond.
///
/// # Errors
/// Those of the serializer.
pub fn rfc3339<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    // Humantime errs on times before 1970 and after 9999; a clock may be set to anything.
    let at = (*at).clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LATEST);
    serializer.collect_str(&humantime::format_rfc3339_millis(at))
}

/// The end of the year 9999.
const LATEST: std::time::Duration = std::time::Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn causes(events: &[Arc<Published>]) -> Vec<&str> {
        events.iter().map(|e| e.cause.as_str()).collect()
    }

    #[test]
    fn an_event_is_written_as_json() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let event = Event { at, ..Event::new("instance_joined", "line\nbreak \u{1b}[31m") };
        let published = Published { id: 7, event: event.service(&"users".into()).instance(&"u1".into()) };
        assert_eq!(
            serde_json::to_string(&published).unwrap(),
            r#"{"id":7,"at":"2023-11-14T22:13:20.123Z","kind":"instance_joined","service":"users","instance":"u1","#
                .to_owned()
                + r#""cause":"line\nbreak \u001b[31m"}"#
        );
    }

    #[test]
    fn what_an_event_is_not_about_is_left_out() {
        let at = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        let json = serde_json::to_value(Event { at, ..Event::new("reload_applied", "SIGHUP") }).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"at": "1970-01-01T00:00:00.000Z", "kind": "reload_applied", "cause": "SIGHUP"})
        );
    }

    #[test]
    fn only_the_last_are_kept_and_ids_go_on() {
        let events = Events::new();
        for n in 0..KEPT + 10 {
            events.publish(Event::new("test", n.to_string()));
        }
        let (recent, _) = events.subscribe();
        assert_eq!(recent.len(), KEPT);
        assert_eq!((recent[0].id, recent[0].cause.as_str()), (11, "10"));
        assert_eq!(recent[KEPT - 1].id, 266);
    }

    #[tokio::test]
    async fn a_listener_gets_the_past_and_then_the_rest_once() {
        let events = Events::new();
        events.publish(Event::new("test", "a"));
        let (recent, mut rest) = events.subscribe();
        events.publish(Event::new("test", "b"));
        events.publish(Event::new("test", "c"));
        assert_eq!(causes(&recent), ["a"]);
        assert_eq!(causes(&[rest.recv().await.unwrap(), rest.recv().await.unwrap()]), ["b", "c"]);
        assert!(rest.try_recv().is_err());
    }

    #[test]
    fn a_slow_listener_is_told_that_it_missed_some() {
        let events = Events::new();
        let (_, mut rest) = events.subscribe();
        for _ in 0..=KEPT {
            events.publish(Event::new("test", ""));
        }
        assert!(matches!(rest.try_recv(), Err(broadcast::error::TryRecvError::Lagged(1))));
    }

    #[test]
    fn a_long_cause_is_cut_between_characters() {
        for lead in ["", "x", "xx"] {
            let mut cause = lead.to_owned() + &"é€".repeat(LONGEST_CAUSE);
            clip(&mut cause);
            assert!(cause.len() <= LONGEST_CAUSE && cause.len() > LONGEST_CAUSE - 4, "{}", cause.len());
            assert!(cause.ends_with('…'));
        }
    }

    #[test]
    fn what_went_wrong_is_loud() {
        for (kind, loud) in [("instance_rejected", true), ("consul_lost", true), ("instance_joined", false)] {
            assert_eq!(Event::new(kind, "").is_loud(), loud, "{kind}");
        }
    }
}
