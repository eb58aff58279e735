//! Converts signals between names and numbers.

use mimeo_image::ImageConfig;

use crate::machine::MachineSpec;

/// The default stop signal.
const SIGTERM: i32 = 15;

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The text is not a signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a signal: use a name such as TERM or SIGTERM, or a number from 1 to 64")]
pub struct ParseSignalError(String);

/// Parses a signal that is given as `TERM`, `SIGTERM` or `15`, into Linux's number.
///
/// # Errors
/// If there is no such signal.
pub fn parse(text: &str) -> Result<i32, ParseSignalError> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return Ok(index as i32 + 1);
    }
    match text.parse() {
        Ok(number @ 1..=64) => Ok(number),
        _ => Err(ParseSignalError(text.to_owned())),
    }
}

/// Returns the signal's name, such as `SIGTERM`.
#[must_use]
pub fn name(number: i32) -> String {
    match usize::try_from(number - 1).ok().and_then(|index| NAMES.get(index)) {
        Some(name) => format!("SIG{name}"),
        None => format!("signal {number}"),
    }
}

/// Returns the signal that stops this machine's container. An unknown signal in the image is ignored,
/// because the user did not choose it.
pub(crate) fn stop_signal(spec: &MachineSpec, image: &ImageConfig) -> i32 {
    let from_image = image.stop_signal.as_deref().and_then(|text| parse(text).ok());
    spec.stop_signal.or(from_image).unwrap_or(SIGTERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_parsed() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(parse(text), Ok(15), "{text}");
        }
        assert_eq!(parse("SYS"), Ok(31));
        assert_eq!(name(9), "SIGKILL");
        for bad in ["", "0", "65", "SIGNOPE", "-9"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
