//! Field sections as HPACK packs them, to the gateway and from it: what is no packing ends the connection. Source: RFC
//! 7541, and RFC 9113 §4.3.

use std::collections::VecDeque;

use http::Request;

use crate::support::{
    Origin,
    hpack::{Blocks, number, packed, plain},
    http2::{CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GET, HEADERS, Http2, SETTINGS, fields, frame},
    verdict::{
        COMPRESSION, Row,
        Want::{self, Connection, Taken},
        ask, before, hold, setting,
    },
};

const WRONG: Want = Connection(&[COMPRESSION]);

/// A whole request with this block.
fn with(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
}

/// The pseudo-fields of `GET /`, and more of a block.
fn and(more: &[&[u8]]) -> Vec<u8> {
    with(1, &[&fields(&GET)[..], &more.concat()].concat())
}

/// The same, with this before them.
fn after(first: &[u8]) -> Vec<u8> {
    with(1, &[first, &fields(&GET)].concat())
}

#[tokio::test]
async fn a_block_that_cannot_be_read_ends_the_connection() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let name = plain("x");
    let table = number(0x20, 5, 4097);
    let rows: Vec<Row> = vec![
        ("a literal cut off in its name", and(&[b"\x00\x14a"]), WRONG),
        ("a literal cut off before its value", and(&[b"\x00", &name]), WRONG),
        ("a literal cut off in its value", and(&[b"\x00", &name, b"\x05abc"]), WRONG),
        ("a lone length", and(&[b"\x00\x7f"]), WRONG),
        ("a number without an end", and(&[b"\xff\x80\x80"]), WRONG),
        ("a number that overflows", and(&[b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]), WRONG),
        ("a length that overflows", and(&[b"\x00", &name, b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"]), WRONG),
        ("field 0", and(&[b"\x80"]), WRONG),
        ("field 62 of a table of 61", and(&[b"\xbe"]), WRONG),
        ("field 70 of a table of 61", and(&[&number(0x80, 7, 70)]), WRONG),
        ("field 63 of a table of 62", and(&[b"\x40", &name, &name, b"\xbf"]), WRONG),
        ("the name of field 62", and(&[&number(0x40, 6, 62), &name]), WRONG),
        ("the name of field 70", and(&[&number(0, 4, 70), &name]), WRONG),
        ("the name of field 70, never to be indexed", and(&[&number(0x10, 4, 70), &name]), WRONG),
        ("a field that the table has lost", and(&[b"\x40", &name, &plain(&"v".repeat(4096)), b"\xbe"]), WRONG),
        ("a table over the limit", after(&table), WRONG),
        ("a table far over the limit", after(&number(0x20, 5, 1 << 30)), WRONG),
        ("a new size at the end", and(&[b"\x20"]), WRONG),
        ("a new size between fields", and(&[b"\x20\x84"]), WRONG),
        ("a second size over the limit", after(&[&[0x20], &table[..]].concat()), WRONG),
        ("a padding of a byte", and(&[b"\x00", &name, b"\x82\x1f\xff"]), WRONG),
        ("a padding of bytes", and(&[b"\x00", &name, b"\x84\x1f\xff\xff\xff"]), WRONG),
        ("a padding of zeros", and(&[b"\x00", &name, b"\x81\x18"]), WRONG),
        ("a padding of zeros in a name", and(&[b"\x00\x81\x18", &name]), WRONG),
        ("the end of a text within it", and(&[b"\x00", &name, b"\x84\xff\xff\xff\xff"]), WRONG),
        ("the end of a text and a letter", and(&[b"\x00", &name, b"\x85\xff\xff\xff\xfc\x7f"]), WRONG),
        (
            "trailers that cannot be read",
            {
                let head = frame(HEADERS, END_HEADERS, 1, &fields(&GET));
                [head, frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80")].concat()
            },
            WRONG,
        ),
        (
            "a continued block that cannot be read",
            {
                let head = frame(HEADERS, END_STREAM, 1, &fields(&GET));
                [head, frame(CONTINUATION, END_HEADERS, 1, b"\x00\x14a")].concat()
            },
            WRONG,
        ),
    ];
    hold(&gateway, rows).await;
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_block_in_any_packing_is_read() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let large = "v".repeat(5000);
    let indexed = [&[0x82, 0x86, 0x84][..], &number(0x40, 6, 1), &packed("api.example.com")].concat();
    hold(
        &gateway,
        vec![
            ("fields of the table of all", with(1, &indexed), Taken),
            ("a new size", after(b"\x20"), Taken),
            ("two new sizes", after(&[b"\x20", &number(0x20, 5, 4096)[..]].concat()), Taken),
            ("the size that it has", after(&number(0x20, 5, 4096)), Taken),
            ("a field not to be indexed", and(&[b"\x00", &plain("x"), &plain("v")]), Taken),
            ("a field never to be indexed", and(&[b"\x10", &packed("x"), &packed("v")]), Taken),
            ("a known name", and(&[&number(0x10, 4, 58), &packed("agent")]), Taken),
            ("a field from the table that was made", and(&[b"\x40", &packed("x"), &packed("v"), b"\xbe\xbe"]), Taken),
            (
                "a name from the table that was made",
                and(&[b"\x40", &packed("x"), &packed("v"), b"\x7e\x01w\xbf"]),
                Taken,
            ),
            ("a field larger than the table", and(&[b"\x40", &plain("x"), &plain(&large)]), Taken),
            ("an empty value", and(&[b"\x00", &plain("x"), &plain("")]), Taken),
            ("an empty packed value", and(&[b"\x00", &plain("x"), b"\x80"]), Taken),
            (
                "a number that is longer than need be",
                and(&[b"\x00", &plain("x"), b"\x7f\x80\x00", &[b'v'; 127]]),
                Taken,
            ),
            (
                "every letter that may be",
                and(&[b"\x00", &plain("x"), &packed(&('!'..='~').collect::<String>())]),
                Taken,
            ),
        ],
    )
    .await;
}

/// Packs as much as there is to pack.
#[derive(Default)]
struct Packer {
    table: VecDeque<(String, String)>,
}

impl Packer {
    fn field(&mut self, name: &str, value: &str) -> Vec<u8> {
        let at = |wanted: &dyn Fn(&(String, String)) -> bool| self.table.iter().position(wanted).map(|at| at + 62);
        if let Some(index) = at(&|field| field.0 == name && field.1 == value) {
            return number(0x80, 7, index);
        }
        let known = at(&|field| field.0 == name);
        let name_packed = known.map_or_else(|| [vec![0x40], packed(name)].concat(), |index| number(0x40, 6, index));
        self.table.push_front((name.to_owned(), value.to_owned()));
        while self.table.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>() > 4096 {
            self.table.pop_back();
        }
        [name_packed, packed(value)].concat()
    }
}

/// Fields of which some are new each time, some are seldom, and some are always the same.
fn told(n: usize) -> [(String, String); 4] {
    let long = format!("{n}~").repeat(n % 40);
    [("x-number", n.to_string()), ("x-same", "same".into()), ("x-often", (n % 7).to_string()), ("x-long", long)]
        .map(|(name, value)| (name.to_owned(), value))
}

#[tokio::test]
async fn a_table_is_kept_over_many_requests() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let mut client = Frames::connect(gateway.address).await;
    let (mut packer, mut blocks) = (Packer::default(), Blocks::default());
    for n in 0..300 {
        let pseudo = GET.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let block: Vec<u8> =
            pseudo.iter().chain(&told(n)).flat_map(|(name, value)| packer.field(name, value)).collect();
        client.send(&with(u32::try_from(n).unwrap() * 2 + 1, &block)).await;
        let (_, _, _, head) = client.until(&[HEADERS]).await.unwrap();
        assert_eq!(blocks.read(&head)[0], (":status".to_owned(), "200".to_owned()));
        client.until(&[DATA]).await.unwrap();
        for (name, value) in told(n) {
            assert_eq!(origin.got()[n].field(&name), value, "{name} of {n}");
        }
    }
    assert!(packer.table.len() < 100, "some went out of it");

    let client = Http2::connect(gateway.address).await;
    for n in 300..600 {
        let mut request = Request::get("http://h/");
        for (name, value) in told(n) {
            request = request.header(name, value);
        }
        assert_eq!(client.ask(request.body(()).unwrap(), b"").await.unwrap().head.status, 200);
        for (name, value) in told(n) {
            assert_eq!(origin.got()[n].field(&name), value, "{name} of {n}");
        }
    }
}

#[tokio::test]
async fn the_block_of_a_request_that_is_refused_is_read_all_the_same() {
    let origin = Origin::start("a").await;
    let gateway = before(&origin).await;
    let mut packer = Packer::default();
    for wrong in [[("x-first", "1"), ("connection", "close")], [("te", "gzip"), ("x-second", "2")]] {
        let mut client = Frames::connect(gateway.address).await;
        packer.table.clear();
        let mut block = fields(&GET);
        block.extend(wrong.iter().flat_map(|(name, value)| packer.field(name, value)));
        client.send(&with(1, &block)).await;
        let right = wrong.iter().find(|(name, _)| name.starts_with("x-")).unwrap();
        client.send(&with(3, &[fields(&GET), packer.field(right.0, right.1)].concat())).await;
        while client.until(&[DATA]).await.expect("the connection ended").2 != 3 {}
        assert_eq!(origin.got().last().unwrap().field(right.0), right.1);
    }
}

#[tokio::test]
async fn answers_keep_to_the_table_that_the_client_has() {
    let origin = Origin::answering(|got| {
        format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-told: {}\r\nx-same: same\r\n\r\n", got.field("x-n")).into()
    })
    .await;
    let gateway = before(&origin).await;
    for size in [0, 100, 4096, 65_536] {
        let mut client = Frames::connect(gateway.address).await;
        let mut blocks = Blocks::default();
        client.send(&frame(SETTINGS, 0, 0, &setting(1, size))).await;
        for n in 0..50 {
            let told = n.to_string();
            let block = fields(&[&GET[..], &[("x-n", told.as_str())]].concat());
            client.send(&with(n * 2 + 1, &block)).await;
            let (_, flags, _, head) = client.until(&[HEADERS]).await.unwrap();
            let list = blocks.read(&head);
            assert!(flags & END_HEADERS != 0 && list.contains(&("x-told".to_owned(), told)), "{size}: {list:?}");
        }
        assert!(blocks.resized.iter().all(|new| *new <= size as usize), "{size}: {:?}", blocks.resized);
        assert!(size > 0 || blocks.recalled == 0, "{} from a table of nothing", blocks.recalled);
        assert!(size >= 4096 || !blocks.resized.is_empty(), "{size}: it was not told that the table is smaller");
    }
    // In the middle of a connection.
    let mut client = Frames::connect(gateway.address).await;
    let mut blocks = Blocks::default();
    for n in 0..20 {
        if n == 10 {
            client.send(&frame(SETTINGS, 0, 0, &setting(1, 0))).await;
            blocks.recalled = 0;
        }
        client.send(&ask(n * 2 + 1)).await;
        let (_, _, _, head) = client.until(&[HEADERS]).await.unwrap();
        assert!(blocks.read(&head).contains(&("x-same".to_owned(), "same".to_owned())));
    }
    assert_eq!((blocks.recalled, blocks.resized.len()), (0, 1));
}
