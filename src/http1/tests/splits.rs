//! Reads cut bytes where they like: no cut changes what they mean. And no bytes whatever make a panic.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// All that a connection's bytes come to, in order: heads and bodies, up to the first error or the last byte.
fn requests<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut reader = RequestReader::new(Limits { max_head: 200, max_fields: 6 });
    converse(parts, |buf| {
        Ok(reader.read(buf).map_err(|e| format!("{e:?}"))?.map(|head| (format!("{head:?}"), head.length)))
    })
}

fn answers<'a>(parts: impl IntoIterator<Item = &'a [u8]>, method: &Method) -> Vec<String> {
    let mut reader = ResponseReader::new(Limits { max_head: 200, max_fields: 6 });
    converse(parts, |buf| {
        let head = reader.read(buf, method).map_err(|e| format!("{e:?}"))?;
        Ok(head.map(|head| (format!("{head:?}"), head.length)))
    })
}

fn converse<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    mut read: impl FnMut(&mut BytesMut) -> Result<Option<(String, Length)>, String>,
) -> Vec<String> {
    let mut said = Vec::new();
    let mut buf = BytesMut::new();
    let mut body: Option<(Decoder, Vec<u8>)> = None;
    for part in parts {
        buf.extend_from_slice(part);
        loop {
            if let Some((decoder, data)) = &mut body {
                match decoder.decode(&mut buf) {
                    Ok(Piece::More) => break,
                    Ok(Piece::Data(more)) => data.extend_from_slice(&more),
                    Ok(Piece::Trailers(trailers)) => said.push(format!("{trailers:?}")),
                    Ok(Piece::End) => {
                        said.push(format!("body {data:?}"));
                        body = None;
                    }
                    Err(error) => {
                        said.push(format!("body {data:?} {error:?}"));
                        return said;
                    }
                }
                continue;
            }
            match read(&mut buf) {
                Ok(None) => break,
                Ok(Some((head, length))) => {
                    said.push(head);
                    body = Some((Decoder::new(length), Vec::new()));
                }
                Err(error) => {
                    said.push(error);
                    return said;
                }
            }
        }
    }
    said.push(format!("{:?} in progress", body.map(|(_, data)| data)));
    said
}

/// `bytes` cut at `places`, each a share of 65,536.
fn cut<'a>(bytes: &'a [u8], places: &[u16]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places.iter().map(|&at| usize::from(at) * (bytes.len() + 1) / 65_536).collect();
    places.sort_unstable();
    places.push(bytes.len());
    let mut from = 0;
    places.into_iter().map(|to| &bytes[std::mem::replace(&mut from, to)..to]).collect()
}

fn each_byte(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    // A first read of nothing: what is whole from the start is so without any.
    std::iter::once(&bytes[..0]).chain(bytes.chunks(1))
}

const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\r\nGET http://b/c?d HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\na\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n\r\n",
];

const ANSWERS: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 204\r\n\r\n",
    b"HTTP/1.0 404 Not Found\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nuntil the connection ends",
];

/// Messages one after the other, with a few bytes changed, left out or put in between.
fn conversation(messages: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let odd = select(b"\r\n \t:;,0af\0\x7f\xe9GH/1*#@".as_slice());
    let change = (any::<u16>(), 0..4_u8, odd);
    (vec(select(messages), 1..4), vec(change, 0..3)).prop_map(|(messages, changes)| {
        let mut bytes = messages.concat();
        for (place, how, byte) in changes {
            let at = usize::from(place) * bytes.len() / 65_536;
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.extend(vec![byte; 300]),
            }
        }
        bytes
    })
}

fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = select(vec![
        "GET ",
        "/",
        "http://a",
        "*",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "Host: a",
        "Content-Length: ",
        "Transfer-Encoding: ",
        "chunked",
        "Connection: close",
        "5",
        "0",
        "ffffffffffffffff",
        ";a=\"",
        "\0",
        " ",
        ": ",
        "HTTP/1.1 ",
        "200",
        "204 ",
        "OK",
        "é",
    ]);
    prop_oneof![vec(any::<u8>(), 0..200), vec(piece, 0..30).prop_map(|pieces| pieces.concat().into_bytes()),]
}

#[test]
fn the_samples_are_read_whole() {
    for sample in REQUESTS {
        let said = requests([*sample]);
        assert!(said.len() >= 3 && said.last().unwrap() == "None in progress", "{}: {said:?}", sample.escape_ascii());
    }
    assert_eq!(requests([REQUESTS.concat().as_slice()]).len(), 1 + 2 * REQUESTS.len() + 1, "the trailers, and the end");
    assert_eq!(answers([ANSWERS.concat().as_slice()], &Method::GET).len(), 1 + 2 * ANSWERS.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_cut_changes_what_a_client_says(bytes in conversation(REQUESTS), places in vec(any::<u16>(), 0..6)) {
        let whole = requests([&bytes[..]]);
        prop_assert_eq!(&requests(cut(&bytes, &places)), &whole, "{}", bytes.escape_ascii());
        prop_assert_eq!(&requests(each_byte(&bytes)), &whole, "{}", bytes.escape_ascii());
    }

    #[test]
    fn no_cut_changes_what_an_instance_says(
        bytes in conversation(ANSWERS),
        places in vec(any::<u16>(), 0..6),
        method in select(vec![Method::GET, Method::HEAD]),
    ) {
        let whole = answers([&bytes[..]], &method);
        prop_assert_eq!(&answers(cut(&bytes, &places), &method), &whole, "{}", bytes.escape_ascii());
        prop_assert_eq!(&answers(each_byte(&bytes), &method), &whole, "{}", bytes.escape_ascii());
    }

    #[test]
    fn no_cut_changes_a_chunked_body(bytes in conversation(&[
        b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\nHost: z\r\n\r\n", b"10;a=\"b\"\r\n0123456789abcdef\r\n",
    ]), places in vec(any::<u16>(), 0..6)) {
        let whole = chunked(&bytes);
        prop_assert_eq!(&decode(Length::Chunked, cut(&bytes, &places)), &whole, "{}", bytes.escape_ascii());
        prop_assert_eq!(&decode(Length::Chunked, each_byte(&bytes)), &whole, "{}", bytes.escape_ascii());
    }

    #[test]
    fn no_bytes_make_a_panic(bytes in soup()) {
        prop_assert_eq!(requests([&bytes[..]]), requests(each_byte(&bytes)));
        prop_assert_eq!(answers([&bytes[..]], &Method::GET), answers(each_byte(&bytes), &Method::GET));
        for length in [Length::Chunked, Length::Exact(7), Length::UntilClose, Length::Empty] {
            prop_assert_eq!(decode(length, [&bytes[..]]), decode(length, each_byte(&bytes)));
        }
    }
}
