//! `probe`: sends a GET request inside the guest, to check whether a server responds.

use std::time::Duration;

use mimeo_agent_protocol::message::{Failure, FailureKind, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::{Context, failure};

/// Largest number of bytes to read for the status line.
const MAX_STATUS: usize = 1024;

/// A parsed `http` URL.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    host: &'a str,
    port: u16,
    path: &'a str,
}

/// Requests a URL, and replies with the status of the response.
pub(crate) async fn handle(url: &str, timeout_ms: u64) -> Result<Reply, Failure> {
    let Some(target) = parse_url(url) else {
        return Err(failure(FailureKind::Invalid, format!("not an http URL: {url}")));
    };
    match tokio::time::timeout(Duration::from_millis(timeout_ms), send_get(&target)).await {
        Ok(status) => status.map(|status| Reply::Probed { status }),
        Err(_) => Err(failure(FailureKind::System, format!("no answer from {url} within {timeout_ms} ms"))),
    }
}

async fn send_get(target: &Url<'_>) -> Result<u16, Failure> {
    let Url { host, port, path } = target;
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let mut server =
        TcpStream::connect((address, *port)).await.context(format!("connect to {host}:{port}"))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: mimeo\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    server.write_all(request.as_bytes()).await.context("send the request")?;
    let mut reply = Vec::new();
    while !reply.contains(&b'\n') && reply.len() < MAX_STATUS {
        if server.read_buf(&mut reply).await.context("read the reply")? == 0 {
            break;
        }
    }
    parse_status(&reply)
        .ok_or_else(|| failure(FailureKind::System, format!("{host}:{port} does not speak HTTP")))
}

fn parse_url(url: &str) -> Option<Url<'_>> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    if path.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (authority, 80),
    };
    (!host.is_empty()).then_some(Url { host, port, path })
}

fn parse_status(reply: &[u8]) -> Option<u16> {
    let line = reply.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_are_parsed() {
        assert_eq!(parse_url("http://a:81/x?y"), Some(Url { host: "a", port: 81, path: "/x?y" }));
        assert_eq!(parse_url("http://a"), Some(Url { host: "a", port: 80, path: "/" }));
        assert_eq!(parse_url("http://[::1]:8080/"), Some(Url { host: "[::1]", port: 8080, path: "/" }));
        assert_eq!(parse_url("http://[::1]/"), Some(Url { host: "[::1]", port: 80, path: "/" }));
        for invalid in ["https://a/", "http://", "http://a:b/", "http://a/\r\nX: y"] {
            assert_eq!(parse_url(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn only_http_replies_have_a_status() {
        assert_eq!(parse_status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(parse_status(b"SSH-2.0-x\r\n"), None);
    }

    proptest! {
        #[test]
        fn noise_never_panics(url: String, reply: Vec<u8>) {
            let _ = (parse_url(&url), parse_status(&reply));
        }
    }
}
