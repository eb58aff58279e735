//! A client that sends a request every 20 ms and fails when a response is lost.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::until;

const INTERVAL: Duration = Duration::from_millis(20);
/// A response that takes longer counts as lost.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that sends requests until it is stopped.
#[derive(Debug)]
pub struct Poller {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Poller {
    /// Requests the page at `address`, over a new connection each time.
    #[must_use]
    pub fn pages(address: &str) -> Self {
        let address = address.to_owned();
        Self::start(move || fetch_page(&address))
    }

    /// Waits until the echo service at `address` answers, and then sends lines to it, all over one connection.
    #[must_use]
    pub fn lines(address: &str) -> Self {
        let mut client = until("the echo service answers", || EchoClient::start(address).ok());
        Self::start(move || client.exchange_line())
    }

    fn start(mut request: impl FnMut() -> std::io::Result<()> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut took = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                request().unwrap_or_else(|error| panic!("request {} was lost: {error}", took.len() + 1));
                took.push(begun.elapsed());
                std::thread::sleep(INTERVAL);
            }
            took
        });
        Self { stop, thread }
    }

    /// Stops; returns the time of each response. Panics if one was lost.
    #[must_use]
    pub fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every request was answered")
    }
}

/// A connection to an echo service.
struct EchoClient {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
    number: u64,
}

impl EchoClient {
    /// Connects and exchanges the first line: a forwarded port accepts before the service in the guest listens.
    fn start(address: &str) -> std::io::Result<Self> {
        let stream = connect(address)?;
        let lines = BufReader::new(stream.try_clone()?);
        let mut client = Self { stream, lines, number: 0 };
        client.exchange_line()?;
        Ok(client)
    }

    fn exchange_line(&mut self) -> std::io::Result<()> {
        self.number += 1;
        writeln!(self.stream, "{}", self.number)?;
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        assert_eq!(line, format!("{}\n", self.number), "unexpected echo");
        Ok(())
    }
}

fn connect(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Fails unless the whole page arrives.
fn fetch_page(address: &str) -> std::io::Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    if response.starts_with("HTTP/1") && response.ends_with("page\n") {
        return Ok(());
    }
    Err(std::io::Error::other(format!("no page: {response:?}")))
}
