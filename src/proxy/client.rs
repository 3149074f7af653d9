//! Who a request is from, as far as those who say so are believed. Pure: the peer, the fields and the trusted networks
//! in; address, scheme and host out. What goes upstream of it is written in `headers`.
//! Sources: RFC 7239 (Forwarded); `X-Forwarded-*` has no document, and is read as most proxies write it.

use std::{
    borrow::Cow,
    collections::VecDeque,
    net::{IpAddr, Ipv6Addr},
};

use http::{HeaderName, HeaderValue, header};
use ipnet::IpNet;

use super::Client;
use crate::{
    http1::host,
    model::{fields::Fields, value::Value},
};

/// The field that most proxies add the peer's address to.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The field of the scheme that the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The field of the host that the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The field that has all three, for each hop.
pub const FORWARDED: HeaderName = header::FORWARDED;

/// Who asks, and how they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The client's address: the peer's, or the one that trusted proxies tell.
    pub address: IpAddr,
    /// `http` or `https`, as the client used it.
    pub scheme: &'static str,
    /// The host and port that trusted proxies say the client asked for; `None`: nobody who is believed said so.
    pub host: Option<HeaderValue>,
    /// The trusted proxies on the way, the client's side first, the peer last; empty: the peer is the client.
    pub via: Vec<IpAddr>,
    /// `http` or `https`, as it came here.
    pub came_by: &'static str,
}

impl Caller {
    /// Whether it is the peer itself, with nothing said of it by others.
    #[must_use]
    pub fn is_peer(&self) -> bool {
        self.via.is_empty() && self.host.is_none() && self.scheme == self.came_by
    }
}

/// Proxies that a request may have come through; further ones are not looked at.
const MAX_HOPS: usize = 32;

/// Whether `address` is in one of these networks. An IPv4 address counts as such also where it comes as IPv6.
#[must_use]
pub fn is_trusted(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Finds out who asks. To be done before anything is removed on behalf of `Connection`: a client must not be able to
/// have removed what a trusted proxy says of it.
#[must_use]
pub fn resolve(client: &Client, fields: &Fields, trusted: &[IpNet]) -> Caller {
    let peer = client.peer.ip().to_canonical();
    let mut caller =
        Caller { address: peer, scheme: client.scheme, host: None, via: Vec::new(), came_by: client.scheme };
    if !is_trusted(trusted, peer) {
        return caller;
    }
    // One family of fields alone: a proxy that writes one lets what a client wrote in the other pass.
    let (hops, proto, host) = if fields.contains_key(X_FORWARDED_FOR) || !fields.contains_key(FORWARDED) {
        let told = fields.get_all(X_FORWARDED_FOR).rev().flat_map(|line| entries(line).map(address));
        let hops = believed(peer, trusted, told);
        let [proto, host] = [X_FORWARDED_PROTO, X_FORWARDED_HOST].map(|name| beside(fields, &name, hops.len()));
        (hops, proto.map(Cow::Borrowed), host.map(Cow::Borrowed))
    } else {
        let told: Vec<_> = fields.get_all(FORWARDED).rev().flat_map(elements).take(MAX_HOPS).collect();
        let hops = believed(peer, trusted, told.iter().map(|element| element.address));
        let element = told.into_iter().nth(hops.len().saturating_sub(1)).unwrap_or_default();
        (hops, element.proto, element.host)
    };
    caller.scheme = proto.and_then(|proto| scheme(&proto)).unwrap_or(client.scheme);
    caller.host = host.filter(|host| host::validate(host).is_ok()).and_then(|host| HeaderValue::from_bytes(&host).ok());
    if let Some((farthest, between)) = hops.split_last() {
        caller.address = *farthest;
        caller.via = between.iter().rev().copied().chain([peer]).collect();
    }
    caller
}

/// Walks from the peer towards the client: who is trusted is believed about who came before.
fn believed(peer: IpAddr, trusted: &[IpNet], told: impl Iterator<Item = Option<IpAddr>>) -> Vec<IpAddr> {
    let mut hops = Vec::new();
    for address in told.take(MAX_HOPS) {
        let Some(address) = address.filter(|_| is_trusted(trusted, *hops.last().unwrap_or(&peer))) else { break };
        hops.push(address);
    }
    hops
}

/// The entries of a list, from the right.
fn entries(line: Value<'_>) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().rsplit(|&b| b == b',').map(<[u8]>::trim_ascii)
}

/// The entry that was written together with the last of `hops`: proxies add theirs on the right, or write but one.
fn beside<'h>(fields: &'h Fields, name: &HeaderName, hops: usize) -> Option<&'h [u8]> {
    let told: Vec<_> = fields.get_all(name).rev().flat_map(entries).take(MAX_HOPS).collect();
    match told.as_slice() {
        [only] => Some(only),
        several => several.get(hops.saturating_sub(1)).copied(),
    }
}

fn scheme(text: &[u8]) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|known| text.eq_ignore_ascii_case(known.as_bytes()))
}

/// An address in any spelling, its port left out: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = if let Some(literal) = text.strip_prefix('[') {
        let (address, port) = literal.split_once(']')?;
        if !port.is_empty() && !port.strip_prefix(':').is_some_and(is_port) {
            return None;
        }
        address.parse::<Ipv6Addr>().ok()?.into()
    } else {
        match text.split_once(':') {
            Some((address, port)) if !port.contains(':') && is_port(port) => IpAddr::V4(address.parse().ok()?),
            _ => text.parse::<IpAddr>().ok()?,
        }
    };
    Some(address.to_canonical())
}

/// Digits, or a name that hides them. Source: RFC 7239 §6.
fn is_port(text: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let is_number = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok();
    is_number || text.strip_prefix('_').is_some_and(is_name)
}

/// What one hop says in `Forwarded`.
#[derive(Debug, Default)]
struct Element<'h> {
    address: Option<IpAddr>,
    proto: Option<Cow<'h, [u8]>>,
    host: Option<Cow<'h, [u8]>>,
}

/// The elements of a line of `Forwarded`, from the right, as many as may matter. A line that is malformed anywhere is one that says nothing:
/// a quote that a client left open could make anything of what a proxy added behind it.
fn elements(line: Value<'_>) -> VecDeque<Element<'_>> {
    let mut rest = line.as_bytes();
    let mut elements = VecDeque::new();
    loop {
        let Some((element, behind)) = element(rest) else { return VecDeque::from([Element::default()]) };
        elements.push_front(element);
        elements.truncate(MAX_HOPS);
        match behind {
            Some(behind) => rest = behind,
            None => return elements,
        }
    }
}

const NAMES: [&str; 3] = ["for", "proto", "host"];

type Read<'h> = (Element<'h>, Option<&'h [u8]>);

/// Reads up to the next comma; gives what is behind it. Source: RFC 7239 §4.
fn element(mut rest: &[u8]) -> Option<Read<'_>> {
    let mut element = Element::default();
    let mut told = [false; NAMES.len()];
    loop {
        rest = rest.trim_ascii_start();
        let equals = rest.iter().position(|&b| !is_token(b)).filter(|&at| at > 0 && rest[at] == b'=')?;
        let name = NAMES.iter().position(|name| name.as_bytes().eq_ignore_ascii_case(&rest[..equals]));
        let (value, behind) = value(&rest[equals + 1..])?;
        // None may be told twice.
        if name.is_some_and(|name| std::mem::replace(&mut told[name], true)) {
            return None;
        }
        match name {
            Some(0) => element.address = address(&value),
            Some(1) => element.proto = Some(value),
            Some(2) => element.host = Some(value),
            _ => {}
        }
        match behind.trim_ascii_start() {
            [] => return Some((element, None)),
            [b',', behind @ ..] => return Some((element, Some(behind))),
            [b';', behind @ ..] => rest = behind,
            _ => return None,
        }
    }
}

/// A value with or without quotes, and what is behind it. Addresses and hosts are taken without the quotes that their
/// colons and brackets call for: many proxies leave them out.
fn value(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|&b| !(is_token(b) || b"[]:".contains(&b))).unwrap_or(text.len());
        return (end > 0).then(|| (Cow::Borrowed(&text[..end]), &text[end..]));
    };
    let mut plain = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b'"' => return Some((Cow::Owned(plain), &quoted[at + 1..])),
            b'\\' => plain.push(*bytes.next()?.1),
            byte => plain.push(byte),
        }
    }
    None
}

/// Source: RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
