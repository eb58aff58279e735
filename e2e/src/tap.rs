//! A way to a registry that can be closed.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Passes connections on to a server, and of its answers only so many bytes;
/// then the connections stay, and nothing comes any more.
#[derive(Debug)]
pub struct Tap {
    /// Where it listens: `127.0.0.1:PORT`.
    pub address: String,
    left: Arc<AtomicU64>,
    passed: Arc<AtomicU64>,
    asked: Arc<AtomicBool>,
}

impl Tap {
    /// Lets `bytes` of what the server at `address` answers through.
    #[must_use]
    pub fn before(address: &str, bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let own = listener.local_addr().expect("an address").to_string();
        let tap = Self {
            address: own,
            left: Arc::new(bytes.into()),
            passed: Arc::default(),
            asked: Arc::default(),
        };
        let (server, left, passed) = (address.to_owned(), tap.left.clone(), tap.passed.clone());
        let asked = tap.asked.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                asked.store(true, Ordering::Relaxed);
                let server = TcpStream::connect(&server).expect("the server listens");
                let (asking, answered) = (pair(&client), pair(&server));
                let (left, passed) = (left.clone(), passed.clone());
                thread::spawn(move || pass(asking.0, answered.0, |_| {}));
                thread::spawn(move || pass(answered.1, asking.1, |count| drip(&left, &passed, count)));
            }
        });
        tap
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        self.left.store(u64::MAX, Ordering::Relaxed);
    }

    /// Whether anybody has come.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// How many bytes of answers have come through.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

fn pair(stream: &TcpStream) -> (TcpStream, TcpStream) {
    let clone = || stream.try_clone().expect("a descriptor");
    (clone(), clone())
}

/// Passes bytes on until one side ends.
fn pass(mut from: TcpStream, mut to: TcpStream, gate: impl Fn(u64)) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        gate(count as u64);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}

/// Waits until so many bytes may pass.
fn drip(left: &AtomicU64, passed: &AtomicU64, count: u64) {
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count)).is_err() {
        thread::sleep(Duration::from_millis(10));
    }
    passed.fetch_add(count, Ordering::Relaxed);
}
