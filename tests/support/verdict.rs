//! Tables of what a client of HTTP/2 sends, and of what may come of it.

use tokio::{net::TcpStream, time::timeout};

use super::{
    Gateway, Origin, PATIENCE,
    hpack::Blocks,
    http2::{
        ACK, DATA, END_HEADERS, END_STREAM, Frames, GET, GOAWAY, HEADERS, Http2, PING, PREFACE, RST_STREAM, SETTINGS,
        fields, frame, get,
    },
};

/// What may come of a case.
#[derive(Clone, Copy, Debug)]
pub enum Want {
    /// Stream 1 is answered with 200, and a PING behind all of it too; nothing is reset.
    Taken,
    /// The stream is reset with one of these codes, or the connection ends with one of them.
    Stream(&'static [u32]),
    /// The same, or an answer of 4xx.
    Refused(&'static [u32]),
    /// GOAWAY with one of these codes, then the end of the connection.
    Connection(&'static [u32]),
    /// The same, or what `Stream` has, or nothing wrong at all: by some version of the rules each is right.
    Any(&'static [u32]),
}

/// What is sent after the preface and settings, in words and bytes.
pub type Row = (&'static str, Vec<u8>, Want);

/// Source: RFC 9113 §7.
pub const PROTOCOL: u32 = 1;
pub const FLOW_CONTROL: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE: u32 = 6;
pub const REFUSED: u32 = 7;
pub const COMPRESSION: u32 = 9;

/// A whole request.
pub fn ask(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&GET))
}

/// A request whose body is to come.
pub fn begin(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &fields(&POST))
}

/// The pseudo-fields of `POST /`.
pub const POST: [(&str, &str); 4] = [(":method", "POST"), GET[1], GET[2], GET[3]];

/// A setting as SETTINGS has it.
pub fn setting(id: u8, value: u32) -> Vec<u8> {
    [&[0, id][..], &value.to_be_bytes()].concat()
}

/// A gateway in front of one service, which is in no hurry to end connections.
pub async fn before(origin: &Origin) -> Gateway {
    let address = origin.address;
    let route = "[[routes]]\nmatch = { path = \"/{*rest}\" }\nservice = \"web\"\n";
    let http = "[http]\nheader_timeout = \"10m\"\nkeep_alive = \"10m\"\n";
    Gateway::fixed(&format!("{http}[services.web]\ninstances = [\"{address}\"]\n{route}")).await
}

/// Sends each row on a connection of its own. Others are served all the while.
///
/// # Panics
/// With all the rows from which something else came.
pub async fn hold(gateway: &Gateway, rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for (what, bytes, want) in rows {
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        if let Err(came) = held(gateway, &hello, &bytes, want).await {
            wrong.push(format!("{what}: {came}, not {want:?}"));
        }
    }
    let client = Http2::connect(gateway.address).await;
    assert_eq!(client.ask(get("/other"), b"").await.unwrap().head.status, 200);
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// One row after this preface; an error says what came.
pub async fn held(gateway: &Gateway, hello: &[u8], bytes: &[u8], want: Want) -> Result<(), String> {
    let mut client = Frames::over(TcpStream::connect(gateway.address).await.unwrap());
    client.send(hello).await;
    judged(&mut client, bytes, false, want).await
}

/// The same, for a connection on which stream 1 may be answered already.
pub async fn judged(client: &mut Frames, bytes: &[u8], mut answered: bool, want: Want) -> Result<(), String> {
    let asks = matches!(want, Want::Taken | Want::Any(_));
    let ping = frame(PING, 0, 0, b"the end.");
    client.send(&[bytes, if asks { &ping } else { b"" }].concat()).await;
    let (mut blocks, mut ponged, mut said, mut came) = (Blocks::default(), false, None, Vec::new());
    while !(asks && answered && ponged) {
        let Ok(next) = timeout(PATIENCE / 2, client.next()).await else {
            return Err(format!("{came:?} and nothing more"));
        };
        let Some((kind, flags, id, payload)) = next else {
            return match (want, said) {
                (Want::Connection(codes), Some(code)) if codes.contains(&code) => Ok(()),
                _ => Err(format!("{came:?} and the end")),
            };
        };
        match kind {
            HEADERS => {
                let status = blocks.read(&payload).swap_remove(0).1;
                came.push(format!("{status} on {id}"));
                if status.starts_with('4') && matches!(want, Want::Refused(_)) {
                    return Ok(());
                }
            }
            PING if flags & ACK != 0 => ponged |= payload == "the end.",
            RST_STREAM | GOAWAY => {
                let (name, at) = if kind == GOAWAY { ("GOAWAY", 4) } else { ("RST_STREAM", 0) };
                let code = u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
                came.push(format!("{name} {code}"));
                match want {
                    Want::Stream(codes) | Want::Refused(codes) | Want::Any(codes) if codes.contains(&code) => {
                        return Ok(());
                    }
                    Want::Connection(_) if kind == GOAWAY => said = Some(code),
                    Want::Connection(_) => {}
                    _ => return Err(format!("{came:?}")),
                }
            }
            _ => {}
        }
        answered |= id == 1 && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0;
    }
    // Who answers with something else than 200 has not taken it.
    if came.iter().all(|came| came.starts_with("200")) { Ok(()) } else { Err(format!("{came:?}")) }
}
