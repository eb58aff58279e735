//! Seccomp filters for a restored QEMU, equivalent to those that `-sandbox` installs at start-up. The filters
//! of a process cannot be read without privileges, so they are built here.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::OperationError;

/// System calls that kill the process: those that change its credentials or scheduling, create processes, or
/// are for administrators only.
const FORBIDDEN_CALLS: [libc::c_long; 47] = [
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_capset,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_syslog,
    libc::SYS_acct,
];

/// The seccomp programs, each a list of `struct sock_filter` as words.
pub(super) fn filters() -> Result<[Vec<u64>; 3], OperationError> {
    let mut forbidden: BTreeMap<_, _> = FORBIDDEN_CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    forbidden.insert(libc::SYS_clone, vec![process_clone()?]);
    // With ENOSYS for clone3, the C library starts threads by `clone`, whose flags a filter can see.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([
        compile_filter(forbidden, SeccompAction::KillProcess)?,
        compile_filter(clone3, SeccompAction::Errno(libc::ENOSYS as u32))?,
        x32_filter(),
    ])
}

/// Kills on x32 system calls, whose numbers are those of x86-64 plus a bit.
fn x32_filter() -> Vec<u64> {
    const X32: u64 = 0x4000_0000;
    let instruction = |code: u32, jt: u64, jf: u64, k: u64| u64::from(code) | jt << 16 | jf << 24 | k << 32;
    vec![
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS.into()),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW.into()),
    ]
}

/// Matches a `clone` that creates a process, not a thread.
fn process_clone() -> Result<SeccompRule, OperationError> {
    let not_thread = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64);
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, not_thread, 0).map_err(refused)?;
    SeccompRule::new(vec![condition]).map_err(refused)
}

fn compile_filter(
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
    action: SeccompAction,
) -> Result<Vec<u64>, OperationError> {
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, action, TargetArch::x86_64).map_err(refused)?;
    let program = BpfProgram::try_from(filter).map_err(refused)?;
    let pack = |code: u16, jt: u8, jf: u8, k: u32| {
        u64::from(code) | u64::from(jt) << 16 | u64::from(jf) << 24 | u64::from(k) << 32
    };
    Ok(program
        .iter()
        .map(|instruction| pack(instruction.code, instruction.jt, instruction.jf, instruction.k))
        .collect())
}

fn refused(error: impl std::fmt::Display) -> OperationError {
    OperationError::Refused { command: "to build a seccomp filter".to_owned(), message: error.to_string() }
}
