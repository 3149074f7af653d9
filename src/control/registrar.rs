//! The gateway's own registration in Consul: there while it runs, passing while it is ready, gone when it drains.

use std::{sync::Arc, time::Duration};

use tokio::{
    select,
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::{
    config::Register,
    consul::{Client, Error, ErrorKind, Registration, Standing, jitter},
    state::Reader,
    telemetry::events::{Event, Events},
};

/// Who registers the gateway.
pub struct Registrar {
    client: Arc<Client>,
    reader: Reader,
    events: Arc<Events>,
    /// This machine's name.
    host: String,
    /// Of the first listener for clients; `None`: there is none.
    port: Option<u16>,
    /// What the agent has taken.
    taken: Option<Registration>,
    /// The id that the agent was asked to take last: an answer that got lost may have been a yes.
    asked: Option<String>,
    /// Ids that it was asked to take before, and has not given up yet.
    former: Vec<String>,
    /// What went wrong last, and how often since it last went well.
    failure: Option<ErrorKind>,
    failures: u32,
}

impl Registrar {
    /// Nothing is registered yet.
    #[must_use]
    pub fn new(client: Arc<Client>, reader: Reader, events: Arc<Events>, host: String, port: Option<u16>) -> Self {
        Self {
            client,
            reader,
            events,
            host,
            port,
            taken: None,
            asked: None,
            former: Vec::new(),
            failure: None,
            failures: 0,
        }
    }

    /// Registers and passes the check until told to end, and then deregisters.
    pub async fn run(mut self, mut end: oneshot::Receiver<()>) {
        loop {
            let (wanted, standing) = self.wanted();
            let returns = self.client.returns();
            let due = Instant::now() + self.turn(wanted.as_ref(), standing).await;
            loop {
                select! {
                    biased;
                    _ = &mut end => return self.leave().await,
                    more = self.reader.changed() => {
                        if !more {
                            return self.leave().await;
                        }
                        // Most of what changes is not about us.
                        if self.wanted() == (wanted.clone(), standing) {
                            continue;
                        }
                    }
                    () = self.client.returned(returns) => {}
                    () = sleep_until(due) => {}
                }
                break;
            }
        }
    }

    /// What the agent should know now.
    fn wanted(&self) -> (Option<Registration>, Standing) {
        let world = self.reader.load();
        let register = world.config.consul.as_ref().and_then(|consul| consul.register.as_ref());
        let standing = if self.reader.is_ready() {
            Standing::Passing
        } else {
            Standing::Critical("the first topology is not known yet")
        };
        (register.and_then(|register| self.registration(register)), standing)
    }

    fn registration(&self, register: &Register) -> Option<Registration> {
        let port = register.port.or(self.port)?;
        Some(Registration {
            id: format!("{}-{}-{port}", register.name, self.host),
            name: register.name.clone(),
            address: register.address.clone(),
            port,
            tags: register.tags.clone(),
            ttl: register.check,
            forget_after: FORGET_AFTER,
        })
    }

    /// Tells the agent what it should know, and how long that holds.
    async fn turn(&mut self, wanted: Option<&Registration>, standing: Standing) -> Duration {
        let told = self.tell(wanted, standing).await;
        let again = wanted.map_or(IDLE, |wanted| wanted.ttl / 3);
        match told {
            Ok(()) => {
                (self.failure, self.failures) = (None, 0);
                again
            }
            Err(error) => {
                // One condition is told once.
                if self.failure != Some(error.kind()) {
                    let forbidden = error.kind() == ErrorKind::Status(403);
                    let what = match (wanted.filter(|wanted| self.taken.as_ref() != Some(*wanted)), self.former.last())
                    {
                        (Some(wanted), _) if forbidden => {
                            format!("the token lacks `service:write` on `{}`: ", wanted.name)
                        }
                        (None, Some(former)) => format!("`{former}` cannot be taken out: "),
                        _ => String::new(),
                    };
                    let cause = what + &error.causes();
                    self.events.publish(Event::new("registration_failed", cause));
                }
                self.failure = Some(error.kind());
                let later = FIRST_RETRY.saturating_mul(1 << self.failures.min(10)).min(LAST_RETRY);
                self.failures += 1;
                jitter::about(later)
            }
        }
    }

    async fn tell(&mut self, wanted: Option<&Registration>, standing: Standing) -> Result<(), Error> {
        let is_wanted = |id: &String| wanted.is_some_and(|wanted| wanted.id == *id);
        if let Some(former) = self.asked.take_if(|asked| !is_wanted(asked)) {
            self.former.push(former);
            self.taken = None;
        }
        self.former.retain(|former| !is_wanted(former));
        // Who is to come does not wait for who is to go, which the token may have no right to.
        let told = match wanted {
            Some(wanted) => self.stand(wanted, standing).await,
            None => Ok(()),
        };
        told.and(self.take_out().await)
    }

    async fn take_out(&mut self) -> Result<(), Error> {
        while let Some(former) = self.former.last() {
            self.client.deregister(former).await.or_else(gone)?;
            self.events.publish(Event::new("deregistered", format!("`{former}`: the configuration has it no more")));
            self.former.pop();
        }
        Ok(())
    }

    async fn stand(&mut self, wanted: &Registration, standing: Standing) -> Result<(), Error> {
        if self.taken.as_ref() == Some(wanted) {
            match self.client.stand(&wanted.id, standing).await {
                Err(error) if is_unknown(&error) => {
                    let cause = format!("the agent does not know `{}` any more: {}", wanted.id, error.causes());
                    self.events.publish(Event::new("registration_lost", cause));
                    self.taken = None;
                }
                told => return told,
            }
        }
        self.asked = Some(wanted.id.clone());
        self.client.register(wanted, standing).await?;
        let place = wanted.address.as_deref().unwrap_or("the agent's address");
        let cause = format!("`{}` at {place}, port {}", wanted.id, wanted.port);
        self.events.publish(Event::new("registered", cause));
        self.taken = Some(wanted.clone());
        Ok(())
    }

    async fn leave(&self) {
        for id in self.asked.iter().chain(&self.former) {
            match self.client.deregister(id).await.or_else(gone) {
                Ok(()) => self.events.publish(Event::new("deregistered", format!("`{id}`: the gateway ends"))),
                Err(error) => {
                    let cause = format!("`{id}` stays until its check fails: {}", error.causes());
                    self.events.publish(Event::new("registration_failed", cause));
                }
            }
        }
    }
}

/// An answer other than that we may not, or not now, is that there is no such check. Consul has 500 for it before version
/// 1.11, and 404 since.
fn is_unknown(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Status(404 | 500))
}

/// What is not there need not be taken out. Where rights are asked for, Consul says so by 500 before version 1.11.
fn gone(error: Error) -> Result<(), Error> {
    match &error {
        Error::Status { code: 404, .. } => Ok(()),
        Error::Status { code: 500, text } if text.contains("Unknown service") => Ok(()),
        _ => Err(error),
    }
}

/// As long as a replacement may take to come up.
const FORGET_AFTER: Duration = Duration::from_mins(10);
/// How often is looked after what is not there.
const IDLE: Duration = Duration::from_mins(1);
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// A token is made to allow it sooner or later; until then nobody is to be bothered.
const LAST_RETRY: Duration = Duration::from_secs(30);
