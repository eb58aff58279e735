//! A client that asks every 20 ms, and notices when nobody answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(20);
/// After this long an answer is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client that asks until it is told to stop.
#[derive(Debug)]
pub struct Poller {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Poller {
    /// Asks `address` for its page, over a new connection each time.
    #[must_use]
    pub fn pages(address: &str) -> Self {
        let address = address.to_owned();
        Self::start(move || page(&address))
    }

    /// Has `address` echo lines, all over one connection.
    #[must_use]
    pub fn lines(address: &str) -> Self {
        let mut stream = connect(address).expect("somebody listens");
        let mut lines = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut number = 0;
        Self::start(move || {
            number += 1;
            writeln!(stream, "{number}")?;
            let mut line = String::new();
            lines.read_line(&mut line)?;
            assert_eq!(line, format!("{number}\n"), "another line came back");
            Ok(())
        })
    }

    fn start(mut ask: impl FnMut() -> std::io::Result<()> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut took = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let asked = Instant::now();
                ask().unwrap_or_else(|error| panic!("request {} was lost: {error}", took.len() + 1));
                took.push(asked.elapsed());
                std::thread::sleep(INTERVAL);
            }
            took
        });
        Self { stop, thread }
    }

    /// How long each answer took; not one was lost.
    #[must_use]
    pub fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every request was answered")
    }
}

fn connect(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The whole page, or an error.
fn page(address: &str) -> std::io::Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1") && answer.ends_with("page\n") {
        return Ok(());
    }
    Err(std::io::Error::other(format!("no page: {answer:?}")))
}
