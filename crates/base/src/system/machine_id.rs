//! /etc/machine-id: whether each machine of the base will make an id of its own.

use serde::{Deserialize, Serialize};

use crate::check::Check;
use crate::tree::Tree;

const NAME: &str = "machine-id";
const PATH: &str = "/etc/machine-id";

/// The state of a machine-id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineId {
    /// It is missing or empty, or says that it is uninitialised: the first boot sets it.
    Uninitialized,
    /// It is set.
    Set,
}

pub(super) fn read(tree: &Tree) -> MachineId {
    parse(&tree.text(PATH).unwrap_or_default())
}

fn parse(text: &str) -> MachineId {
    match text.trim() {
        "" | "uninitialized" => MachineId::Uninitialized,
        _ => MachineId::Set,
    }
}

pub(super) fn check(id: MachineId) -> Check {
    match id {
        MachineId::Uninitialized => Check::ok(NAME, "uninitialised: each machine makes its own"),
        MachineId::Set => {
            let hint =
                format!("empty {PATH} in the image, or its machines share an id, and with it DHCP leases");
            Check::warning(NAME, "set", hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_id_is_uninitialised() {
        for text in ["", "\n", "uninitialized\n"] {
            assert_eq!(parse(text), MachineId::Uninitialized, "{text:?}");
        }
        assert_eq!(parse("0123456789abcdef0123456789abcdef\n"), MachineId::Set);
    }
}
