//! A TCP proxy that stalls after a number of bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Forwards connections to a server, and a limited number of bytes of its responses.
/// At the limit the connections stay open and no more data arrives.
#[derive(Debug)]
pub struct StallingProxy {
    /// The listen address: `127.0.0.1:PORT`.
    pub address: String,
    budget: Arc<AtomicU64>,
    forwarded: Arc<AtomicU64>,
    contacted: Arc<AtomicBool>,
}

impl StallingProxy {
    /// Forwards at most `bytes` of the responses of the server at `address`.
    #[must_use]
    pub fn new(address: &str, bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let proxy = Self {
            address: listener.local_addr().expect("an address").to_string(),
            budget: Arc::new(bytes.into()),
            forwarded: Arc::default(),
            contacted: Arc::default(),
        };
        let (server, budget, forwarded) = (address.to_owned(), proxy.budget.clone(), proxy.forwarded.clone());
        let contacted = proxy.contacted.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                contacted.store(true, Ordering::Relaxed);
                let server = TcpStream::connect(&server).expect("the server listens");
                let (client, server) = (clone_twice(&client), clone_twice(&server));
                let (budget, forwarded) = (budget.clone(), forwarded.clone());
                thread::spawn(move || forward(client.0, server.0, |_| {}));
                thread::spawn(move || {
                    forward(server.1, client.1, |count| wait_for_budget(&budget, &forwarded, count));
                });
            }
        });
        proxy
    }

    /// Removes the limit.
    pub fn lift_limit(&self) {
        self.budget.store(u64::MAX, Ordering::Relaxed);
    }

    /// Whether a client has connected.
    #[must_use]
    pub fn was_contacted(&self) -> bool {
        self.contacted.load(Ordering::Relaxed)
    }

    /// The number of response bytes forwarded so far.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }
}

fn clone_twice(stream: &TcpStream) -> (TcpStream, TcpStream) {
    let clone = || stream.try_clone().expect("a descriptor");
    (clone(), clone())
}

/// Forwards bytes until one side closes.
fn forward(mut from: TcpStream, mut to: TcpStream, gate: impl Fn(u64)) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        gate(count as u64);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The peer may have closed the connection already.
    to.shutdown(Shutdown::Both).ok();
}

/// Blocks until the budget covers `count` more bytes.
fn wait_for_budget(budget: &AtomicU64, forwarded: &AtomicU64, count: u64) {
    let take = |left: u64| left.checked_sub(count);
    while budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
        thread::sleep(Duration::from_millis(10));
    }
    forwarded.fetch_add(count, Ordering::Relaxed);
}
