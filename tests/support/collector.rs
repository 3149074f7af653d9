//! A collector of traces: takes OTLP by gRPC and by HTTP, as the other side sends it, and keeps the spans.

use std::{
    collections::BTreeMap,
    fmt::Write,
    io::Read,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use flate2::read::GzDecoder;
use http::{HeaderMap, Response};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::until;

/// A running collector. Ends with the test.
pub struct Collector {
    pub address: SocketAddr,
    told: Arc<Mutex<Told>>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Told {
    spans: Vec<Came>,
    fields: Vec<HeaderMap>,
}

/// A span as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Came {
    pub name: String,
    pub kind: SpanKind,
    /// The numbers of its trace, itself and its parent, in hexadecimal.
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub state: String,
    pub failed: bool,
    /// From when to when, in nanoseconds.
    pub times: (u64, u64),
    pub attributes: BTreeMap<String, String>,
    pub resource: BTreeMap<String, String>,
}

impl Came {
    /// The value of an attribute, or nothing.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

impl Collector {
    /// By gRPC.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::<Mutex<Told>>::default();
        let mut serving = JoinSet::new();
        serving.spawn({
            let told = told.clone();
            async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(serve(stream, told.clone()));
                }
            }
        });
        Self { address, told, _serving: serving }
    }

    /// What came so far.
    pub fn spans(&self) -> Vec<Came> {
        self.told.lock().unwrap().spans.clone()
    }

    /// The fields of the messages that came.
    pub fn fields(&self) -> Vec<HeaderMap> {
        self.told.lock().unwrap().fields.clone()
    }

    /// Waits for so many spans: the server's first, then the tries in their order.
    pub async fn until(&self, count: usize) -> Vec<Came> {
        let mut spans = until(&format!("{count} spans"), || async {
            let spans = self.spans();
            (spans.len() >= count).then_some(spans)
        })
        .await;
        spans.sort_by_key(|span| (span.kind != SpanKind::Server, span.times.0));
        spans
    }
}

async fn serve(stream: TcpStream, told: Arc<Mutex<Told>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        assert_eq!(head.uri.path(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
        let mut message = BytesMut::new();
        // The connection moves while its one stream is read.
        loop {
            tokio::select! {
                piece = body.data() => match piece {
                    Some(Ok(piece)) => {
                        let _ = body.flow_control().release_capacity(piece.len());
                        message.extend_from_slice(&piece);
                    }
                    _ => break,
                },
                _ = connection.accept() => return,
            }
        }
        // Before the message come a byte, 1 where it is compressed, and its length.
        told.lock().unwrap().fields.push(head.headers);
        let plain = if message[0] == 1 { gunzipped(&message[5..]) } else { message[5..].to_vec() };
        take(&plain, &told);
        let answer = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut stream = respond.send_response(answer, false).unwrap();
        stream.send_data(Bytes::from_static(&[0; 5]), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        stream.send_trailers(trailers).unwrap();
    }
}

fn take(message: &[u8], told: &Mutex<Told>) {
    let spans = read(message);
    told.lock().unwrap().spans.extend(spans);
}

/// What was compressed, as it was before.
pub fn gunzipped(bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut whole).unwrap();
    whole
}

/// The spans of a message of OTLP.
pub fn read(message: &[u8]) -> Vec<Came> {
    let request = ExportTraceServiceRequest::decode(message).unwrap();
    let mut spans = Vec::new();
    for of_resource in request.resource_spans {
        let resource = pairs(of_resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        for of_scope in of_resource.scope_spans {
            assert_eq!(of_scope.scope.unwrap().name, "lictor");
            spans.extend(of_scope.spans.into_iter().map(|span| came(span, &resource)));
        }
    }
    spans
}

fn came(span: Span, resource: &BTreeMap<String, String>) -> Came {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    };
    Came {
        kind: span.kind(),
        name: span.name,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        state: span.trace_state,
        failed: span.status.is_some_and(|status| status.code() == StatusCode::Error),
        times: (span.start_time_unix_nano, span.end_time_unix_nano),
        attributes: pairs(span.attributes),
        resource: resource.clone(),
    }
}

fn pairs(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let pair = |pair: KeyValue| (pair.key, text(pair.value.unwrap().value.unwrap()));
    attributes.into_iter().map(pair).collect()
}
