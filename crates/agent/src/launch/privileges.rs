//! What the program may do: resource limits, capabilities, no_new_privs, umask.
//!
//! [`ProgramPrivileges`] is made before the fork; the functions run after it.
#![allow(unsafe_code, reason = "runs between fork and exec, where only bare system calls are allowed")]

use std::ffi::{CStr, CString, c_int, c_long};
use std::ptr;

use mimeo_agent_protocol::message::{Privileges, Resource, ResourceLimit};

use super::child::{Fault, Stage, check};
use crate::users::Credentials;

/// The default file mode creation mask.
const UMASK: u32 = 0o022;
/// The version of capset's structures: capabilities in two words of 32 bits.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// Larger than the number of any capability.
const MAX_CAPABILITY: c_int = 63;

/// A program's privileges as the system calls take them.
#[derive(Debug)]
pub(super) struct ProgramPrivileges {
    limits: Vec<(c_int, libc::rlimit64)>,
    umask: u32,
    /// The text for /proc/self/oom_score_adj.
    oom_score_adj: Option<CString>,
    no_new_privileges: bool,
    capabilities: Option<CapabilityMasks>,
}

/// The capabilities to keep, as masks. Without them a process has what its user implies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CapabilityMasks {
    bounding: u64,
    ambient: u64,
}

impl ProgramPrivileges {
    /// The privileges of a process with these credentials; `None` restricts nothing.
    pub(super) fn new(privileges: Option<&Privileges>, credentials: &Credentials) -> Self {
        let Some(privileges) = privileges else {
            return Self {
                limits: Vec::new(),
                umask: UMASK,
                oom_score_adj: None,
                no_new_privileges: false,
                capabilities: None,
            };
        };
        let bounding = privileges.bounding.mask();
        // Root has the bounding set without an ambient one.
        let ambient = if credentials.uid == 0 { 0 } else { privileges.ambient.mask() & bounding };
        Self {
            limits: privileges.limits.iter().map(limit).collect(),
            umask: privileges.umask.unwrap_or(UMASK),
            oom_score_adj: privileges.oom_score_adj.map(|score| super::c_string(&score.to_string())),
            no_new_privileges: privileges.no_new_privileges,
            capabilities: Some(CapabilityMasks { bounding, ambient }),
        }
    }

    /// Sets what must be set while the process is still privileged.
    pub(super) fn apply_limits(&self) -> Result<(), Fault> {
        if let Some(score) = &self.oom_score_adj {
            write_file(Stage::OomScore, c"/proc/self/oom_score_adj", score)?;
        }
        for (resource, limit) in &self.limits {
            // SAFETY: the limit is alive, and the old one is not requested.
            let result = unsafe {
                libc::syscall(libc::SYS_prlimit64, 0, *resource, ptr::from_ref(limit), ptr::null::<u8>())
            };
            check(Stage::Limits, result as c_int)?;
        }
        // SAFETY: takes a number and cannot fail.
        unsafe { libc::umask(self.umask) };
        if let Some(CapabilityMasks { bounding, .. }) = self.capabilities {
            drop_bounding(bounding)?;
            // SAFETY: takes numbers. The permitted set must survive the change of the UID.
            check(Stage::Capabilities, unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
        }
        Ok(())
    }

    /// Sets the capabilities, once the process has its user.
    pub(super) fn apply_capabilities(&self, uid: u32) -> Result<(), Fault> {
        if let Some(CapabilityMasks { bounding, ambient }) = self.capabilities {
            // SAFETY: takes numbers.
            check(Stage::Capabilities, unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0) })?;
            let permitted = if uid == 0 { bounding } else { ambient };
            set_capabilities(permitted, ambient)?;
            raise_ambient(ambient)?;
        }
        if self.no_new_privileges {
            // SAFETY: takes numbers.
            let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            check(Stage::Capabilities, result)?;
        }
        Ok(())
    }
}

fn limit(limit: &ResourceLimit) -> (c_int, libc::rlimit64) {
    let number = Resource::ALL.iter().position(|resource| *resource == limit.resource);
    let number = c_int::try_from(number.unwrap_or_default()).unwrap_or_default();
    // `ResourceLimit::UNLIMITED` is the kernel's RLIM64_INFINITY.
    (number, libc::rlimit64 { rlim_cur: limit.soft, rlim_max: limit.hard })
}

/// Removes all other capabilities from the bounding set. This needs CAP_SETPCAP.
fn drop_bounding(keep: u64) -> Result<(), Fault> {
    for number in 0..=MAX_CAPABILITY {
        if keep & (1 << number) != 0 {
            continue;
        }
        // SAFETY: takes numbers.
        match check(Stage::Capabilities, unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }) {
            // The kernel knows no capability of this number.
            Err((_, libc::EINVAL)) => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityWords {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn set_capabilities(permitted: u64, inheritable: u64) -> Result<(), Fault> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let words = |shift: u32| CapabilityWords {
        effective: (permitted >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let sets = [words(0), words(32)];
    // SAFETY: the header and both words are alive and have the kernel's layout.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) as c_long };
    check(Stage::Capabilities, result as c_int)
}

fn raise_ambient(ambient: u64) -> Result<(), Fault> {
    let raise = |operation: c_int, number: c_int| {
        // SAFETY: takes numbers.
        check(Stage::Capabilities, unsafe { libc::prctl(libc::PR_CAP_AMBIENT, operation, number, 0, 0) })
    };
    raise(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    for number in (0..=MAX_CAPABILITY).filter(|number| ambient & (1 << number) != 0) {
        raise(libc::PR_CAP_AMBIENT_RAISE, number)?;
    }
    Ok(())
}

/// Writes a file of /proc.
pub(super) fn write_file(stage: Stage, path: &CStr, text: &CStr) -> Result<(), Fault> {
    // SAFETY: the path is a live C string.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    check(stage, file)?;
    let bytes = text.to_bytes();
    // SAFETY: the text is alive.
    let written = unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
    let result = check(stage, written as c_int);
    // SAFETY: the descriptor was opened above.
    unsafe { libc::close(file) };
    result
}

#[cfg(test)]
mod tests {
    use mimeo_agent_protocol::Capabilities;

    use super::*;

    fn credentials(uid: u32) -> Credentials {
        Credentials { uid, gid: 0, groups: vec![0], home: "/".into() }
    }

    #[test]
    fn ambient_capabilities_are_for_other_users_and_bounded() {
        let parse = |name| Capabilities::parse(name).expect("a name");
        let privileges = Privileges {
            bounding: parse("chown"),
            ambient: parse("chown").union(parse("kill")),
            ..Privileges::default()
        };
        let masks = |uid| ProgramPrivileges::new(Some(&privileges), &credentials(uid)).capabilities;
        assert_eq!(masks(0), Some(CapabilityMasks { bounding: 1, ambient: 0 }));
        assert_eq!(masks(7), Some(CapabilityMasks { bounding: 1, ambient: 1 }));
        assert_eq!(ProgramPrivileges::new(None, &credentials(7)).capabilities, None);
    }

    #[test]
    fn resources_have_the_kernels_numbers() {
        for (resource, number) in
            [(Resource::Nofile, libc::RLIMIT_NOFILE), (Resource::Rttime, libc::RLIMIT_RTTIME)]
        {
            let (found, _) = limit(&ResourceLimit { resource, soft: 1, hard: 2 });
            assert_eq!(found as u32, number);
        }
    }
}
