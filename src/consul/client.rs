//! Asks Consul's agent one question and reads one answer: address, token, TLS, consistency, limits, errors.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder, Response, StatusCode, header::HeaderMap};
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, timeout},
};

use super::{
    Observe, cursor,
    error::{Error, Kind},
    gate::{Agent, Gate, Probe},
    room::Room,
    settings::{Consistency, Place, Settings},
    token::Token,
    transport::http,
    watch::Fresh,
    wire::Read,
};

/// The client. All watches of one client share its gate.
pub struct Client {
    /// For blocking queries.
    http: reqwest::Client,
    /// For all else, so that no blocking query takes its connections away: a new one might be refused.
    reads: reqwest::Client,
    base: String,
    datacenter: Option<String>,
    namespace: Option<String>,
    consistency: Consistency,
    max_stale: Duration,
    wait: Duration,
    token: Arc<Token>,
    observe: Arc<dyn Observe>,
    gate: Gate,
    room: Arc<Room>,
}

/// How a question that is asked once stands to those that are asked without having heard news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is reason enough to ask.
    Free,
    /// It is asked now, and the others wait longer for it.
    Charged,
    /// It waits as they do.
    Waits,
    /// It waits, but ahead of them.
    First,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What metrics call it.
    pub endpoint: &'static str,
    /// From `/v1` on, encoded.
    pub path: String,
    /// Parameters of its own.
    pub query: Vec<(&'static str, String)>,
}

impl Client {
    /// A client for these settings. Nothing is asked yet.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub fn new(settings: Settings, observe: Arc<dyn Observe>) -> Result<Self, Error> {
        let place = Place::parse(&settings.address)?;
        let (http, reads) = (http(&settings, &place)?, http(&settings, &place)?);
        Ok(Self {
            http,
            reads,
            base: place.base,
            datacenter: settings.datacenter,
            namespace: settings.namespace,
            consistency: settings.consistency,
            max_stale: settings.max_stale,
            wait: settings.wait,
            token: Token::new(settings.token.as_deref(), settings.token_file)?.into(),
            observe,
            gate: Gate::default(),
            room: Arc::default(),
        })
    }

    /// The same for another datacenter: with the agent's connections and a part of its budget, and with a gate of its own, since
    /// that one may be away while the agent is well.
    #[must_use]
    pub fn at(&self, datacenter: &str) -> Self {
        Self {
            http: self.http.clone(),
            reads: self.reads.clone(),
            base: self.base.clone(),
            datacenter: Some(datacenter.to_owned()),
            namespace: self.namespace.clone(),
            consistency: self.consistency,
            max_stale: self.max_stale,
            wait: self.wait,
            token: self.token.clone(),
            observe: self.observe.beside(),
            gate: self.gate.beside(),
            room: self.room.clone(),
        }
    }

    /// Says whether anything is asked about services from now on.
    pub fn follows(&self, something: bool) {
        self.observe.follows(something);
    }

    /// Takes a turn for what was asked without one.
    pub fn charge(&self) {
        self.gate.budget.charge();
    }

    /// Says that there was news at this index, so what another watch was woken by had a reason.
    pub fn hears(&self, index: u64) {
        self.gate.hears(index);
    }

    /// Waits until the agent's trouble is another than `known`.
    pub async fn agent_changes(&self, known: &Agent) -> Agent {
        self.gate.change(known.trouble()).await
    }

    /// Asks once for what is known now. While the agent is away, this waits for its return.
    ///
    /// # Errors
    /// No answer that could be understood, while the agent is well.
    pub async fn read<R: Read>(&self, question: &Question, reader: &R, turn: Turn) -> Result<Fresh<R::Answer>, Error> {
        loop {
            let returns = self.gate.well(None, self).await;
            match turn {
                Turn::Free => {}
                Turn::Charged => self.charge(),
                Turn::Waits => self.gate.budget.wait(1).await,
                Turn::First => self.gate.budget.wait_first().await,
            }
            let error = match self.ask(question, None, reader).await {
                Ok((answer, index)) => return Ok(Fresh { answer, index }),
                Err(error) => error,
            };
            if self.is_short(&error).await {
                continue;
            }
            if !error.casts_doubt() || self.gate.well(Some(Instant::now()), self).await == returns {
                return Err(error);
            }
        }
    }

    /// Whether this error came because the agent allows fewer connections than there were. Then fewer are made.
    pub(super) async fn is_short(&self, error: &Error) -> bool {
        matches!(error.kind(), Kind::Broken | Kind::Status(429)) && self.room.is_short(Instant::now()).await
    }

    /// How many blocking queries the agent has room for, and changes of it.
    pub fn room(&self) -> watch::Receiver<usize> {
        self.room.most()
    }

    /// Believes that there is as much room as is needed.
    pub fn forget_room(&self) {
        self.room.forget();
    }

    /// How often the agent has returned.
    pub fn returns(&self) -> u64 {
        self.gate.returns()
    }

    /// Waits until the agent has returned more often than this.
    pub async fn returned(&self, before: u64) {
        self.gate.returned(before).await;
    }

    /// Asks once. With `index`, the agent answers when there is something newer, or the wait is over.
    ///
    /// # Errors
    /// No answer that could be understood.
    pub(super) async fn ask<R: Read>(
        &self,
        question: &Question,
        index: Option<u64>,
        reader: &R,
    ) -> Result<(R::Answer, u64), Error> {
        let _held = index.map(|_| (Held::new(&self.observe), self.room.hold()));
        let understand = |Reply { status, head, body }: Reply| {
            let index = head.get("x-consul-index").map(reqwest::header::HeaderValue::as_bytes);
            let answer = match reader.absent().filter(|_| status == StatusCode::NOT_FOUND && index.is_some()) {
                Some(absent) => absent,
                None => reader.read(&good(status, body)?).map_err(|error| Error::Body(error.into()))?,
            };
            let index = cursor::index(index)?;
            let stale = self.consistency == Consistency::Stale && last_contact(&head) > self.max_stale;
            Ok((answer, index, stale))
        };
        let _permit = if index.is_none() { self.permit().await } else { None };
        let mut told = self.get(question, index, self.consistency).await.and_then(understand);
        self.observe.request(question.endpoint, told.is_ok());
        if matches!(told, Ok((_, _, true))) {
            self.gate.budget.charge();
            told = self.get(question, None, Consistency::Default).await.and_then(understand);
            self.observe.request(question.endpoint, told.is_ok());
        }
        let (answer, index, _) = told?;
        if reader.tells_services() {
            self.observe.answered();
        }
        Ok((answer, index))
    }

    /// What is asked with every question about services.
    fn place(&self) -> Vec<(&'static str, &str)> {
        let all = [("dc", &self.datacenter), ("ns", &self.namespace)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }

    /// Asks once, whatever is known of the agent. For who wants to know how things are, and waits for the answer.
    ///
    /// # Errors
    /// No answer that could be understood.
    pub async fn once<R: Read>(&self, question: &Question, reader: &R) -> Result<R::Answer, Error> {
        Ok(self.ask(question, None, reader).await?.0)
    }

    /// Whether the agent answers and the cluster has a leader. It takes no right to ask.
    ///
    /// # Errors
    /// The agent does not, or the cluster has none.
    pub async fn is_led(&self) -> Result<(), Error> {
        self.led(&[]).await
    }

    /// The datacenters that the agent knows, nearest first. It takes no right to ask.
    ///
    /// # Errors
    /// No answer that could be understood.
    pub async fn datacenters(&self) -> Result<Vec<String>, Error> {
        let request = self.reads.get(format!("{}/v1/catalog/datacenters", self.base));
        let Reply { status, body, .. } = self.exchange(request, MARGIN).await?;
        serde_json::from_slice(&good(status, body)?).map_err(|error| Error::Body(error.into()))
    }

    /// How long the agent may hold a query.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// The gate of all watches.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    async fn get(&self, question: &Question, index: Option<u64>, consistency: Consistency) -> Result<Reply, Error> {
        let http = if index.is_some() { &self.http } else { &self.reads };
        let mut request = http.get(format!("{}{}", self.base, question.path));
        request = request.query(&self.place()).query(&question.query);
        if let Some(parameter) = consistency.parameter() {
            request = request.query(&[(parameter, "")]);
        }
        let mut deadline = MARGIN + self.wait / 16;
        if let Some(index) = index {
            request = request.query(&[("index", index.to_string()), ("wait", format!("{}ms", self.wait.as_millis()))]);
            // The agent itself waits up to a sixteenth longer.
            deadline += self.wait;
        }
        self.exchange(request, deadline).await
    }

    /// Sends a document once, or none.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        document: Option<&impl Serialize>,
    ) -> Result<Vec<u8>, Error> {
        let request = self.reads.request(method, format!("{}{path}", self.base)).query(&self.place());
        let request = if let Some(document) = document { request.json(document) } else { request };
        let Reply { status, body, .. } = self.exchange(request, MARGIN).await?;
        good(status, body)
    }

    /// Waits for a connection for something that is asked once.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.room.read().await
    }

    /// Says that a request has ended.
    pub(super) fn observed(&self, endpoint: &'static str, ok: bool) {
        self.observe.request(endpoint, ok);
    }

    /// Sends a request and reads its answer, both within the deadline.
    async fn exchange(&self, mut request: RequestBuilder, deadline: Duration) -> Result<Reply, Error> {
        if let Some(token) = self.token.current().await {
            request = request.header("x-consul-token", token);
        }
        let answer = timeout(deadline, async {
            let response = request.send().await.map_err(Error::transport)?;
            let (status, head) = (response.status(), response.headers().clone());
            Ok(Reply { status, head, body: body(response).await? })
        });
        answer.await.unwrap_or(Err(Error::Timeout(deadline)))
    }
}

impl Probe for Client {
    async fn leader(&self) -> Result<(), Error> {
        // One that is away has no leader that the agent could ask.
        self.led(&self.place()).await
    }
}

impl Client {
    /// Whether the agent answers, and there is a leader.
    async fn led(&self, place: &[(&str, &str)]) -> Result<(), Error> {
        let request = self.reads.get(format!("{}/v1/status/leader", self.base)).query(place);
        let answer = self.exchange(request, PROBE_DEADLINE).await.and_then(|reply| good(reply.status, reply.body));
        let told = match answer {
            Ok(body) => match serde_json::from_slice::<String>(&body) {
                Ok(leader) if leader.is_empty() => Err(Error::NoLeader),
                Ok(_) => Ok(()),
                Err(error) => Err(Error::Body(error.into())),
            },
            // The agent is there; that it keeps this to itself is no reason not to ask it for services.
            Err(error) if !error.casts_doubt() => {
                self.observe.request("status_leader", false);
                return Ok(());
            }
            // It goes on with the queries that it holds, only this one was too many.
            Err(error) if self.is_short(&error).await => Ok(()),
            Err(error) => Err(error),
        };
        self.observe.request("status_leader", told.is_ok());
        told
    }
}

/// An answer, whatever it says.
struct Reply {
    status: StatusCode,
    head: HeaderMap,
    body: Vec<u8>,
}

/// The body of an answer that is no error.
fn good(status: StatusCode, body: Vec<u8>) -> Result<Vec<u8>, Error> {
    if status == StatusCode::OK { Ok(body) } else { Err(Error::status(status.as_u16(), &body)) }
}

/// A blocking query that is held.
struct Held<'o>(&'o Arc<dyn Observe>);

impl<'o> Held<'o> {
    fn new(observe: &'o Arc<dyn Observe>) -> Self {
        observe.watches(1);
        Self(observe)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.watches(-1);
    }
}

/// Reads a body as far as it may go.
async fn body(mut response: Response) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(Error::transport)? {
        if body.len() + piece.len() > MAX_BODY {
            return Err(Error::TooLarge(MAX_BODY));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// How long ago the server that answered heard of the leader.
fn last_contact(head: &HeaderMap) -> Duration {
    let text = head.get("x-consul-lastcontact").and_then(|value| value.to_str().ok());
    Duration::from_millis(text.and_then(|text| text.parse().ok()).unwrap_or_default())
}

/// What an answer may take beyond the agent's own wait.
const MARGIN: Duration = Duration::from_secs(5);
/// Short: a probe that is lost with the network must not delay the one that would find it back.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);
const MAX_BODY: usize = 64 << 20;
