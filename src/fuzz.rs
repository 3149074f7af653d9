//! What the fuzzers run: whatever the bytes, there is no panic, and no split over reads changes what they mean.
//! No interface for users.

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
    model::path,
};

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
