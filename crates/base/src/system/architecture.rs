//! The architecture of a system: that of its init.

use crate::check::Check;
use crate::tree::Tree;

const NAME: &str = "architecture";
const ELF: [u8; 4] = *b"\x7fELF";
/// Byte 5 says how numbers are stored; bytes 18 and 19 name the machine.
const BIG_ENDIAN: u8 = 2;
const HEADER_BYTES: u64 = 20;
/// The numbers of machines, and Rust's names of them.
const MACHINES: [(u16, &str); 9] = [
    (3, "x86"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
];

/// The architecture of a program; `None` if it is no ELF file.
pub(super) fn read(tree: &Tree, program: &str) -> Option<String> {
    parse(&tree.read_start(program, HEADER_BYTES)?)
}

fn parse(header: &[u8]) -> Option<String> {
    if !header.starts_with(&ELF) || header.len() < HEADER_BYTES as usize {
        return None;
    }
    let bytes = [header[18], header[19]];
    let machine = if header[5] == BIG_ENDIAN { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    let known = MACHINES.iter().find(|(number, _)| *number == machine);
    Some(known.map_or_else(|| format!("ELF machine {machine}"), |(_, name)| (*name).to_owned()))
}

pub(super) fn check(found: Option<&str>, host: &str) -> Check {
    match found {
        Some(found) if found == host => Check::ok(NAME, found),
        Some(found) => {
            let detail = format!("{found}, but this host is {host}");
            Check::error(NAME, detail, format!("get the image for {host}"))
        }
        None => {
            let hint = format!("see for yourself that its programs are for {host}");
            Check::warning(NAME, "unknown: its init is no ELF program", hint)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Outcome;

    fn header(order: u8, machine: [u8; 2]) -> Vec<u8> {
        [b"\x7fELF\x02", &[order][..], &[0; 12], &machine].concat()
    }

    #[test]
    fn the_machine_is_read_in_the_files_byte_order() {
        assert_eq!(parse(&header(1, [62, 0])).as_deref(), Some("x86_64"));
        assert_eq!(parse(&header(1, [183, 0])).as_deref(), Some("aarch64"));
        assert_eq!(parse(&header(2, [0, 22])).as_deref(), Some("s390x"));
        assert_eq!(parse(&header(1, [9, 9])).as_deref(), Some("ELF machine 2313"));
        assert_eq!(parse(b"#!/bin/sh"), None);
        assert_eq!(parse(&header(1, [62, 0])[..19]), None);
    }

    #[test]
    fn another_architecture_is_an_error() {
        assert_eq!(check(Some("x86_64"), "x86_64").outcome, Outcome::Ok);
        assert_eq!(check(Some("aarch64"), "x86_64").outcome, Outcome::Error);
        assert_eq!(check(None, "x86_64").outcome, Outcome::Warning);
    }
}
