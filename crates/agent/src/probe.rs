//! `probe`: a GET inside the guest, to learn whether a server answers.

use std::time::Duration;

use mimeo_agent_protocol::message::{Failure, FailureKind, Reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::failure::{Context, failure};

/// Longest status line that is waited for.
const MAX_STATUS: usize = 1024;

/// An `http` URL, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    host: &'a str,
    port: u16,
    path: &'a str,
}

/// Gets a URL and answers with the status of the response.
pub(crate) async fn act(url: &str, timeout_ms: u64) -> Result<Reply, Failure> {
    let Some(target) = parse(url) else {
        return Err(failure(FailureKind::Invalid, format!("not an http URL: {url}")));
    };
    match tokio::time::timeout(Duration::from_millis(timeout_ms), get(&target)).await {
        Ok(status) => status.map(|status| Reply::Probed { status }),
        Err(_) => Err(failure(FailureKind::System, format!("no answer from {url} within {timeout_ms} ms"))),
    }
}

async fn get(target: &Url<'_>) -> Result<u16, Failure> {
    let Url { host, port, path } = target;
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let mut server =
        TcpStream::connect((address, *port)).await.context(format!("connect to {host}:{port}"))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: mimeo\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    server.write_all(request.as_bytes()).await.context("send the request")?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') && answer.len() < MAX_STATUS {
        if server.read_buf(&mut answer).await.context("read the answer")? == 0 {
            break;
        }
    }
    status(&answer).ok_or_else(|| failure(FailureKind::System, format!("{host}:{port} does not speak HTTP")))
}

fn parse(url: &str) -> Option<Url<'_>> {
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

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
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
    fn urls_are_taken_apart() {
        assert_eq!(parse("http://a:81/x?y"), Some(Url { host: "a", port: 81, path: "/x?y" }));
        assert_eq!(parse("http://a"), Some(Url { host: "a", port: 80, path: "/" }));
        assert_eq!(parse("http://[::1]:8080/"), Some(Url { host: "[::1]", port: 8080, path: "/" }));
        assert_eq!(parse("http://[::1]/"), Some(Url { host: "[::1]", port: 80, path: "/" }));
        for bad in ["https://a/", "http://", "http://a:b/", "http://a/\r\nX: y"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_http_has_a_status() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n"), Some(204));
        assert_eq!(status(b"SSH-2.0-x\r\n"), None);
    }

    proptest! {
        #[test]
        fn noise_never_panics(url: String, answer: Vec<u8>) {
            let _ = (parse(&url), status(&answer));
        }
    }
}
