//! The codec's rules as tables of bytes; that no split over reads changes what bytes mean; and what another parser says.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, Method};

use super::{
    body::{BodyError, Decoder, Piece},
    framing::Length,
    head::Limits,
    request::{RequestError, RequestHead, RequestReader},
    response::{ResponseError, ResponseHead, ResponseReader},
};
use crate::model::value::Value;

mod answers;
mod bodies;
mod encoding;
mod limits;
mod other_parser;
mod requests;
mod splits;

/// The head at the front of `bytes`, which must be whole or wrong.
fn request(bytes: &[u8]) -> Result<RequestHead, RequestError> {
    let mut buf = BytesMut::from(bytes);
    let head = RequestReader::new(Limits::default()).read(&mut buf)?;
    Ok(head.unwrap_or_else(|| panic!("not a whole head: {}", bytes.escape_ascii())))
}

/// The head of the answer to `method` at the front of `bytes`, which must be whole or wrong.
fn answer(bytes: &[u8], method: &Method) -> Result<ResponseHead, ResponseError> {
    let mut buf = BytesMut::from(bytes);
    let head = ResponseReader::new(Limits::default()).read(&mut buf, method)?;
    Ok(head.unwrap_or_else(|| panic!("not a whole head: {}", bytes.escape_ascii())))
}

/// What a body came to.
#[derive(Debug, Default, PartialEq)]
struct Decoded {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Its end was reached.
    whole: bool,
    error: Option<BodyError>,
    /// What stood behind it.
    rest: Vec<u8>,
}

/// Decodes a body that comes in `parts`.
fn decode<'a>(length: Length, parts: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = Decoder::new(length);
    let mut body = Decoded::default();
    let mut buf = BytesMut::new();
    for part in parts {
        buf.extend_from_slice(part);
        while body.error.is_none() && !body.whole {
            match decoder.decode(&mut buf) {
                Ok(Piece::More) => break,
                Ok(Piece::Data(data)) => {
                    assert!(!data.is_empty(), "an empty piece");
                    body.data.extend_from_slice(&data);
                }
                Ok(Piece::Trailers(trailers)) => body.trailers = Some(trailers),
                Ok(Piece::End) => body.whole = true,
                Err(error) => body.error = Some(error),
            }
        }
    }
    assert!(!body.whole || decoder.is_done(), "an end that the decoder does not know of");
    if body.error.is_none() {
        body.rest = buf.to_vec();
    }
    body
}

/// A chunked body in one piece.
fn chunked(body: &[u8]) -> Decoded {
    decode(Length::Chunked, [body])
}

fn fields<'f>(fields: impl Iterator<Item = (&'f HeaderName, Value<'f>)>) -> Vec<(&'f str, Bytes)> {
    fields.map(|(name, value)| (name.as_str(), Bytes::copy_from_slice(value.as_bytes()))).collect()
}
