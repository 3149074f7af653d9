//! A client that keeps one connection and repeats nothing by itself, so that a lost request is seen.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::PATIENCE;

/// One connection, and what was read of it.
pub struct Caller {
    stream: TcpStream,
    input: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Heard {
    pub status: u16,
    pub body: String,
    /// The connection is not to be used again.
    pub closes: bool,
}

impl Caller {
    /// A new connection.
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect(to).await?, input: Vec::new() })
    }

    /// Sends a request, with a body where that is not empty, and reads its answer, which has a length.
    pub async fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<Heard> {
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{length}\r\n{body}");
        self.stream.write_all(request.as_bytes()).await?;
        timeout(PATIENCE, self.hear()).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn hear(&mut self) -> io::Result<Heard> {
        let end = loop {
            if let Some(end) = self.input.windows(4).position(|at| at == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.input.drain(..end).collect()).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let length = length.unwrap_or_else(|| panic!("an answer without a length: {head}"));
        while self.input.len() < length {
            self.more().await?;
        }
        let body = String::from_utf8(self.input.drain(..length).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        Ok(Heard { status, body, closes: head.contains("\r\nconnection: close\r\n") })
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
