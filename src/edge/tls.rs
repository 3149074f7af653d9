//! A connection with TLS: the handshake, then the version that the client chose.

use std::{cell::Cell, io};

use rustls::ProtocolVersion;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{certs::Certificates, http1::Server, http2};
use crate::{proxy::Client, wire::Io};

/// Serves a connection to its end. Without a handshake it ends in silence, which says nothing to who tries ports.
pub async fn serve(
    server: &Server,
    certificates: &Certificates,
    stream: TcpStream,
    mut client: Client,
    idle: &Cell<bool>,
) {
    let limit = server.proxy.world().config.http.header_timeout;
    let stream = match timeout(limit, handshake(certificates, stream, idle)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(peer = %client.peer, %error, "no TLS handshake"),
        Err(_) => return tracing::debug!(peer = %client.peer, "no TLS handshake in time"),
    };
    let chosen = stream.get_ref().1.alpn_protocol();
    let (is_http2, is_http1) = (chosen == Some(b"h2"), chosen == Some(b"http/1.1"));
    client.tls = stream.get_ref().1.protocol_version().and_then(|version| match version {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    });
    let io = Io::tls(stream.into());
    if is_http2 {
        // In a box: the other version need not have room for it.
        Box::pin(http2::serve(server, io, bytes::Bytes::new(), client, idle)).await;
    } else {
        // Who has chosen may not take the other one after all. Source: RFC 9113 §3.3.
        server.serve(io, client, idle, !is_http1).await;
    }
}

async fn handshake(
    certificates: &Certificates,
    stream: TcpStream,
    idle: &Cell<bool>,
) -> io::Result<TlsStream<TcpStream>> {
    // Not `readable`, which may be so for nothing.
    stream.peek(&mut [0]).await?;
    idle.set(false); // who has begun is let in, also at the end
    TlsAcceptor::from(certificates.current()).accept(stream).await
}
