//! What makes a copy a machine of its own, and whether it has become one.

use std::io;

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{Identity, IdentityLine, Line, Outcome, Reply, Request};

use crate::guest::{dns, entropy, hostname, interface, unix_nanos};
use crate::machine::Record;
use crate::stage::StageError;

/// Lines that there is always something to do for.
const ALWAYS: [Line; 3] = [Line::Entropy, Line::Generation, Line::Clock];
/// Characters of what a guest says about a line.
const MAX_DETAIL: usize = 200;

/// A number that no other copy has.
pub(crate) fn new_vm_generation() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The number of a copy's first session: none that its original has had.
pub(crate) fn session(vm_generation: &str) -> u32 {
    let digits: String = vm_generation.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    // The highest and the lowest have meanings of their own.
    u32::from_str_radix(&digits, 16).unwrap_or_default().clamp(16, u32::MAX - 1)
}

/// What tells the guest that it is the machine of this record.
pub(crate) fn of(record: &Record, thaw: bool) -> io::Result<Identity> {
    Ok(Identity {
        generation: record.vm_generation.clone().unwrap_or_else(new_vm_generation),
        machine: record.id.to_string(),
        hostname: hostname(record),
        unix_nanos: unix_nanos(),
        entropy: entropy()?,
        interface: record.network.as_ref().map(interface),
        dns: dns(record),
        dns_search: Vec::new(),
        hosts: record.spec.add_hosts.clone(),
        env: record.spec.env.clone(),
        signal: None,
        thaw,
        rehearsal: false,
    })
}

/// Has the guest become the machine of this record, and says line by line how
/// that went. It fails closed: a line that was not done is an error.
pub(crate) async fn take_on(link: &Link, identity: Identity) -> Result<Vec<IdentityLine>, StageError> {
    match link.call(&Request::Identify(Box::new(identity))).await? {
        Reply::Identified { lines } => judge(lines),
        other => Err(other.unexpected().into()),
    }
}

/// Has the guest go the way of becoming a machine, for nothing.
pub(crate) async fn rehearse(link: &Link, identity: Identity) -> Result<(), StageError> {
    take_on(link, Identity { rehearsal: true, ..identity }).await.map(drop)
}

/// Notes that the guest has done the last line too, asked for by itself.
pub(crate) fn thawed(lines: &mut [IdentityLine]) {
    for line in lines.iter_mut().filter(|line| line.line == Line::Thaw) {
        line.outcome = Outcome::Done;
    }
}

fn judge(lines: Vec<IdentityLine>) -> Result<Vec<IdentityLine>, StageError> {
    let well = |line: &IdentityLine| match line.outcome {
        Outcome::Done => true,
        Outcome::NotNeeded => !ALWAYS.contains(&line.line),
        Outcome::Failed | Outcome::NotTried | Outcome::Unknown => false,
    };
    if let Some(bad) = lines.iter().find(|line| !well(line)) {
        let why = short(bad).detail.unwrap_or_else(|| "it was not done".to_owned());
        return Err(StageError::Identity { line: name(bad.line), why });
    }
    if let Some(missing) = Line::ALL.into_iter().find(|line| !lines.iter().any(|told| told.line == *line)) {
        return Err(StageError::Identity {
            line: name(missing),
            why: "the guest says nothing of it".to_owned(),
        });
    }
    // Not a word more than was asked for is kept of what a guest says.
    Ok(Line::ALL
        .into_iter()
        .filter_map(|line| lines.iter().find(|told| told.line == line))
        .map(short)
        .collect())
}

fn short(line: &IdentityLine) -> IdentityLine {
    let detail = line.detail.as_ref().map(|detail| detail.chars().take(MAX_DETAIL).collect());
    IdentityLine { detail, ..line.clone() }
}

/// As it is written: `ssh_keys`.
fn name(line: Line) -> String {
    serde_json::to_value(line).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(outcome: impl Fn(Line) -> Outcome) -> Vec<IdentityLine> {
        let told = |line| IdentityLine { line, outcome: outcome(line), detail: None };
        Line::ALL.into_iter().map(told).collect()
    }

    #[test]
    fn every_line_must_be_told_and_well() {
        assert!(judge(all(|_| Outcome::Done)).is_ok());
        for broken in Line::ALL {
            for bad in [Outcome::Failed, Outcome::NotTried, Outcome::Unknown] {
                let lines = all(|line| if line == broken { bad } else { Outcome::Done });
                let error = judge(lines).expect_err("not well").to_string();
                assert!(error.contains(&name(broken)), "{error}");
            }
            let lines = all(|_| Outcome::Done).into_iter().filter(|told| told.line != broken).collect();
            let error = judge(lines).expect_err("not told").to_string();
            assert!(error.contains(&name(broken)), "{error}");
        }
    }

    #[test]
    fn sessions_of_copies_are_numbers_that_frames_may_carry() {
        for vm_generation in ["ffffffff-0000", "00000000-0000", "x"] {
            assert!((16..u32::MAX).contains(&session(vm_generation)));
        }
        assert_eq!(entropy().expect("random").len(), 64);
    }
}
