//! Traces on their way to a collector by OTLP. Workers hand over plain data of requests that have ended, by a queue of
//! bounded length; one task of the control plane makes spans of it and sends them. A collector that is away costs the
//! spans, which are counted, and a line in the log.

mod exporter;
mod query;
mod span;

use std::{path::PathBuf, sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    resource::TelemetryResourceDetector,
    trace::{SpanData, SpanExporter as _},
};
use prometheus::IntCounter;
use tokio::{sync::mpsc, time::sleep};

pub use self::{exporter::OtlpError, span::Told};
use super::{metrics::Metrics, sampling::Sampler};
use crate::model::units::Secret;

/// Where traces go, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Scheme, host, port and path of the collector; for HTTP, of its traces.
    pub endpoint: String,
    /// `USER:PASSWORD` that stood in it.
    pub login: Option<Secret>,
    /// By gRPC rather than HTTP.
    pub is_grpc: bool,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// What is known of the program: `service.name` and others.
    pub resource: Vec<(String, String)>,
    /// Authorities of the collector's certificate, PEM, in place of the system's.
    pub ca: Option<PathBuf>,
    /// The certificate that the collector is shown and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long the collector has for one message.
    pub timeout: Duration,
}

/// Takes what workers tell of the requests whose traces are recorded.
#[derive(Clone, Debug)]
pub struct Tracer {
    /// Which those are.
    pub sampler: Sampler,
    queue: mpsc::Sender<Box<Told>>,
    dropped: IntCounter,
}

/// Sends spans.
pub struct Export {
    exporter: SpanExporter,
    queue: mpsc::Receiver<Box<Told>>,
    dropped: IntCounter,
    failing: bool,
}

/// Requests that may wait.
const QUEUE: usize = 8192;
/// How long requests gather before they are sent together, so that workers wake nobody for each.
const GATHER: Duration = Duration::from_millis(200);
/// Requests of one message.
const BATCH: usize = 512;

/// The two ends. To be called within the runtime that the second will run on.
///
/// # Errors
/// [`OtlpError`]; that the collector is away is none.
pub fn open(settings: &Settings, metrics: &Metrics) -> Result<(Arc<Tracer>, Export), OtlpError> {
    let mut exporter = exporter::exporter(settings)?;
    let pairs = settings.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let resource = Resource::builder_empty().with_detector(Box::new(TelemetryResourceDetector)).with_attributes(pairs);
    exporter.set_resource(&resource.build());
    let (sender, receiver) = mpsc::channel(QUEUE);
    let dropped = metrics.trace_dropped().clone();
    let tracer = Tracer { sampler: settings.sampler, queue: sender, dropped: dropped.clone() };
    Ok((Arc::new(tracer), Export { exporter, queue: receiver, dropped, failing: false }))
}

impl Tracer {
    /// Takes one in. Never waits.
    pub fn take(&self, told: Box<Told>) {
        let spans = told.spans();
        if self.queue.try_send(told).is_err() {
            self.dropped.inc_by(spans);
        }
    }
}

impl Export {
    /// Works until all tracers are gone, and what they told is sent.
    pub async fn run(mut self) {
        let mut told = Vec::with_capacity(BATCH);
        while self.queue.recv_many(&mut told, BATCH).await > 0 {
            if told.len() < BATCH && !self.queue.is_closed() {
                sleep(GATHER).await;
                while told.len() < BATCH
                    && let Ok(more) = self.queue.try_recv()
                {
                    told.push(more);
                }
            }
            let spans: Vec<SpanData> = told.drain(..).flat_map(|told| told.into_spans()).collect();
            self.send(spans).await;
        }
    }

    async fn send(&mut self, spans: Vec<SpanData>) {
        let count = spans.len();
        match self.exporter.export(spans).await {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the collector takes traces again");
                }
            }
            Err(error) => {
                self.dropped.inc_by(count as u64);
                if !std::mem::replace(&mut self.failing, true) {
                    let error = error.to_string();
                    tracing::warn!(
                        error,
                        "the collector takes no traces; they are dropped, see lictor_trace_dropped_total"
                    );
                }
            }
        }
    }
}
