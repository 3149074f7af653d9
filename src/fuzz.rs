//! What the fuzzers run: whatever the bytes, there is no panic, and no split over reads changes what they mean.
//! No interface for users.

mod http2;

use bytes::BytesMut;
use http::Method;

use crate::{
    http1::{
        body::{Decoder, Piece},
        framing::Length,
        head::Limits,
        request::RequestReader,
        response::ResponseReader,
    },
    http2::hpack::{self, HpackError, Line, Section, Token},
    model::path,
};

pub use http2::http2;

const LIMITS: Limits = Limits { max_head: 4096, max_fields: 32 };

/// A client's bytes. The first one says where they are split.
///
/// # Panics
/// When a split changes what the bytes mean.
pub fn requests(data: &[u8]) {
    in_halves(data, |parts| {
        let mut reader = RequestReader::new(LIMITS);
        conversation(parts, |input| {
            let head = reader.read(input).map_err(|error| format!("{error:?}"))?;
            Ok(head.map(|head| (format!("{head:?}"), head.length)))
        })
    });
}

/// An instance's bytes, in answer to a GET or a HEAD.
///
/// # Panics
/// When a split changes what the bytes mean.
pub fn answers(data: &[u8]) {
    for method in [Method::GET, Method::HEAD] {
        in_halves(data, |parts| {
            let mut reader = ResponseReader::new(LIMITS);
            conversation(parts, |input| {
                let head = reader.read(input, &method).map_err(|error| format!("{error:?}"))?;
                Ok(head.map(|head| (format!("{head:?}"), head.length)))
            })
        });
    }
}

/// A chunked body.
///
/// # Panics
/// When a split changes what the bytes mean.
pub fn chunks(data: &[u8]) {
    in_halves(data, |parts| {
        let mut begun = false;
        conversation(parts, |_| Ok((!std::mem::replace(&mut begun, true)).then(|| (String::new(), Length::Chunked))))
    });
}

/// Blocks on one connection of HTTP/2. A byte before each says how long it is.
///
/// # Panics
/// When more is kept than may be, when what blocks mean depends on how their lines are parted or on what the section held
/// before, or when what is kept is not read back as it was written.
pub fn hpack(mut data: &[u8]) {
    let (mut decoder, mut other, mut parted) = (hpack::Decoder::new(), hpack::Decoder::new(), hpack::Decoder::new());
    let (mut reused, mut all, mut joined) = (Section::default(), Section::default(), Vec::new());
    while let Some((length, rest)) = data.split_first() {
        let (block, behind) = rest.split_at(usize::from(*length).min(rest.len()));
        data = behind;
        let mut new = Section::default();
        reused.clear();
        let end = decoder.decode(block, &mut reused, &LINES);
        assert_eq!(other.decode(block, &mut new, &LINES), end);
        assert_eq!(said(&new), said(&reused));
        assert!(reused.lines.len() <= LINES.max_lines && reused.text.len() <= LINES.max_list);
        if end.is_err() {
            break;
        }
        is_read_back(&reused);
        assert_eq!(parted.decode(block, &mut all, &ALL), Ok(()));
        joined.extend_from_slice(block);
    }
    let mut whole = Section::default();
    match hpack::Decoder::new().decode(&joined, &mut whole, &ALL) {
        // Where a block ends, one more begins that may change the table's size.
        Err(error) => assert_eq!(error, HpackError::LateUpdate),
        Ok(()) => assert_eq!(said(&whole), said(&all)),
    }
}

const LINES: hpack::Limits = hpack::Limits { max_list: 1024, max_lines: 16 };
const ALL: hpack::Limits = hpack::Limits { max_list: usize::MAX, max_lines: usize::MAX };

fn said(section: &Section) -> String {
    let lines = section.lines.iter().map(|line| (&line.name, value(section, line).escape_ascii(), line.never_indexed));
    format!("{:?} {:?} {}", lines.collect::<Vec<_>>(), section.fault, section.size())
}

fn value<'a>(section: &'a Section, line: &Line) -> &'a [u8] {
    &section.text[line.value.start as usize..line.value.end as usize]
}

/// What is kept is what it was when we have written it, but for what we keep out of all tables.
fn is_read_back(section: &Section) {
    let mut block = Vec::new();
    for line in &section.lines {
        match &line.name {
            Token::Pseudo(pseudo) => hpack::write_pseudo(&mut block, *pseudo, value(section, line)),
            Token::Field(name) => hpack::write_field(&mut block, name, value(section, line), line.never_indexed),
        }
    }
    let mut again = Section::default();
    assert_eq!((hpack::Decoder::new().decode(&block, &mut again, &ALL), again.fault), (Ok(()), None));
    let plain = |section: &Section| {
        let line = |line: &Line| format!("{:?} {}", line.name, value(section, line).escape_ascii());
        section.lines.iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(plain(&again), plain(section));
    assert!(
        again.lines.iter().zip(&section.lines).all(|(again, line)| {
            again.never_indexed || !line.never_indexed || matches!(line.name, Token::Pseudo(_))
        })
    );
}

/// A path.
///
/// # Panics
/// When a form has another form, or a dot segment.
pub fn paths(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(form) = path::normalize(text) else { return };
    let again = path::normalize(&form);
    assert_eq!(again.as_deref(), Ok(&*form), "{text:?} has two forms");
    assert!(
        !form.split('/').any(|segment| segment == "." || segment == ".."),
        "{form:?} of {text:?} has a dot segment"
    );
    assert!(form.starts_with('/') && form.bytes().all(|b| b.is_ascii_graphic()), "{form:?} of {text:?}");
}

fn in_halves<T: PartialEq + std::fmt::Debug>(data: &[u8], mut read: impl FnMut(&[&[u8]]) -> T) {
    let Some((at, bytes)) = data.split_first() else { return };
    let (front, back) = bytes.split_at(usize::from(*at).min(bytes.len()));
    assert_eq!(read(&[bytes]), read(&[front, back]), "split after {} bytes", front.len());
}

/// All that the bytes come to, up to the first error or the last byte.
fn conversation(
    parts: &[&[u8]],
    mut head: impl FnMut(&mut BytesMut) -> Result<Option<(String, Length)>, String>,
) -> Vec<String> {
    let mut said = Vec::new();
    let mut input = BytesMut::new();
    let mut body: Option<(Decoder, Vec<u8>)> = None;
    for part in parts {
        input.extend_from_slice(part);
        loop {
            let Some((decoder, data)) = &mut body else {
                match head(&mut input) {
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
                continue;
            };
            match decoder.decode(&mut input) {
                Ok(Piece::More) => break,
                Ok(Piece::Data(more)) => data.extend_from_slice(&more),
                Ok(Piece::Trailers(trailers)) => said.push(format!("{trailers:?}")),
                Ok(Piece::End) => {
                    said.push(format!("{data:?}"));
                    body = None;
                }
                Err(error) => {
                    said.push(format!("{data:?} {error:?}"));
                    return said;
                }
            }
        }
    }
    said.push(format!("{body:?}"));
    said
}
