//! Traces on their way to a collector by OTLP. Workers hand over plain data of requests that have ended, by a queue of
//! bounded length; one task of the control plane makes spans of it and sends them. A collector that is away costs the
//! spans, which are counted, and a line in the log.

mod span;

use std::{path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
    tonic_types::{
        metadata::MetadataMap,
        transport::{Certificate, ClientTlsConfig},
    },
};
use opentelemetry_sdk::{
    Resource,
    resource::TelemetryResourceDetector,
    trace::{SpanData, SpanExporter as _},
};
use prometheus::IntCounter;
use tokio::{sync::mpsc, time::sleep};

pub use self::span::Told;
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
    /// Authorities of the collector's certificate, PEM, in place of the system's. For gRPC alone.
    pub ca: Option<PathBuf>,
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

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The authorities cannot be read.
    #[error("cannot read `{0}`")]
    Authorities(PathBuf, #[source] std::io::Error),
    /// The exporter does not take the settings.
    #[error("no exporter can be made")]
    Exporter(#[source] ExporterBuildError),
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
    let mut exporter = exporter(settings)?;
    let pairs = settings.resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let resource = Resource::builder_empty().with_detector(Box::new(TelemetryResourceDetector)).with_attributes(pairs);
    exporter.set_resource(&resource.build());
    let (sender, receiver) = mpsc::channel(QUEUE);
    let dropped = metrics.trace_dropped().clone();
    let tracer = Tracer { sampler: settings.sampler, queue: sender, dropped: dropped.clone() };
    Ok((Arc::new(tracer), Export { exporter, queue: receiver, dropped, failing: false }))
}

fn exporter(settings: &Settings) -> Result<SpanExporter, OtlpError> {
    let login = settings.login.as_ref().map(|login| format!("Basic {}", BASE64_STANDARD.encode(login.reveal())));
    if settings.is_grpc {
        let mut builder = SpanExporter::builder().with_tonic().with_endpoint(&settings.endpoint);
        if settings.endpoint.starts_with("https:") {
            let tls = match &settings.ca {
                Some(file) => {
                    let pem = std::fs::read(file).map_err(|e| OtlpError::Authorities(file.clone(), e))?;
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
                }
                None => ClientTlsConfig::new().with_enabled_roots(),
            };
            builder = builder.with_tls_config(tls);
        }
        if let Some(value) = login.and_then(|login| http::HeaderValue::try_from(login).ok()) {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::AUTHORIZATION, sensitive(value));
            builder = builder.with_metadata(MetadataMap::from_headers(headers));
        }
        builder.build().map_err(OtlpError::Exporter)
    } else {
        let mut builder = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        builder = builder.with_endpoint(&settings.endpoint);
        if let Some(login) = login {
            builder = builder.with_headers([("authorization".to_owned(), login)].into());
        }
        builder.build().map_err(OtlpError::Exporter)
    }
}

/// Not to be shown by whoever logs fields.
fn sensitive(mut value: http::HeaderValue) -> http::HeaderValue {
    value.set_sensitive(true);
    value
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
