//! What spans show of a query: not the values that sign a request, with which whoever reads them could make it again.
//! Sources: OpenTelemetry's semantic conventions for `url.query` and `url.full`; AWS's Signature Version 4 for its keys.

use percent_encoding::percent_decode_str;

/// The query without those values.
pub fn shown(query: &str) -> String {
    let mut shown = String::with_capacity(query.len());
    for (at, pair) in query.split('&').enumerate() {
        if at > 0 {
            shown.push('&');
        }
        match pair.split_once('=') {
            Some((key, _)) if signs(key) => {
                shown.push_str(key);
                shown.push_str("=REDACTED");
            }
            _ => shown.push_str(pair),
        }
    }
    shown
}

/// The URL without them.
pub fn url(url: &str) -> String {
    match url.split_once('?') {
        Some((before, query)) => format!("{before}?{}", shown(query)),
        None => url.to_owned(),
    }
}

/// Whether the key is one of them, in whatever spelling: whom it is for reads it decoded.
fn signs(key: &str) -> bool {
    SIGNING.iter().any(|known| percent_decode_str(key).eq(known.bytes()))
}

const SIGNING: [&str; 7] = [
    "AWSAccessKeyId",
    "Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Goog-Signature",
    "sig",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_signs_a_request_is_not_shown_and_all_else_is() {
        for (query, want) in [
            ("", ""),
            ("sig=a", "sig=REDACTED"),
            ("x=1&Signature=a=b&y", "x=1&Signature=REDACTED&y"),
            ("sig=a&sig=b&&", "sig=REDACTED&sig=REDACTED&&"),
            ("s%69g=a&%73%69%67=", "s%69g=REDACTED&%73%69%67=REDACTED"),
            ("sig&Sig=a&signature=b&xsig=c&sigx=d&x=sig=e", "sig&Sig=a&signature=b&xsig=c&sigx=d&x=sig=e"),
        ] {
            assert_eq!(shown(query), want);
            assert_eq!(url(&format!("http://sig=a/sig=b?{query}")), format!("http://sig=a/sig=b?{want}"));
        }
        for key in SIGNING {
            assert_eq!(shown(&format!("{key}=a")), format!("{key}=REDACTED"));
        }
        assert_eq!(url("http://a/sig=b"), "http://a/sig=b");
    }
}
