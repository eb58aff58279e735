//! A client that asks a machine for a page again and again, and notes when it got one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Between an answer and the next request.
const INTERVAL: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until it is dropped.
#[derive(Debug)]
pub(super) struct Poller {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// When answers came, and how the first was lost that did not.
#[derive(Debug, Default)]
struct Seen {
    answers: Vec<Instant>,
    lost: Option<String>,
}

impl Poller {
    /// Asks `address` over a new connection each time. A request that is lost is the last.
    pub(super) fn start(address: &str) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (noted, told, address) = (seen.clone(), stop.clone(), address.to_owned());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let answer = page(&address);
                let mut seen = locked(&noted);
                match answer {
                    Ok(()) => seen.answers.push(Instant::now()),
                    Err(error) => return seen.lost = Some(format!("{error:#}")),
                }
                drop(seen);
                std::thread::sleep(INTERVAL);
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// The longest time between two answers while `act` went on, in milliseconds.
    pub(super) fn gap<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
        let begun = Instant::now();
        let done = act()?;
        let ended = Instant::now();
        // The request that was on its way may have waited the longest.
        self.wait_for_answer(ended)?;
        let seen = locked(&self.seen);
        let around = |pair: &&[Instant]| pair[1] >= begun && pair[0] <= ended;
        let gaps = seen.answers.windows(2).filter(around).map(|pair| pair[1] - pair[0]);
        let gap = gaps.max().context("the client asked for nothing")?;
        Ok((done, gap.as_secs_f64() * 1000.0))
    }

    /// Waits for an answer after that moment.
    fn wait_for_answer(&self, after: Instant) -> Result<()> {
        loop {
            let seen = locked(&self.seen);
            if let Some(lost) = &seen.lost {
                bail!("a request to the source was lost: {lost}");
            }
            if seen.answers.last().is_some_and(|last| *last >= after) {
                return Ok(());
            }
            drop(seen);
            // A request that is not answered fails in the end.
            std::thread::sleep(INTERVAL);
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

fn locked(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
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
pub(in crate::bench) fn wait_for(address: &str) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while let Err(error) = page(address) {
        if Instant::now() > end {
            return Err(error);
        }
        std::thread::sleep(INTERVAL * 10);
    }
    Ok(())
}
