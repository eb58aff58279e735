//! A stopped thread, and system calls that it makes for its tracer.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::error::{CheckpointError, file, step};
use crate::fence::{self, Registers, Tid, Waited};
use crate::mapped::{FileStamp, STAT_BYTES, replaced};
use crate::maps::{self, MappingKind};
use crate::restorer::RestorerBlob;

/// The machine code of `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// The memory of a traced process.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    file: File,
}

impl Memory {
    pub(crate) fn open(pid: i32) -> Result<Self, CheckpointError> {
        let path = PathBuf::from(format!("/proc/{pid}/mem"));
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(file(&path))?;
        Ok(Self { path, file })
    }

    pub(crate) fn read(&self, address: u64, into: &mut [u8]) -> Result<(), CheckpointError> {
        self.file.read_exact_at(into, address).map_err(file(&self.path))
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.file.write_all_at(bytes, address).map_err(file(&self.path))
    }

    pub(crate) fn word(&self, address: u64) -> Result<u64, CheckpointError> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

/// Waits until a thread stops. Gives the signal and the ptrace event.
pub(crate) fn wait_for_stop(tid: Tid) -> Result<(i32, i32), CheckpointError> {
    match fence::wait(tid).map_err(step("wait for the process"))? {
        Waited::Stopped { signal, event } => Ok((signal, event)),
        Waited::Ended => Err(CheckpointError::Ended),
    }
}

/// The address of a `syscall` instruction in the vdso of the process.
pub(crate) fn syscall_instruction(pid: i32, memory: &Memory) -> Result<u64, CheckpointError> {
    let areas = maps::read_maps(pid)?;
    let vdso = areas.iter().find(|area| area.kind == MappingKind::Kernel("[vdso]".to_owned()));
    let vdso = vdso.ok_or_else(|| crate::error::unsupported("the process has no vdso"))?;
    let mut bytes = vec![0; vdso.length() as usize];
    memory.read(vdso.start, &mut bytes)?;
    let found = bytes.windows(SYSCALL.len()).position(|two| two == SYSCALL);
    let found = found.ok_or_else(|| crate::error::unsupported("the vdso has no syscall instruction"))?;
    Ok(vdso.start + found as u64)
}

/// Makes a thread execute one system call, by the instruction at `syscall_address`. Does not restore its
/// registers.
pub(crate) fn system_call(
    tid: Tid,
    syscall_address: u64,
    number: i64,
    arguments: [u64; 6],
) -> Result<u64, CheckpointError> {
    let [rdi, rsi, rdx, r10, r8, r9] = arguments;
    let before = fence::registers(tid).map_err(step("read registers"))?;
    let rax = number as u64;
    let registers =
        Registers { rax, rdi, rsi, rdx, r10, r8, r9, rip: syscall_address, orig_rax: u64::MAX, ..before };
    fence::set_registers(tid, &registers).map_err(step("set registers"))?;
    fence::single_step(tid).map_err(step("single-step"))?;
    match wait_for_stop(tid)? {
        (libc::SIGTRAP, _) => {}
        (signal, _) => {
            return Err(crate::error::unsupported(format!(
                "signal {signal} arrived before system call {number}"
            )));
        }
    }
    let result = fence::registers(tid).map_err(step("read registers"))?.rax;
    check_result(rax, result)
}

fn check_result(number: u64, result: u64) -> Result<u64, CheckpointError> {
    if result <= MAX_RESULT {
        return Ok(result);
    }
    let source = std::io::Error::from_raw_os_error((result as i64).unsigned_abs() as i32);
    Err(CheckpointError::Call { number, source })
}

/// Higher results are negated error numbers.
const MAX_RESULT: u64 = u64::MAX - 4095;

/// Makes a thread execute all calls of a restorer blob that was written into its process. Adds the threads
/// that it starts to `new_threads`.
pub(crate) fn run_blob(
    tid: Tid,
    memory: &Memory,
    blob: &RestorerBlob,
    new_threads: &mut Vec<Tid>,
) -> Result<(), CheckpointError> {
    let before = fence::registers(tid).map_err(step("read registers"))?;
    let registers = Registers {
        rip: blob.code(),
        r12: blob.table(),
        r13: blob.table_end(),
        orig_rax: u64::MAX,
        ..before
    };
    fence::set_registers(tid, &registers).map_err(step("set registers"))?;
    loop {
        fence::resume(tid).map_err(step("resume the process"))?;
        match wait_for_stop(tid)? {
            (_, libc::PTRACE_EVENT_CLONE) => {
                let thread = fence::new_thread(tid).map_err(step("get the id of a new thread"))?;
                new_threads.push(thread);
                wait_for_stop(thread)?;
            }
            (libc::SIGTRAP, _) => break,
            (signal, _) => {
                return Err(crate::error::unsupported(format!("signal {signal} arrived during the restore")));
            }
        }
    }
    let position = fence::registers(tid).map_err(step("read registers"))?.r12;
    // Checked first: if another file was mapped, later calls fail for that reason.
    check_stamps(memory, blob, position)?;
    if position > blob.table() {
        let (number, result) =
            (memory.word(position - RestorerBlob::CALL_BYTES)?, memory.word(position - 8)?);
        check_result(number, result)?;
    }
    if position != blob.table_end() {
        return Err(crate::error::unsupported("injected restore code stopped early"));
    }
    for (address, expected) in blob.expected_results() {
        if memory.word(address)? != expected {
            return Err(crate::error::unsupported("a descriptor number that should be free is in use"));
        }
    }
    Ok(())
}

/// Compares the files that the blob opened with those that the process had mapped, up to the last call that
/// was made.
fn check_stamps(memory: &Memory, blob: &RestorerBlob, end: u64) -> Result<(), CheckpointError> {
    for check in blob.stamps().iter().filter(|check| check.call < end) {
        let mut stat = [0; STAT_BYTES];
        memory.read(check.result, &mut stat)?;
        // The last call may be an `fstat` that failed.
        if stat != [0; STAT_BYTES] && FileStamp::from_stat(&stat) != check.stamp {
            return Err(replaced(&check.path));
        }
    }
    Ok(())
}
