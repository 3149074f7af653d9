//! Which fields pass, which are removed, and which are ours.
//! Sources: RFC 7239 (Forwarded), RFC 9110 §7.6.3 (Via).

use std::{net::IpAddr, rc::Rc};

use http::{HeaderValue, Version, header};

use super::{
    client::{Caller, FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO},
    told::Told,
};
use crate::{
    http1::{encode::Block, framing::nominated},
    model::{fields::Fields, text, value::Value},
};

/// Which version a request came in, and that it came through us.
fn via(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0 lictor",
        Version::HTTP_2 => "2.0 lictor",
        _ => "1.1 lictor",
    }
}

/// The host that a request is for, as its client wrote it; empty where HTTP/1.0 left it out.
pub fn host(fields: &Fields) -> &str {
    fields.get(header::HOST).and_then(Value::to_str).unwrap_or_default()
}

/// Removes what belongs to the connection it came on, and what `Connection` says does, except the host: a request
/// without one is for nobody. To be done before any field of ours is set, which nobody may have removed.
pub fn strip_connection(fields: &mut Fields) {
    if !fields.named().any(|(name, _)| name.is_of_connection()) {
        return;
    }
    let nominated = nominated(fields);
    fields.retain(|name| !name.is_of_connection() && !nominated.contains(name));
}

/// Takes one hop off `Max-Forwards`, where it is a number; true if there was none left, so that the request ends here.
/// For OPTIONS alone: TRACE is refused. Source: RFC 9110 §7.6.2.
pub fn is_last_hop(fields: &mut Fields) -> bool {
    let told = fields.only(header::MAX_FORWARDS).and_then(Value::to_str);
    let Some(hops) = told.and_then(|text| text.parse::<u32>().ok()) else { return false };
    if let Some(left) = hops.checked_sub(1) {
        fields.insert(header::MAX_FORWARDS, left.into());
    }
    hops == 0
}

/// Makes a request's fields those that upstream shall see, except for ours, which it gives, with the `Host` that its
/// client wrote. The fields of the connection are gone already.
pub fn outbound(fields: &mut Fields, version: Version, caller: &Caller, told: &Told) -> (HeaderValue, Rc<Block>) {
    let host = fields.get_owned(header::HOST).unwrap_or(HeaderValue::from_static(""));
    // The host is one; what of the others is to be believed is known by now.
    fields.retain(|name| !name.is_claim());
    let write = || ours(caller, &host, version);
    let ours = if caller.is_peer() { told.fields(&host, version, write) } else { Rc::new(write()) };
    (host, ours)
}

/// What upstream is told of who asks for `host`, where nobody says for which one it was asked first; and of us.
fn ours(caller: &Caller, host: &HeaderValue, version: Version) -> Block {
    let asked_for = caller.host.as_ref().unwrap_or(host);
    let mut block = Block::with_room(ROOM + 2 * asked_for.len());
    block.add(&X_FORWARDED_FOR, |out| {
        text::ip(out, caller.address);
        for proxy in &caller.via {
            out.extend_from_slice(b", ");
            text::ip(out, *proxy);
        }
    });
    block.add(&X_FORWARDED_PROTO, |out| out.extend_from_slice(caller.scheme.as_bytes()));
    block.add(&FORWARDED, |out| {
        element(out, caller.address, asked_for, caller.scheme);
        for (i, proxy) in caller.via.iter().enumerate() {
            out.extend_from_slice(b", ");
            if i + 1 == caller.via.len() {
                element(out, *proxy, host, caller.came_by);
            } else {
                node(out, *proxy);
            }
        }
    });
    if !asked_for.is_empty() {
        block.add(&X_FORWARDED_HOST, |out| out.extend_from_slice(asked_for.as_bytes()));
    }
    block.add(&header::VIA, |out| out.extend_from_slice(via(version).as_bytes()));
    block
}

/// What these fields take beside the host, where no proxy speaks for the client and addresses are of version 4.
const ROOM: usize = 192;

/// What one hop says in `Forwarded`. Source: RFC 7239 §4; a host with a port stands in quotes.
fn element(out: &mut Vec<u8>, ip: IpAddr, host: &HeaderValue, scheme: &str) {
    node(out, ip);
    if let Some(host) = host.to_str().ok().filter(|host| !host.is_empty() && !host.contains(['"', '\\'])) {
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(host.as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b";proto=");
    out.extend_from_slice(scheme.as_bytes());
}

/// Source: RFC 7239 §6: an IPv6 address stands in brackets and quotes.
fn node(out: &mut Vec<u8>, ip: IpAddr) {
    let (before, behind): (&[u8], &[u8]) = if ip.is_ipv4() { (b"for=", b"") } else { (b"for=\"[", b"]\"") };
    out.extend_from_slice(before);
    text::ip(out, ip);
    out.extend_from_slice(behind);
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::{
        super::{Client, client::resolve, trail::Trail},
        *,
    };

    fn map(fields: &[(&str, &str)]) -> Fields {
        let field = |(n, v): &(&str, &str)| (HeaderName::try_from(*n).unwrap(), HeaderValue::try_from(*v).unwrap());
        let mut headers = Fields::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        headers
    }

    fn names(fields: &Fields) -> Vec<&str> {
        let mut names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// What upstream sees of a request by `client`, nobody being trusted.
    fn sent(fields: &mut Fields, client: &Client) -> HeaderValue {
        let caller = resolve(client, fields, &[]);
        let (host, ours) = outbound(fields, Version::HTTP_11, &caller, &client.told);
        fields.extend(ours.fields().iter().cloned());
        host
    }

    fn client() -> Client {
        Client::new("192.0.2.7:4711".parse().unwrap(), "http")
    }

    #[test]
    fn the_version_that_a_request_came_in_is_told_also_behind_others_of_its_connection() {
        let client = client();
        for (version, via) in [
            (Version::HTTP_11, "1.1 lictor"),
            (Version::HTTP_10, "1.0 lictor"),
            (Version::HTTP_10, "1.0 lictor"),
            (Version::HTTP_2, "2.0 lictor"),
            (Version::HTTP_11, "1.1 lictor"),
        ] {
            let mut fields = map(&[("host", "a")]);
            let caller = resolve(&client, &fields, &[]);
            let (_, ours) = outbound(&mut fields, version, &caller, &client.told);
            let told = ours.fields().iter().find(|(name, _)| name == header::VIA).map(|(_, value)| value.clone());
            assert_eq!(told.unwrap(), via, "{version:?}");
        }
    }

    #[test]
    fn fields_of_the_connection_and_what_it_nominates_are_removed() {
        let mut headers = map(&[
            ("connection", "close, X-Mine"),
            ("connection", " x-other "),
            ("x-mine", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);
        strip_connection(&mut headers);
        assert_eq!(names(&headers), ["accept"]);
    }

    #[test]
    fn a_clients_claims_are_replaced_by_what_the_socket_says() {
        let mut headers = map(&[
            ("host", "api.example.com:80"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-prefix", "/x"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("any_thing", "1"),
            ("cookie", "a=b"),
        ]);
        let host = sent(&mut headers, &client());
        assert_eq!(host, "api.example.com:80");
        assert_eq!(
            names(&headers),
            ["cookie", "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]
        );
        assert_eq!(headers.text("x-forwarded-for"), "192.0.2.7");
        assert_eq!(headers.text("x-forwarded-proto"), "http");
        assert_eq!(headers.text("x-forwarded-host"), "api.example.com:80");
        assert_eq!(headers.text("forwarded"), "for=192.0.2.7;host=\"api.example.com:80\";proto=http");
    }

    #[test]
    fn requests_of_one_connection_are_told_apart_by_their_host() {
        let client = client();
        for host in ["a", "a", "b", "a"] {
            let mut headers = map(&[("host", host)]);
            assert_eq!(sent(&mut headers, &client), host);
            assert_eq!(headers.text("x-forwarded-host"), host);
            assert_eq!(headers.text("forwarded"), format!("for=192.0.2.7;host=\"{host}\";proto=http"));
        }
    }

    #[test]
    fn nobody_can_have_our_fields_removed() {
        let nominated = "x-forwarded-for, forwarded, via, host, x-request-id, traceparent";
        let mut headers = map(&[("connection", nominated), ("host", "h"), ("x-request-id", "theirs")]);
        // In the order in which `handle` does it.
        strip_connection(&mut headers);
        let trail = Trail::begin(&mut headers, None);
        assert_eq!(sent(&mut headers, &client()), "h");
        assert!(
            ["x-forwarded-for", "forwarded", "via", "traceparent"].into_iter().all(|name| headers.contains_key(name))
        );
        assert!(trail.request_id != "theirs" && headers.text("x-request-id") == trail.request_id);
    }

    #[test]
    fn each_hop_is_counted_down_and_the_last_is_told() {
        for (told, last, left) in [
            (&[][..], false, None),
            (&[("max-forwards", "0")], true, Some("0")),
            (&[("max-forwards", "1")], false, Some("0")),
            (&[("max-forwards", "10")], false, Some("9")),
            (&[("max-forwards", "-1")], false, Some("-1")),
            (&[("max-forwards", "many")], false, Some("many")),
            (&[("max-forwards", "0"), ("max-forwards", "5")], false, Some("0")),
        ] {
            let mut headers = map(told);
            assert_eq!(is_last_hop(&mut headers), last, "{told:?}");
            assert_eq!(headers.get("max-forwards").map(|v| v.to_str().unwrap()), left, "{told:?}");
        }
    }

    #[test]
    fn an_ipv6_client_is_written_as_each_field_wants_it() {
        let mut headers = map(&[("host", "h")]);
        sent(&mut headers, &Client::new("[2001:db8::1]:9".parse().unwrap(), "https"));
        assert_eq!(headers.text("x-forwarded-for"), "2001:db8::1");
        assert_eq!(headers.text("forwarded"), "for=\"[2001:db8::1]\";host=\"h\";proto=https");
    }
}
