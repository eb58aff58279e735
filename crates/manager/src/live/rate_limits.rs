//! How many requests are answered at a time, of all users and of each, and how many in a second: a token bucket for each
//! user, and for each address that sends requests without a valid token.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api_error::{ApiError, Result};
use crate::caller::Peer;
use crate::settings::Limits;

/// Requests that are answered at a time.
const MAX_REQUESTS: usize = 4096;
/// Requests of one user at a time, with the streams and WebSockets that are open.
const MAX_REQUESTS_OF_USER: usize = MAX_REQUESTS / 4;
/// Seconds of requests that a user may send at once.
const BURST_SECONDS: f64 = 2.0;
/// Requests without a valid token, for each address and second.
const FAILURES_PER_SECOND: f64 = 10.0;
/// Requests without a valid token that an address may send at once.
const FAILURE_BURST: f64 = 30.0;
/// Buckets that are kept at most before full ones are dropped.
const MAX_BUCKETS: usize = 10_000;

/// Whose requests are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Sender {
    User(String),
    /// Requests for public routes.
    Public(Option<IpAddr>),
    /// Requests without a valid token.
    Failed(Option<IpAddr>),
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: f64,
    burst: f64,
}

/// The limits, and what was used of them.
#[derive(Debug)]
pub(crate) struct RateLimits {
    user_rate: Option<Rate>,
    buckets: Mutex<HashMap<Sender, Bucket>>,
    slots: Arc<Semaphore>,
    in_use: Arc<Mutex<HashMap<String, usize>>>,
}

/// One of the requests of a user, until it is dropped.
#[derive(Debug)]
pub(crate) struct UserSlot {
    user: String,
    in_use: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for UserSlot {
    fn drop(&mut self) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = in_use.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                in_use.remove(&self.user);
            }
        }
    }
}

impl RateLimits {
    pub(crate) fn new(limits: &Limits) -> Self {
        let per_second = f64::from(limits.requests_per_second);
        let rate = Rate { per_second, burst: per_second * BURST_SECONDS };
        Self {
            user_rate: (limits.requests_per_second > 0).then_some(rate),
            buckets: Mutex::default(),
            slots: Arc::new(Semaphore::new(MAX_REQUESTS)),
            in_use: Arc::default(),
        }
    }

    /// Takes one of the requests that are answered at a time.
    pub(crate) fn take_request_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// Takes one of the requests that a user may have at a time.
    pub(crate) fn take_user_slot(&self, user: &str) -> Result<UserSlot> {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let count = in_use.entry(user.to_owned()).or_default();
        if *count >= MAX_REQUESTS_OF_USER {
            let detail = format!(
                "{count} requests and streams of your user are open: more are not answered at a time"
            );
            let error = ApiError::new(429, "too-many-open-requests", detail).with_retry_after(1);
            return Err(error.with_hint("close streams that are not needed"));
        }
        *count += 1;
        Ok(UserSlot { user: user.to_owned(), in_use: self.in_use.clone() })
    }

    /// Counts a request of a user.
    pub(crate) fn check_user(&self, id: &str) -> Result<()> {
        let Some(rate) = self.user_rate else { return Ok(()) };
        self.check(Sender::User(id.to_owned()), rate)
    }

    /// Counts a request for a public route.
    pub(crate) fn check_public(&self, peer: Option<Peer>) -> Result<()> {
        let Some(rate) = self.user_rate else { return Ok(()) };
        self.check(Sender::Public(address(peer)), rate)
    }

    /// Counts a request without a valid token. Requests with a valid one are never refused for those of others.
    pub(crate) fn check_failed(&self, peer: Option<Peer>) -> Result<()> {
        if self.user_rate.is_none() {
            return Ok(());
        }
        let rate = Rate { per_second: FAILURES_PER_SECOND, burst: FAILURE_BURST };
        self.check(Sender::Failed(address(peer)), rate)
    }

    fn check(&self, sender: Sender, rate: Rate) -> Result<()> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if buckets.len() >= MAX_BUCKETS {
            // A bucket that has rested for longer than a burst is full.
            buckets.retain(|_, bucket| now.duration_since(bucket.at).as_secs_f64() < 60.0);
        }
        let bucket = buckets.entry(sender).or_insert(Bucket { tokens: rate.burst, at: now });
        bucket.take(rate, now).map_err(refused)
    }
}

impl Bucket {
    /// Takes a token; otherwise returns the seconds until there is one.
    fn take(&mut self, rate: Rate, now: Instant) -> std::result::Result<(), f64> {
        let refill = now.duration_since(self.at).as_secs_f64() * rate.per_second;
        self.tokens = (self.tokens + refill).min(rate.burst);
        self.at = now;
        if self.tokens < 1.0 {
            return Err((1.0 - self.tokens) / rate.per_second);
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

fn refused(seconds: f64) -> ApiError {
    // At least one: the header has whole seconds.
    let seconds = seconds.ceil().clamp(1.0, 60.0) as u32;
    ApiError::new(429, "rate-limited", "too many requests").with_retry_after(seconds)
}

/// The address that is counted: of an IPv6 address its network, of which one host has all.
fn address(peer: Option<Peer>) -> Option<IpAddr> {
    let Some(Peer::Tcp(address)) = peer else { return None };
    Some(match address.ip().to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & !u128::from(u64::MAX)).into()),
        ip => ip,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_is_refilled() {
        let rate = Rate { per_second: 10.0, burst: 2.0 };
        let begin = Instant::now();
        let mut bucket = Bucket { tokens: rate.burst, at: begin };
        assert_eq!((bucket.take(rate, begin), bucket.take(rate, begin)), (Ok(()), Ok(())));
        assert_eq!(bucket.take(rate, begin), Err(0.1));
        let later = begin + Duration::from_millis(100);
        assert_eq!(bucket.take(rate, later), Ok(()));
        assert!(bucket.take(rate, later).is_err());
        let much_later = begin + Duration::from_secs(1000);
        assert_eq!((bucket.take(rate, much_later), bucket.take(rate, much_later)), (Ok(()), Ok(())));
        assert!(bucket.take(rate, much_later).is_err());
    }

    #[test]
    fn a_user_takes_a_part_of_the_requests() {
        let limits = RateLimits::new(&Limits::default());
        let take = |user: &str| limits.take_user_slot(user);
        let mut slots: Vec<_> = (0..MAX_REQUESTS_OF_USER).map(|_| take("alice").expect("a slot")).collect();
        let error = take("alice").expect_err("too many");
        assert_eq!((error.problem().status, error.problem().code.as_str()), (429, "too-many-open-requests"));
        assert_eq!(error.retry_after(), Some(1));
        let of_bob = take("bob").expect("a slot of another user");
        slots.pop();
        slots.push(take("alice").expect("a slot again"));
        drop((slots, of_bob));
        assert!(limits.in_use.lock().expect("not poisoned").is_empty());
    }

    #[test]
    fn hosts_of_one_ipv6_network_share_a_bucket() {
        let peer = |text: &str| address(Some(Peer::Tcp(text.parse().expect("an address"))));
        assert_eq!(peer("[2001:db8::1]:1"), peer("[2001:db8::2]:2"));
        assert_ne!(peer("[2001:db8::1]:1"), peer("[2001:db8:0:1::1]:1"));
        assert_eq!(peer("[::ffff:10.0.0.1]:1"), peer("10.0.0.1:2"));
        assert_ne!(peer("10.0.0.1:1"), peer("10.0.0.2:1"));
        assert_eq!(address(Some(Peer::Unix)), None);
    }
}
