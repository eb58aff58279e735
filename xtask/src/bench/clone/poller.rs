//! A client that asks a machine for a page again and again, and notes when it got one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between an answer and the next request.
const INTERVAL: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until it is dropped.
#[derive(Debug)]
pub(super) struct Poller {
    answers: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Poller {
    /// Asks `address` over a new connection each time. A request that is lost ends it.
    pub(super) fn start(address: &str) -> Self {
        let (answers, stop) = (Arc::<Mutex<Vec<Instant>>>::default(), Arc::<AtomicBool>::default());
        let (noted, told, address) = (answers.clone(), stop.clone(), address.to_owned());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) && page(&address).is_ok() {
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                std::thread::sleep(INTERVAL);
            }
        });
        Self { answers, stop, thread: Some(thread) }
    }

    /// The longest time between two answers while `act` went on, in milliseconds.
    pub(super) fn gap<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
        let begun = Instant::now();
        let done = act()?;
        let ended = Instant::now();
        // One more, which may have waited.
        std::thread::sleep(INTERVAL * 10);
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let around = |pair: &&[Instant]| pair[1] >= begun && pair[0] <= ended;
        let gaps = answers.windows(2).filter(around).map(|pair| pair[1] - pair[0]);
        match gaps.max() {
            Some(gap) if answers.last().is_some_and(|last| *last >= ended) => {
                Ok((done, gap.as_secs_f64() * 1000.0))
            }
            _ => bail!("a request to the source was lost"),
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the client came to a bad end");
        }
    }
}

fn page(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1") {
        bail!("no page: {answer:?}");
    }
    Ok(())
}

/// Waits until somebody answers there.
pub(super) fn wait_for(address: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while let Err(error) = page(address) {
        if Instant::now() > end {
            return Err(error);
        }
        std::thread::sleep(INTERVAL * 10);
    }
    Ok(())
}
