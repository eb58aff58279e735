//! `--memory-swap`: the sum of memory and swap.

use crate::error::CliError;
use crate::values::size;

/// Parses podman's forms. A guest has no swap, so a sum that includes some is refused.
pub(super) fn parse(text: &str, memory_bytes: u64) -> Result<i64, CliError> {
    if text == "-1" {
        return Ok(-1);
    }
    let total = size(text)?;
    if total != 0 && total < memory_bytes {
        return Err(CliError::usage(format!(
            "--memory-swap {text} is less than --memory: it is the sum of memory and swap"
        )));
    }
    if total > memory_bytes {
        return Err(CliError::usage(format!(
            "cannot give the machine swap: its guest has none: use --memory {text}, or --memory-swap -1"
        )));
    }
    i64::try_from(total).map_err(|_| CliError::usage(format!("--memory-swap {text} is too large")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sums_without_swap_are_possible() {
        let parsed = |text| parse(text, 512 << 20).ok();
        assert_eq!(parsed("-1"), Some(-1));
        assert_eq!(parsed("0"), Some(0));
        assert_eq!(parsed("512m"), Some(512 << 20));
        for bad in ["1g", "256m", "-2", "x", ""] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
