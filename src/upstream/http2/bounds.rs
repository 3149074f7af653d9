//! What an instance may answer with over HTTP/2: what the codec of HTTP/1 sees to there, and the library here does not.

use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_LENGTH};

use crate::{
    http1::{
        framing::FramingError,
        head::{HeadError, is_padded, trim},
        response::ResponseError,
        trailer,
    },
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
/// They are too many or too large, or tell more than one length.
pub fn fields(mut map: HeaderMap) -> Result<Fields, ResponseError> {
    if map.len() > HEAD.max_fields {
        return Err(HeadError::TooManyFields.into());
    }
    if map.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE).sum::<usize>() > HEAD.max_head {
        return Err(HeadError::TooLarge.into());
    }
    if map.get_all(CONTENT_LENGTH).iter().nth(1).is_some() {
        return Err(FramingError::RepeatedContentLength.into());
    }
    map.values_mut().for_each(strip);
    Ok(map.into())
}

/// Leaves those trailers that may be passed on, without blanks around their values.
///
/// # Errors
/// They are too many or too large: as many, and as large, as the fields of a head may be, for some tell in them in detail
/// how a call went.
pub fn trailers(map: &mut HeaderMap) -> Result<(), HeadError> {
    trailer::check(map, &HEAD)?;
    trailer::strip(map);
    map.values_mut().for_each(strip);
    Ok(())
}

fn strip(value: &mut HeaderValue) {
    if is_padded(value)
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

    #[test]
    fn fields_are_bounded_as_over_http_1_and_come_without_blanks_around_them() {
        let many = |count: usize| map((0..count).map(|n| (format!("x-{n}"), "1".to_owned())));
        let large = |bytes: usize| map([("x".to_owned(), "v".repeat(bytes))]);
        for (fields, want) in [
            (many(256), None),
            (many(257), Some(HeadError::TooManyFields)),
            (large(32 * 1024 - 5), None),
            (large(32 * 1024 - 4), Some(HeadError::TooLarge)),
        ] {
            assert_eq!(trailers(&mut fields.clone()).err(), want);
            assert_eq!(super::fields(fields).err(), want.map(ResponseError::Head));
        }
        let mut padded = map([("x".to_owned(), " \ta b\t ".to_owned()), ("y".to_owned(), " ".to_owned())]);
        trailers(&mut padded.clone()).unwrap();
        let fields = super::fields(padded.clone()).unwrap();
        trailers(&mut padded).unwrap();
        assert_eq!(
            [fields.text("x"), padded["x"].to_str().unwrap(), fields.text("y"), padded["y"].to_str().unwrap()],
            ["a b", "a b", "", ""]
        );
    }

    #[test]
    fn a_length_is_told_once_and_a_status_is_below_600() {
        let mut told = HeaderMap::new();
        told.append(CONTENT_LENGTH, 5.into());
        assert!(fields(told.clone()).is_ok());
        told.append(CONTENT_LENGTH, 5.into());
        assert_eq!(fields(told).err(), Some(ResponseError::Framing(FramingError::RepeatedContentLength)));
        assert_eq!(
            [200, 599, 600, 999].map(|code| check(StatusCode::from_u16(code).unwrap()).is_ok()),
            [true, true, false, false]
        );
    }
}
