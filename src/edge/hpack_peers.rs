//! Whether another library and ours read each other's field sections.

use std::collections::HashSet;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use proptest::{collection::vec, prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::http2::hpack::{Decoder, Encoder, Limits, Pseudo, Section, Token, write_field, write_named, write_pseudo};

/// As many as the library sends before it hears how many it may.
const COUNT: u32 = 90;
const LIMITS: Limits = Limits { max_list: 1 << 20, max_lines: 200 };
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_OF_BOTH: u8 = 5;

/// Requests whose fields come again and again, and some that come once.
fn requests() -> Vec<Request<()>> {
    let name = prop_oneof![
        5 => select(&["accept", "cookie", "user-agent", "x-own", "x-other", "grpc-timeout", "etag"][..]).prop_map(String::from),
        1 => "x-[a-z0-9_.]{1,40}",
    ];
    let value = prop_oneof![
        4 => select(&["", "1", "gzip, deflate", "some", "\u{fc}\u{20ac}"][..]).prop_map(String::from),
        2 => "[!-~]([ -~\t]{0,60}[!-~])?",
        1 => (1..800_usize).prop_map(|length| "v".repeat(length)),
    ];
    let path = "/[a-z0-9/]{0,30}";
    let one = (select(&[Method::GET, Method::POST, Method::PUT][..]), path, vec((name, value, any::<bool>()), 0..12));
    let mut runner = TestRunner::deterministic();
    let one = one.prop_map(|(method, path, fields)| {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = format!("https://a.example{path}").parse().unwrap();
        for (name, value, is_secret) in fields {
            let mut value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            value.set_sensitive(is_secret);
            request.headers_mut().append(name.parse::<HeaderName>().unwrap(), value);
        }
        request
    });
    (0..COUNT).map(|_| one.new_tree(&mut runner).unwrap().current()).collect()
}

/// The next block of lines that comes, of as many frames as it may.
async fn block(stream: &mut DuplexStream) -> Vec<u8> {
    let mut block = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        let (kind, flags) = (head[3], head[4]);
        if kind == HEADERS || kind == 9 {
            assert_eq!(flags & 0x28, 0, "padded, or with a priority");
            block.extend_from_slice(&payload);
            if flags & 4 > 0 {
                return block;
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The pseudo-fields in the order of their names, and the fields.
fn read(section: &Section) -> (Vec<String>, HeaderMap) {
    assert_eq!(section.fault, None);
    let (mut line, mut fields) = (Vec::new(), HeaderMap::new());
    for one in &section.lines {
        let value = &section.text[one.value.start as usize..one.value.end as usize];
        match &one.name {
            Token::Pseudo(pseudo) => line.push(format!("{} {}", pseudo.as_str(), value.escape_ascii())),
            Token::Field(name) => {
                let mut value = HeaderValue::from_bytes(value).unwrap();
                value.set_sensitive(one.never_indexed);
                fields.append(HeaderName::clone(name), value);
            }
        }
    }
    line.sort();
    (line, fields)
}

fn line(request: &Request<()>) -> Vec<String> {
    let path = request.uri().path();
    vec![
        ":authority a.example".into(),
        format!(":method {}", request.method()),
        format!(":path {path}"),
        ":scheme https".into(),
    ]
}

/// All values in the order of their names.
fn values(fields: &HeaderMap) -> Vec<(&HeaderName, &HeaderValue)> {
    let mut all: Vec<_> = fields.iter().collect();
    all.sort_by_key(|(name, _)| name.as_str());
    all
}

fn plain(fields: &HeaderMap) -> Vec<String> {
    let bytes = |(name, value): (&HeaderName, &HeaderValue)| format!("{name} {}", value.as_bytes().escape_ascii());
    values(fields).into_iter().map(bytes).collect()
}

#[tokio::test]
async fn what_another_library_writes_is_read() {
    let (far, mut near) = duplex(1 << 20);
    let (mut send, connection) = h2::client::handshake(far).await.unwrap();
    let talk = async {
        near.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
        near.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        let (mut decoder, mut section, mut open) = (Decoder::new(), Section::default(), Vec::new());
        let (mut before, mut secrets) = (HashSet::new(), 0);
        for request in requests() {
            send = send.ready().await.unwrap();
            open.push(send.send_request(request.clone(), true).unwrap());
            section.clear();
            decoder.decode(&block(&mut near).await, &mut section, &LIMITS).unwrap();
            let (start, fields) = read(&section);
            assert_eq!(start, line(&request));
            assert_eq!(plain(&fields), plain(request.headers()));
            for ((name, ours), (_, theirs)) in values(&fields).into_iter().zip(values(request.headers())) {
                // What its table has, it names there, whatever else it was told.
                let is_known = !before.insert((name.clone(), theirs.clone()));
                assert!(ours.is_sensitive() == theirs.is_sensitive() || (is_known && !ours.is_sensitive()), "{name}");
                secrets += u32::from(ours.is_sensitive());
            }
        }
        assert!(secrets > COUNT, "only {secrets} were secret");
    };
    tokio::select! {
        end = connection => panic!("the connection ended: {end:?}"),
        () = talk => {}
    }
}

#[tokio::test]
async fn another_library_reads_what_we_write() {
    let (mut far, near) = duplex(1 << 20);
    let mut encoder = Encoder::new();
    let mut out = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    for (number, request) in requests().iter().enumerate() {
        let mut block = Vec::new();
        if number == 3 {
            encoder.allow(0);
        }
        encoder.begin(&mut block);
        write_pseudo(&mut block, Pseudo::Method, request.method().as_str().as_bytes());
        write_pseudo(&mut block, Pseudo::Scheme, b"https");
        write_pseudo(&mut block, Pseudo::Authority, b"a.example");
        write_pseudo(&mut block, Pseudo::Path, request.uri().path().as_bytes());
        for (name, value) in request.headers() {
            if number % 2 == 0 {
                write_named(&mut block, name, value.as_bytes(), value.is_sensitive());
            } else {
                write_field(&mut block, &name.clone().into(), value.as_bytes(), value.is_sensitive());
            }
        }
        let stream = u32::try_from(2 * number + 1).unwrap();
        out.extend(frame(HEADERS, END_OF_BOTH, stream, &block));
    }
    let talk = async {
        far.write_all(&out).await.unwrap();
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
    };
    let serve = async {
        let mut server = h2::server::handshake(near).await.unwrap();
        let mut open = Vec::new();
        for request in requests() {
            let (theirs, answer) = server.accept().await.unwrap().unwrap();
            open.push(answer);
            assert_eq!((theirs.method(), theirs.uri()), (request.method(), request.uri()));
            // It forgets which no table may hold.
            assert_eq!(plain(theirs.headers()), plain(request.headers()));
        }
    };
    tokio::select! {
        () = talk => panic!("the connection ended"),
        () = serve => {}
    }
}
