//! Samples and their exact percentiles; there are a few hundred at most.

use serde::{Deserialize, Serialize};

/// Milliseconds, in the order of measurement.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    pub(super) fn push(&mut self, millis: f64) {
        // Rounded to microseconds, which is finer than the precision of a process start.
        self.0.push((millis * 1000.0).round() / 1000.0);
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// All samples, in milliseconds.
    pub(super) fn all(&self) -> &[f64] {
        &self.0
    }

    /// The smallest sample that at least `percent` of all samples do not exceed.
    pub(super) fn percentile(&self, percent: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::Samples;

    #[test]
    fn percentiles_are_samples() {
        let samples = Samples((1..=10).rev().map(f64::from).collect());
        let at = |percent| samples.percentile(percent);
        assert_eq!([at(0.0), at(50.0), at(90.0), at(99.0), at(100.0)], [1.0, 5.0, 9.0, 10.0, 10.0]);
    }
}
