//! `--cap-add` and `--cap-drop`.

use mimeo_agent_protocol::Capabilities;

use crate::error::CliError;

/// The capabilities to add and to drop.
pub(super) fn parse(add: &[String], drop: &[String]) -> Result<(Capabilities, Capabilities), CliError> {
    let (add, drop) = (set("--cap-add", add)?, set("--cap-drop", drop)?);
    match (add == Capabilities::ALL, drop == Capabilities::ALL) {
        (true, true) => Err(CliError::usage("cannot both add and drop all capabilities")),
        (false, false) if !add.intersection(drop).is_empty() => {
            Err(CliError::usage(format!("cannot both add and drop {}", add.intersection(drop))))
        }
        _ => Ok((add, drop)),
    }
}

fn set(option: &str, names: &[String]) -> Result<Capabilities, CliError> {
    names.iter().try_fold(Capabilities::NONE, |set, name| {
        let parsed =
            Capabilities::parse(name).map_err(|error| CliError::usage(format!("{option}: {error}")))?;
        Ok(set.union(parsed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(add: &[&str], drop: &[&str]) -> Result<(Capabilities, Capabilities), CliError> {
        let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        parse(&strings(add), &strings(drop))
    }

    #[test]
    fn contradictions_and_unknown_names_are_refused() {
        for (add, drop) in [
            (&["all"][..], &["all"][..]),
            (&["chown"], &["CAP_CHOWN"]),
            (&["nonesuch"], &[]),
            (&[], &["nonesuch"]),
        ] {
            assert!(parsed(add, drop).is_err(), "{add:?} {drop:?}");
        }
        assert!(
            parsed(&["chown"], &["all"]).is_ok_and(|(add, drop)| add != drop && drop == Capabilities::ALL)
        );
        assert!(parsed(&["all"], &["chown"]).is_ok());
    }
}
