//! What an instance may answer with over HTTP/2: what the codec of HTTP/1 sees to there, and the library here does not.

use http::{HeaderMap, HeaderValue, StatusCode};

use crate::{
    http1::{
        head::{HeadError, is_padded, trim},
        response::ResponseError,
        trailer,
    },
    http2::message::ResponseHead,
    model::fields::Fields,
    upstream::exchange::HEAD,
};

/// Whether a status is one of HTTP's.
///
/// # Errors
/// `Status`: 600 or more. Source: RFC 9110 §15.
pub fn check(status: StatusCode) -> Result<(), ResponseError> {
    if status.as_u16() > 599 { Err(ResponseError::Status) } else { Ok(()) }
}

/// The fields of a head, without blanks around their values.
///
/// # Errors
/// They are too many or too large.
pub fn fields(head: ResponseHead) -> Result<Fields, ResponseError> {
    let mut fields = head.fields;
    if fields.len() > HEAD.max_fields {
        return Err(HeadError::TooManyFields.into());
    }
    let size: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE).sum();
    if head.is_cut || size > HEAD.max_head {
        return Err(HeadError::TooLarge.into());
    }
    fields.strip();
    Ok(fields)
}

/// Leaves those trailers that may be passed on, without blanks around their values.
///
/// # Errors
/// They are too many or too large: as many, and as large, as the fields of a head may be, for some tell in them in detail
/// how a call went.
pub fn trailers(map: &mut HeaderMap, is_cut: bool) -> Result<(), HeadError> {
    if is_cut {
        return Err(HeadError::TooLarge);
    }
    trailer::check(map, &HEAD)?;
    trailer::strip(map);
    map.values_mut().for_each(strip);
    Ok(())
}

fn strip(value: &mut HeaderValue) {
    if is_padded(value.as_bytes())
        && let Ok(bare) = HeaderValue::from_bytes(trim(value.as_bytes()))
    {
        *value = bare;
    }
}

/// What a field counts for beside its name and value: a colon, a blank and the end of the line.
const LINE: usize = 4;

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn map(fields: impl IntoIterator<Item = (String, String)>) -> HeaderMap {
        fields
            .into_iter()
            .map(|(name, value)| (HeaderName::try_from(name).unwrap(), value.try_into().unwrap()))
            .collect()
    }

    fn read(map: HeaderMap, is_cut: bool) -> Result<Fields, ResponseError> {
        super::fields(ResponseHead { status: StatusCode::OK, fields: map.into(), is_cut, length: None })
    }

    #[test]
    fn fields_are_bounded_as_over_http_1_and_come_without_blanks_around_them() {
        let many = |count: usize| map((0..count).map(|n| (format!("x-{n}"), "1".to_owned())));
        let large = |bytes: usize| map([("x".to_owned(), "v".repeat(bytes))]);
        for (fields, is_cut, want) in [
            (many(256), false, None),
            (many(257), false, Some(HeadError::TooManyFields)),
            (large(32 * 1024 - 5), false, None),
            (large(32 * 1024 - 4), false, Some(HeadError::TooLarge)),
            (many(1), true, Some(HeadError::TooLarge)),
        ] {
            assert_eq!(trailers(&mut fields.clone(), is_cut).err(), want);
            assert_eq!(read(fields, is_cut).err(), want.map(ResponseError::Head));
        }
        let mut padded = map([("x".to_owned(), " 	a b	 ".to_owned()), ("y".to_owned(), " ".to_owned())]);
        let fields = read(padded.clone(), false).unwrap();
        trailers(&mut padded, false).unwrap();
        assert_eq!(
            [fields.text("x"), padded["x"].to_str().unwrap(), fields.text("y"), padded["y"].to_str().unwrap()],
            ["a b", "a b", "", ""]
        );
    }

    #[test]
    fn a_status_is_below_600() {
        assert_eq!(
            [200, 599, 600, 999].map(|code| check(StatusCode::from_u16(code).unwrap()).is_ok()),
            [true, true, false, false]
        );
    }
}
