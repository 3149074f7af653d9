//! The PROXY protocol, versions 1 and 2: a balancer that passes bytes on says first for whom. Read from the socket to
//! its last byte and not one further, so that what follows, TLS or HTTP, finds the connection as if it were fresh.
//! Source: `HAProxy`'s specification, "The PROXY protocol, versions 1 & 2".

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use thiserror::Error;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{error::Elapsed, timeout},
};

use crate::proxy::is_trusted;

/// Why a connection that has to begin with a header does not.
#[derive(Debug, Error)]
pub enum ArrivalError {
    /// The bytes are none, or say what cannot be.
    #[error("expected a header of the PROXY protocol, since `proxy_protocol` is on and the peer is trusted")]
    NoHeader,
    /// It did not come in time.
    #[error("the header of the PROXY protocol did not come within `http.header_timeout`")]
    TimedOut(#[from] Elapsed),
    /// The connection ended before, or broke.
    #[error("the connection ended within the header of the PROXY protocol")]
    Broken(#[from] io::Error),
}

/// Finds out for whom `peer` connects, before anything else is read: a trusted one has to say it; from any other nothing
/// is read, since it could say anything.
///
/// # Errors
/// A trusted peer says nothing valid within `limit`: the connection is not to be served.
pub async fn arrive(
    stream: &mut TcpStream,
    peer: SocketAddr,
    trusted: &[IpNet],
    limit: Duration,
) -> Result<SocketAddr, ArrivalError> {
    if !is_trusted(trusted, peer.ip()) {
        return Ok(peer);
    }
    Ok(timeout(limit, read(stream)).await??.unwrap_or(peer))
}

async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ArrivalError> {
    let mut bytes = Vec::new();
    loop {
        let held = bytes.len();
        bytes.resize(held + STEP, 0);
        // What is behind the header stays in the socket.
        let came = stream.peek(&mut bytes[held..]).await?;
        if came == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        bytes.truncate(held + came);
        let header = parse(&bytes).map_err(|NoHeader| ArrivalError::NoHeader)?;
        let ours = header.map_or(bytes.len(), |header| header.length);
        stream.read_exact(&mut bytes[held..ours]).await?;
        if let Some(header) = header {
            return Ok(header.source);
        }
    }
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// Its bytes.
    length: usize,
    /// For whom the peer connects; `None`: for itself, or for nobody with an address.
    source: Option<SocketAddr>,
}

/// These bytes begin no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NoHeader;

/// The header at the front of `bytes`; `None` when all of them belong to one that has more.
fn parse(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(got, want)| got == want);
    if begins(SIGNATURE) {
        binary(bytes)
    } else if begins(WORD) {
        line(bytes)
    } else {
        Err(NoHeader)
    }
}

/// Version 1: a line of text. Source: §2.1.
fn line(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let Some(end) = bytes.iter().take(MAX_LINE).position(|&b| b == b'\n') else {
        return if bytes.len() < MAX_LINE { Ok(None) } else { Err(NoHeader) };
    };
    let line = bytes[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(WORD)).ok_or(NoHeader)?;
    let line = std::str::from_utf8(line).map_err(|_| NoHeader)?;
    let length = end + 1;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(Some(Header { length, source: None }));
    }
    let parts: Vec<_> = line.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = parts[..] else { return Err(NoHeader) };
    let address = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| NoHeader),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| NoHeader),
        _ => Err(NoHeader),
    };
    let source = SocketAddr::new(address(source)?, port(source_port)?);
    address(destination)?;
    port(destination_port)?;
    Ok(Some(Header { length, source: Some(source) }))
}

fn port(text: &str) -> Result<u16, NoHeader> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(NoHeader)
}

/// Version 2: bytes. Source: §2.2.
fn binary(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let mut rest = bytes.iter().skip(SIGNATURE.len()).copied();
    let Some(version) = rest.next() else { return Ok(None) };
    let local = match version {
        0x20 => true,
        0x21 => false,
        _ => return Err(NoHeader),
    };
    let (Some(family), Some(high), Some(low)) = (rest.next(), rest.next(), rest.next()) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_BLOCK {
        return Err(NoHeader);
    }
    let least = match family {
        _ if local => 0,
        TCP4 => 12,
        TCP6 => 36,
        UNSPECIFIED | UNIX_STREAM | UNIX_DATAGRAM => 0,
        _ => return Err(NoHeader),
    };
    if length < least {
        return Err(NoHeader);
    }
    let Some(block) = bytes.get(FIXED..FIXED + length) else { return Ok(None) };
    let source = match (local, family, block) {
        (false, TCP4, &[a, b, c, d, _, _, _, _, high, low, ..]) => {
            Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
        }
        (false, TCP6, block) => {
            let ip = block.first_chunk::<16>().ok_or(NoHeader)?;
            let port = block.get(32..).and_then(<[u8]>::first_chunk::<2>).ok_or(NoHeader)?;
            Some(SocketAddr::new(Ipv6Addr::from(*ip).into(), u16::from_be_bytes(*port)))
        }
        _ => None,
    };
    Ok(Some(Header { length: FIXED + length, source }))
}

const WORD: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its end included.
const MAX_LINE: usize = 107;
/// Of version 2: the signature, version and command, family, and the length of what follows.
const FIXED: usize = 16;
/// Of version 2: what follows. Certificates may be told in it, but they are not asked for.
const MAX_BLOCK: usize = 4096;
const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;
/// Bytes that are looked at in one go: more than almost any header has.
const STEP: usize = 256;

#[cfg(test)]
mod tests;
