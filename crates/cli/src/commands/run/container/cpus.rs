//! `--cpus`: a decimal number of CPUs.

use crate::error::CliError;

/// Billionths of a CPU.
const NANOS: u64 = 1_000_000_000;
/// The smallest share of a CPU that the kernel can enforce: 1 ms per 100 ms.
const MIN_NANOS: u64 = 10_000_000;

/// The CPUs of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpus {
    /// Its vCPUs: the number, rounded up.
    pub(crate) vcpus: u32,
    /// The CPU time of the container in billionths of a CPU, where it is less than the vCPUs.
    pub(crate) quota_nanos: Option<u64>,
}

/// Parses a number such as `2` or `0.5`.
pub(crate) fn parse(text: &str) -> Result<Cpus, CliError> {
    let nanos = nanos(text).ok_or_else(|| {
        CliError::usage(format!("--cpus {text:?} is not a number of CPUs, such as 2 or 0.5"))
    })?;
    if nanos < MIN_NANOS {
        return Err(CliError::usage(format!("--cpus must be at least 0.01, not {text}")));
    }
    let vcpus = u32::try_from(nanos.div_ceil(NANOS))
        .map_err(|_| CliError::usage(format!("--cpus {text} is too large")))?;
    let quota_nanos = (!nanos.is_multiple_of(NANOS)).then_some(nanos);
    Ok(Cpus { vcpus, quota_nanos })
}

fn nanos(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let fraction: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    whole.checked_mul(NANOS)?.checked_add(fraction.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpus_are_rounded_up_and_the_rest_is_a_quota() {
        let cpus = |text| parse(text).map(|cpus| (cpus.vcpus, cpus.quota_nanos)).ok();
        assert_eq!(cpus("2"), Some((2, None)));
        assert_eq!(cpus("1.0"), Some((1, None)));
        assert_eq!(cpus("0.5"), Some((1, Some(500_000_000))));
        assert_eq!(cpus(".25"), Some((1, Some(250_000_000))));
        assert_eq!(cpus("1.5"), Some((2, Some(1_500_000_000))));
        for bad in ["", ".", "0", "0.0", "0.001", "-1", "1e3", "x", "1.2.3", "99999999999999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
