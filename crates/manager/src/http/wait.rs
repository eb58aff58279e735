//! `?wait=SECONDS`: how long a request waits for the operation that it starts.

use std::time::Duration;

use super::query::Query;
use super::{ApiError, Result};

/// The longest wait.
const MAX_SECONDS: f64 = 300.0;

/// Takes `name`, a number of seconds.
pub(crate) fn seconds(query: &mut Query, name: &str, default: f64) -> Result<Duration> {
    let seconds = query.take_parsed::<f64>(name)?.unwrap_or(default);
    if (0.0..=MAX_SECONDS).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(ApiError::invalid(format!("{name} {seconds} is not between 0 and {MAX_SECONDS} seconds")))
}
