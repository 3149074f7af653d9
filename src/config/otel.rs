//! Where traces go: `telemetry.otlp`, and the standard variables of OpenTelemetry. Those that cannot be read are ignored with
//! a word, as its specification wants it: they may be meant for other programs. What concerns the transport alone, such as
//! `OTEL_EXPORTER_OTLP_HEADERS`, its exporter reads itself.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use super::environment::Variables;
use crate::{
    model::units::Secret,
    telemetry::{otlp::Settings, sampling::Sampler},
};

/// What was read, and what was not.
#[derive(Debug, Default)]
pub struct Read {
    /// `None`: no traces are sent.
    pub settings: Option<Settings>,
    /// What is wrong with the key.
    pub problem: Option<String>,
    /// What was ignored, a sentence each.
    pub ignored: Vec<String>,
}

/// Reads the key, or what stands in for it.
#[must_use]
pub fn read(key: Option<&str>, variables: &Variables) -> Read {
    let get = |name: &str| variables.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
    let either = |traces, all| get(traces).map(|text| (traces, text)).or_else(|| get(all).map(|text| (all, text)));
    let mut read = Read::default();
    let from_key = key.map(str::trim).filter(|text| !text.is_empty());
    let by_variable = either(ENDPOINT_OF_TRACES, ENDPOINT).filter(|_| key.is_none());
    let (name, text) = match (from_key, by_variable) {
        (Some(text), _) => (None, text),
        (None, Some((name, text))) => (Some(name), text),
        (None, None) => return read,
    };
    let (bare, login) = parted(text);
    let Some(uri) = collector(&bare) else {
        let message = "expected a URL of a collector such as `http://127.0.0.1:4317`";
        match name {
            None => read.problem = Some(message.into()),
            Some(name) => read.ignored.push(format!("{name} is ignored: {message}")),
        }
        return read;
    };
    if get(DISABLED).is_some_and(|text| text.eq_ignore_ascii_case("true")) || get(EXPORTER) == Some("none") {
        return read;
    }
    let by_port = uri.port_u16() != Some(HTTP_PORT);
    let is_grpc = match either(PROTOCOL_OF_TRACES, PROTOCOL) {
        None => by_port,
        Some((_, "grpc")) => true,
        Some((_, "http/protobuf")) => false,
        Some((name, text)) => {
            read.ignored.push(format!("{name} is ignored: expected `grpc` or `http/protobuf`; got `{text}`"));
            by_port
        }
    };
    let sampler = get(SAMPLER).and_then(|named| {
        let sampler = Sampler::named(named, get(SAMPLER_ARGUMENT));
        if sampler.is_none() {
            let argument = get(SAMPLER_ARGUMENT).unwrap_or_default();
            read.ignored.push(format!("{SAMPLER} is ignored: `{named}` with `{argument}` is no sampler"));
        }
        sampler
    });
    let mut resource = Vec::new();
    for pair in get(ATTRIBUTES).into_iter().flat_map(|pairs| pairs.split(',')).filter(|pair| !pair.trim().is_empty()) {
        match pair.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            Some((key, value)) if !key.is_empty() => {
                resource.push((key.to_owned(), percent_decode_str(value).decode_utf8_lossy().into_owned()));
            }
            _ => read.ignored.push(format!("a part of {ATTRIBUTES} is ignored: expected `key=value`")),
        }
    }
    let named = get(NAME).map(str::to_owned);
    let known = resource.iter().any(|(key, _)| key == SERVICE);
    if let Some(name) = named.or_else(|| (!known).then(|| "lictor".to_owned())) {
        resource.retain(|(key, _)| key != SERVICE);
        resource.push((SERVICE.into(), name));
    }
    if !resource.iter().any(|(key, _)| key == VERSION) {
        resource.push((VERSION.into(), env!("CARGO_PKG_VERSION").into()));
    }
    // The variable of traces alone names their very place; all others what stands before it.
    let endpoint = if is_grpc || name == Some(ENDPOINT_OF_TRACES) {
        bare
    } else {
        format!("{}/v1/traces", bare.trim_end_matches('/'))
    };
    let ca = either(CA_OF_TRACES, CA).map(|(_, file)| file.into());
    let identity = match (either(CERT_OF_TRACES, CERT), either(KEY_OF_TRACES, KEY)) {
        (Some((_, cert)), Some((_, key))) => Some((cert.into(), key.into())),
        (None, None) => None,
        (Some((name, _)), None) => {
            read.ignored.push(format!("{name} is ignored: it wants {KEY} beside it"));
            None
        }
        (None, Some((name, _))) => {
            read.ignored.push(format!("{name} is ignored: it wants {CERT} beside it"));
            None
        }
    };
    let timeout = either(TIMEOUT_OF_TRACES, TIMEOUT).and_then(|(name, text)| {
        let millis = text.parse().ok().filter(|millis| *millis > 0);
        if millis.is_none() {
            read.ignored.push(format!("{name} is ignored: expected milliseconds such as `10000`; got `{text}`"));
        }
        millis.map(Duration::from_millis)
    });
    let timeout = timeout.unwrap_or(PATIENCE);
    if let Some((name, text)) = either(COMPRESSION_OF_TRACES, COMPRESSION)
        && !["gzip", "none"].iter().any(|known| known.eq_ignore_ascii_case(text))
    {
        read.ignored.push(format!("{name} is ignored: expected `gzip` or `none`; got `{text}`"));
    }
    if let Some((name, text)) = either(HEADERS_OF_TRACES, HEADERS) {
        let said = |part| format!("part {part} of {name} is ignored: expected a header as `name=value`");
        read.ignored.extend(no_headers(text).map(said));
    }
    let sampler = sampler.unwrap_or(Sampler::DEFAULT);
    read.settings = Some(Settings { endpoint, login, is_grpc, sampler, resource, ca, identity, timeout });
    read
}

/// The URL without `USER:PASSWORD@`, and that.
fn parted(text: &str) -> (String, Option<Secret>) {
    let Some((scheme, rest)) = text.split_once("://") else { return (text.into(), None) };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((login, host)) => {
            let login = percent_decode_str(login).decode_utf8_lossy();
            (format!("{scheme}://{host}{}", &rest[end..]), Some(Secret::from(&*login)))
        }
        None => (text.into(), None),
    }
}

fn collector(bare: &str) -> Option<Uri> {
    let uri: Uri = bare.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority()?;
    let (host, port) = authority.as_str().split_at_checked(authority.host().len())?;
    // A URI takes any text for a port.
    let reached = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (known && !host.is_empty() && reached && uri.query().is_none()).then_some(uri)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Which parts of a list of headers its reader leaves out, the first being 1. What is in them may be a secret.
fn no_headers(list: &str) -> impl Iterator<Item = usize> {
    let parts = (1..).zip(list.split(',')).filter(|(_, part)| !part.trim().is_empty());
    parts.filter_map(|(number, part)| (!is_header(part)).then_some(number))
}

fn is_header(part: &str) -> bool {
    let Some((name, value)) = part.split_once('=') else { return false };
    let value: Vec<_> = percent_decode_str(value.trim()).collect();
    name.trim().parse::<HeaderName>().is_ok() && !value.is_empty() && HeaderValue::from_bytes(&value).is_ok()
}

const HTTP_PORT: u16 = 4318;
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const HEADERS_OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
const SERVICE: &str = "service.name";
const VERSION: &str = "service.version";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const ENDPOINT_OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const PROTOCOL_OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const CA: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const CA_OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE";
const CERT: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
const CERT_OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE";
const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
const KEY_OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const TIMEOUT_OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT";
/// What is left out of them, by their specification.
const PATIENCE: Duration = Duration::from_secs(10);
const COMPRESSION: &str = "OTEL_EXPORTER_OTLP_COMPRESSION";
const COMPRESSION_OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const DISABLED: &str = "OTEL_SDK_DISABLED";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
const NAME: &str = "OTEL_SERVICE_NAME";
const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: Option<&str>, variables: &[(&str, &str)]) -> Read {
        read(key, &variables.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect())
    }

    fn endpoint(key: Option<&str>, variables: &[(&str, &str)]) -> Option<(String, bool)> {
        of(key, variables).settings.map(|settings| (settings.endpoint, settings.is_grpc))
    }

    #[test]
    fn the_key_wins_over_the_variables_and_the_port_tells_the_protocol() {
        let (grpc, http) = ("http://c:4317", "http://c:4318");
        for (key, variables, want) in [
            (None, &[][..], None),
            (Some(""), &[(ENDPOINT, grpc)], None),
            (None, &[(ENDPOINT, "")], None),
            (None, &[(ENDPOINT, grpc)], Some(("http://c:4317", true))),
            (Some("https://k:4317"), &[(ENDPOINT, grpc)], Some(("https://k:4317", true))),
            (None, &[(ENDPOINT, grpc), (ENDPOINT_OF_TRACES, "http://t:1")], Some(("http://t:1", true))),
            (Some(http), &[], Some(("http://c:4318/v1/traces", false))),
            (Some("http://c:4318/otel/"), &[], Some(("http://c:4318/otel/v1/traces", false))),
            (None, &[(ENDPOINT_OF_TRACES, "http://c:4318/x")], Some(("http://c:4318/x", false))),
            (Some(http), &[(PROTOCOL, "grpc")], Some((http, true))),
            (Some(grpc), &[(PROTOCOL, "http/protobuf")], Some(("http://c:4317/v1/traces", false))),
            (Some(grpc), &[(PROTOCOL, ""), (PROTOCOL_OF_TRACES, "grpc")], Some((grpc, true))),
            (Some(grpc), &[(DISABLED, "TRUE")], None),
            (Some(grpc), &[(EXPORTER, "none")], None),
        ] {
            let want = want.map(|(endpoint, is_grpc): (&str, bool)| (endpoint.to_owned(), is_grpc));
            assert_eq!(endpoint(key, variables), want, "{key:?} {variables:?}");
        }
    }

    #[test]
    fn a_login_is_taken_out_of_the_url() {
        let settings = of(Some("https://me:p%40ss@c:4317/x"), &[]).settings.unwrap();
        assert_eq!(settings.endpoint, "https://c:4317/x");
        assert_eq!(settings.login.unwrap().reveal(), "me:p@ss");
    }

    #[test]
    fn what_cannot_be_read_is_a_problem_of_the_key_and_ignored_in_a_variable() {
        for bad in [
            "c:4317",
            "ftp://c",
            "http://",
            "unix:///c",
            "http://me:secret@",
            "http://127.0.0.1:bad",
            "http://127.0.0.1:99999",
            "http://127.0.0.1:0",
            "http://127.0.0.1:",
            "http://127.0.0.1:/x",
            "http://me:secret@collector:4317x",
            "http://[::1]:",
            "http://[::1]4317",
        ] {
            let by_key = of(Some(bad), &[]);
            assert!(by_key.problem.is_some_and(|problem| !problem.contains("secret")), "{bad}");
            let by_variable = of(None, &[(ENDPOINT, bad)]);
            assert_eq!((by_variable.problem, by_variable.ignored.len()), (None, 1), "{bad}");
        }
        let odd = [
            (PROTOCOL, "http/json"),
            (SAMPLER, "x"),
            (ATTRIBUTES, "a,b=1"),
            (TIMEOUT, "10s"),
            (COMPRESSION_OF_TRACES, "br"),
            (CERT, "cert.pem"),
        ];
        let read = of(Some("http://c:4317"), &odd);
        assert_eq!(read.ignored.len(), odd.len(), "{:?}", read.ignored);
        let settings = read.settings.unwrap();
        assert_eq!((settings.sampler, settings.timeout, settings.identity), (Sampler::DEFAULT, PATIENCE, None));
        let read = of(Some("http://c:4317"), &[(KEY_OF_TRACES, "key.pem")]);
        assert_eq!(read.ignored.len(), 1, "{:?}", read.ignored);
    }

    #[test]
    fn a_port_may_be_left_out_or_any_that_there_is() {
        for fine in ["http://c", "https://c/x", "http://c:1", "http://c:65535/x", "http://[::1]", "http://[::1]:4317"] {
            let read = of(Some(fine), &[]);
            assert!(read.problem.is_none() && read.settings.is_some(), "{fine}");
        }
    }

    #[test]
    fn a_bad_part_of_the_headers_is_named_by_its_place_and_never_shown() {
        let ignored = |variables: &[(&str, &str)]| of(Some("http://c:4317"), variables).ignored;
        let said =
            |name: &str, part: usize| format!("part {part} of {name} is ignored: expected a header as `name=value`");
        for fine in ["", "a=1", "a=1,", " A = b%20c , d=e=f,", "a=%zz"] {
            assert_eq!(ignored(&[(HEADERS, fine)]), [""; 0], "{fine}");
        }
        for (text, parts) in [
            ("s3cret", &[1][..]),
            ("a=1,s3cret,=s3cret, s 3=cret,b=2", &[2, 3, 4]),
            ("a=s3cret%0a,b=s3cret%00,c=", &[1, 2, 3]),
            ("a=1,, ,b=2,x", &[5]),
        ] {
            let want: Vec<_> = parts.iter().map(|&part| said(HEADERS, part)).collect();
            assert_eq!(ignored(&[(HEADERS, text)]), want, "{text}");
            let want: Vec<_> = parts.iter().map(|&part| said(HEADERS_OF_TRACES, part)).collect();
            assert_eq!(ignored(&[(HEADERS, "x"), (HEADERS_OF_TRACES, text)]), want, "{text}");
        }
    }

    #[test]
    fn what_concerns_the_transport_is_taken_as_it_is() {
        let fine = [(TIMEOUT, "10"), (TIMEOUT_OF_TRACES, "2500"), (COMPRESSION, "GZIP"), (CA, "ca.pem")];
        let own = [(CERT, "cert.pem"), (KEY, "all.pem"), (KEY_OF_TRACES, "key.pem")];
        let read = of(Some("https://c:4317"), &[&fine[..], &own].concat());
        assert_eq!(read.ignored, [""; 0]);
        let settings = read.settings.unwrap();
        assert_eq!((settings.timeout, settings.ca), (Duration::from_millis(2500), Some("ca.pem".into())));
        assert_eq!(settings.identity, Some(("cert.pem".into(), "key.pem".into())));
    }

    #[test]
    fn the_resource_is_what_the_variables_say_of_the_program() {
        let resource = |variables: &[(&str, &str)]| {
            let mut resource = of(Some("http://c:4317"), variables).settings.unwrap().resource;
            resource.retain(|(key, _)| key != VERSION);
            resource
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(resource(&[]), [pair(SERVICE, "lictor")]);
        let attributes = (ATTRIBUTES, "service.name=a, env=pr%20od");
        assert_eq!(resource(&[attributes]), [pair(SERVICE, "a"), pair("env", "pr od")]);
        assert_eq!(resource(&[attributes, (NAME, "b")]), [pair("env", "pr od"), pair(SERVICE, "b")]);
    }
}
