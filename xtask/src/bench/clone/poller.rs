//! A client that requests a page repeatedly and records when responses arrive.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Between a response and the next request.
const INTERVAL: Duration = Duration::from_millis(2);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Sends requests until it is dropped.
#[derive(Debug)]
pub(super) struct Poller {
    responses: Arc<Mutex<Responses>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The times of all responses, and the error of the first lost request.
#[derive(Debug, Default)]
struct Responses {
    times: Vec<Instant>,
    lost: Option<String>,
}

impl Poller {
    /// Requests the page at `address`, over a new connection each time. A lost request is the last one.
    pub(super) fn start(address: &str) -> Self {
        let (responses, stop) = (Arc::<Mutex<Responses>>::default(), Arc::<AtomicBool>::default());
        let (recorded, stopped, address) = (responses.clone(), stop.clone(), address.to_owned());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let response = fetch_page(&address);
                let mut responses = lock(&recorded);
                match response {
                    Ok(()) => responses.times.push(Instant::now()),
                    Err(error) => return responses.lost = Some(format!("{error:#}")),
                }
                drop(responses);
                std::thread::sleep(INTERVAL);
            }
        });
        Self { responses, stop, thread: Some(thread) }
    }

    /// The longest time between two responses while `act` runs, in milliseconds.
    pub(super) fn gap<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
        let begun = Instant::now();
        let done = act()?;
        let ended = Instant::now();
        // The request in flight may have the longest wait.
        self.wait_for_response(ended)?;
        let responses = lock(&self.responses);
        let around = |pair: &&[Instant]| pair[1] >= begun && pair[0] <= ended;
        let gaps = responses.times.windows(2).filter(around).map(|pair| pair[1] - pair[0]);
        let gap = gaps.max().context("the client sent no request")?;
        Ok((done, gap.as_secs_f64() * 1000.0))
    }

    /// Waits for a response after that time.
    fn wait_for_response(&self, after: Instant) -> Result<()> {
        loop {
            let responses = lock(&self.responses);
            if let Some(lost) = &responses.lost {
                bail!("a request to the source was lost: {lost}");
            }
            if responses.times.last().is_some_and(|last| *last >= after) {
                return Ok(());
            }
            drop(responses);
            // A request without a response fails after its timeout.
            std::thread::sleep(INTERVAL);
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the client panicked");
        }
    }
}

fn lock(responses: &Mutex<Responses>) -> MutexGuard<'_, Responses> {
    responses.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fetch_page(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
    stream.set_nodelay(true)?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    if !response.starts_with("HTTP/1") {
        bail!("no page: {response:?}");
    }
    Ok(())
}

/// Waits until the page is served at `address`.
pub(in crate::bench) fn wait_for(address: &str) -> Result<()> {
    let end = Instant::now() + RESPONSE_TIMEOUT;
    while let Err(error) = fetch_page(address) {
        if Instant::now() > end {
            return Err(error);
        }
        std::thread::sleep(INTERVAL * 10);
    }
    Ok(())
}
