//! Converts signals between names and numbers.

use mimeo_image::ImageConfig;

use crate::machine::MachineSpec;
use crate::stage::StageError;

/// The default stop signal.
pub(crate) const SIGTERM: i32 = 15;
/// The first and the last real-time signal, by the C library's numbers, which tools and images mean.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;
/// Other names of signals.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The text is not a signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a signal: use a name such as TERM, SIGTERM or RTMIN+3, or a number from 1 to 64")]
pub struct ParseSignalError(String);

/// Parses a signal that is given as `TERM`, `SIGTERM`, `RTMIN+3`, `RTMAX-2` or `15`, into Linux's number.
///
/// # Errors
/// If there is no such signal.
pub fn parse(text: &str) -> Result<i32, ParseSignalError> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return Ok(index as i32 + 1);
    }
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, number)| *number);
    match alias.or_else(|| real_time(name)).or_else(|| text.parse().ok()) {
        Some(number @ 1..=RTMAX) => Ok(number),
        _ => Err(ParseSignalError(text.to_owned())),
    }
}

/// Parses `RTMIN`, `RTMIN+n`, `RTMAX` or `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<i32>().ok(),
        None if rest.is_empty() => Some(0),
        _ => None,
    };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => RTMIN.checked_add(offset(rest, '+')?)?,
        (_, Some(rest)) => RTMAX - offset(rest, '-')?,
        _ => return None,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

/// Returns the signal's name, such as `SIGTERM` or `SIGRTMIN+3`.
#[must_use]
pub fn name(number: i32) -> String {
    match usize::try_from(number - 1).ok().and_then(|index| NAMES.get(index)) {
        Some(name) => format!("SIG{name}"),
        None if (RTMIN..=RTMAX).contains(&number) => format!("SIGRTMIN+{}", number - RTMIN),
        None => format!("signal {number}"),
    }
}

/// Returns the signal that stops this machine's container: the spec's, the image's, or SIGTERM. A signal of the image
/// that is unknown is an error: the container would miss the signal that it waits for.
pub(crate) fn stop_signal(spec: &MachineSpec, image: &ImageConfig) -> Result<i32, StageError> {
    match (spec.stop_signal, &image.stop_signal) {
        (Some(signal), _) => Ok(signal),
        (None, Some(text)) => parse(text).map_err(|_| StageError::ImageStopSignal { signal: text.clone() }),
        (None, None) => Ok(SIGTERM),
    }
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
        assert_eq!(parse("CLD"), Ok(17));
        for bad in ["", "0", "65", "SIGNOPE", "-9"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn real_time_signals_have_names() {
        for (text, number) in
            [("SIGRTMIN+3", 37), ("rtmin+3", 37), ("RTMIN", 34), ("SIGRTMAX-2", 62), ("RTMAX", 64)]
        {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for bad in [
            "RTMIN+31",
            "RTMAX-31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN++1",
            "RTMIN+99999999999",
            "RTMINX",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!((name(37), name(64)), ("SIGRTMIN+3".into(), "SIGRTMIN+30".into()));
        assert!((RTMIN..=RTMAX).all(|number| parse(&name(number)) == Ok(number)));
    }

    #[test]
    fn the_images_stop_signal_must_be_known() {
        let image = |text: &str| ImageConfig { stop_signal: Some(text.into()), ..ImageConfig::default() };
        let spec = MachineSpec::new("x");
        assert!(matches!(stop_signal(&spec, &image("SIGRTMIN+3")), Ok(37)));
        assert!(matches!(stop_signal(&spec, &ImageConfig::default()), Ok(SIGTERM)));
        assert!(stop_signal(&spec, &image("SIGBOGUS")).is_err());
        let own = MachineSpec { stop_signal: Some(2), ..spec };
        assert!(matches!(stop_signal(&own, &image("SIGBOGUS")), Ok(2)));
    }
}
