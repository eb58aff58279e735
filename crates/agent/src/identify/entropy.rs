//! Step 1: reseeds the kernel's CRNG with the host's entropy.
#![allow(unsafe_code, reason = "the two ioctls of /dev/urandom have no safe form")]

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use mimeo_agent_protocol::message::{Failure, FailureKind, Identity};

use super::step_log::StepSuccess;
use crate::failure::{Context, failure};

/// Bytes of entropy from the host.
const ENTROPY_BYTES: usize = 32;
/// linux/random.h: adds entropy and credits it.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
/// linux/random.h: forces a reseed of the CRNG.
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;

/// `struct rand_pool_info`
#[repr(C)]
struct RandPoolInfo {
    bits: c_int,
    length: c_int,
    bytes: [u8; ENTROPY_BYTES],
}

pub(super) fn apply(identity: &Identity) -> Result<StepSuccess, Failure> {
    reseed(&identity.entropy).map(|()| StepSuccess::Done)
}

/// Mixes host entropy into the guest's CRNG (RNDADDENTROPY) and forces a reseed.
pub(crate) fn reseed(hex: &str) -> Result<(), Failure> {
    let bytes = parse_hex(hex)
        .ok_or_else(|| failure(FailureKind::Invalid, "the host's entropy is not 64 hexadecimal digits"))?;
    let random = File::options().write(true).open("/dev/urandom").context("open /dev/urandom")?;
    let pool = RandPoolInfo { bits: (ENTROPY_BYTES * 8) as c_int, length: ENTROPY_BYTES as c_int, bytes };
    // SAFETY: the structure is alive, has the kernel's layout, and holds its own length.
    let added = unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const pool) };
    check(added).context("add the host's entropy")?;
    // SAFETY: takes no argument.
    let reseeded = unsafe { libc::ioctl(random.as_raw_fd(), RNDRESEEDCRNG) };
    Ok(check(reseeded).context("reseed the random generator")?)
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn parse_hex(hex: &str) -> Option<[u8; ENTROPY_BYTES]> {
    if hex.len() != 2 * ENTROPY_BYTES || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; ENTROPY_BYTES];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_32_bytes() {
        let bytes = parse_hex(&"0aF1".repeat(16)).expect("parses");
        assert_eq!(bytes[..4], [0x0a, 0xf1, 0x0a, 0xf1]);
        for invalid in [String::new(), "0a".repeat(31), "0a".repeat(33), "+a".repeat(32), "ü".repeat(32)] {
            assert_eq!(parse_hex(&invalid), None, "{invalid}");
        }
    }

    #[test]
    fn the_structure_has_the_kernels_size() {
        assert_eq!(size_of::<RandPoolInfo>(), 8 + ENTROPY_BYTES);
    }
}
