//! The machines whose end was announced.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// How long before a machine's end the event `machine.expiring` comes.
pub(crate) const NOTICE: Duration = Duration::from_secs(60);

/// The machines of which the event `machine.expiring` was recorded.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    given: Mutex<HashMap<String, Timestamp>>,
}

impl Notices {
    /// Returns whether there was no notice yet of this machine's end at this time.
    pub(crate) fn begin(&self, machine: &str, time: Timestamp) -> bool {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        given.retain(|_, time| *time + NOTICE > now);
        given.insert(machine.to_owned(), time) != Some(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_given_once_for_each_end() {
        let (notices, time) = (Notices::default(), Timestamp::now() + Duration::from_secs(30));
        assert!(notices.begin("1", time));
        assert!(!notices.begin("1", time));
        assert!(notices.begin("1", time + Duration::from_secs(30)));
    }
}
