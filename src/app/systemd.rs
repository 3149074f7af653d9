//! Tells systemd how the gateway is, where that has started it with `Type=notify`. Source: `sd_notify(3)`.

use std::{future::pending, sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    select,
    sync::broadcast::error::RecvError,
    time::{Interval, MissedTickBehavior, interval},
};

use crate::{
    state::Reader,
    telemetry::events::{Event, Events},
};

/// Whether anybody wants to know.
#[must_use]
pub fn is_asked() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Says when the gateway is ready, what becomes of reloads, and that it is alive, where a watchdog wants to know.
pub async fn run(mut reader: Reader, events: Arc<Events>) {
    let (_, mut news) = events.subscribe();
    let mut alive = sd_notify::watchdog_enabled().map(|limit| {
        let mut alive = interval((limit / 2).max(Duration::from_millis(1)));
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        alive
    });
    let mut told = false;
    loop {
        if !told && reader.is_ready() {
            say(&[NotifyState::Ready, NotifyState::Status("ready")]);
            told = true;
        }
        select! {
            more = reader.changed(), if !told => if !more { return },
            event = news.recv() => match event {
                Ok(event) if told && reader.is_ready() => judged(&event),
                // What was missed may have been the end of a reload.
                Err(RecvError::Lagged(_)) if told && reader.is_ready() => say(&[NotifyState::Ready]),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            () = tick(alive.as_mut()) => say(&[NotifyState::Watchdog]),
        }
    }
}

/// A reload is over.
fn judged(event: &Event) {
    match event.kind {
        "reloaded" => say(&[NotifyState::Ready, NotifyState::Status("ready")]),
        "reload_refused" => {
            let status = "ready; the configuration that was read last does not hold and is not in force";
            say(&[NotifyState::Ready, NotifyState::Status(status)]);
        }
        _ => {}
    }
}

/// A reload was asked for. Before the start is over, it is a part of that.
pub fn reloading(reader: &Reader) {
    if is_asked()
        && reader.is_ready()
        && let Ok(now) = NotifyState::monotonic_usec_now()
    {
        say(&[NotifyState::Reloading, now]);
    }
}

/// The end has begun, and may take so long.
pub fn stopping(limit: Duration) {
    if is_asked() {
        let limit = u32::try_from((limit + ROOM).as_micros()).unwrap_or(u32::MAX);
        let status = NotifyState::Status("draining");
        say(&[NotifyState::Stopping, status, NotifyState::ExtendTimeoutUsec(limit)]);
    }
}

async fn tick(alive: Option<&mut Interval>) {
    match alive {
        Some(alive) => drop(alive.tick().await),
        None => pending().await,
    }
}

fn say(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "systemd cannot be told");
    }
}

/// For all that an end does beside waiting for requests.
const ROOM: Duration = Duration::from_secs(15);
