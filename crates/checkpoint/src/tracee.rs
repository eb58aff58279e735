//! A thread that stands still, and does what it is told.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::error::{CheckpointError, file, step};
use crate::fence::{self, Registers, Tid, Waited};
use crate::mapped::{FileStamp, STAT_BYTES, replaced};
use crate::maps::{self, Of};
use crate::script::Script;

/// Two bytes that make a system call.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// A process's memory, for one who traces it.
#[derive(Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    file: File,
}

impl Memory {
    pub(crate) fn of(pid: i32) -> Result<Self, CheckpointError> {
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

/// Waits until a thread stands still.
pub(crate) fn stopped(tid: Tid) -> Result<(i32, i32), CheckpointError> {
    match fence::wait(tid).map_err(step("wait for the process"))? {
        Waited::Stopped { signal, event } => Ok((signal, event)),
        Waited::Ended => Err(CheckpointError::Ended),
    }
}

/// Where the kernel's own page in the process has an instruction that makes a system call.
pub(crate) fn syscall_instruction(pid: i32, memory: &Memory) -> Result<u64, CheckpointError> {
    let areas = maps::areas(pid)?;
    let vdso = areas.iter().find(|area| area.of == Of::Kernel("[vdso]".to_owned()));
    let vdso = vdso.ok_or_else(|| crate::error::unsupported("it has no vdso"))?;
    let mut bytes = vec![0; vdso.length() as usize];
    memory.read(vdso.start, &mut bytes)?;
    let found = bytes.windows(SYSCALL.len()).position(|two| two == SYSCALL);
    let found = found.ok_or_else(|| crate::error::unsupported("its vdso makes no system call"))?;
    Ok(vdso.start + found as u64)
}

/// Has a thread make one system call by the instruction at `at`. Its registers are not put back.
pub(crate) fn call(tid: Tid, at: u64, number: i64, arguments: [u64; 6]) -> Result<u64, CheckpointError> {
    let [rdi, rsi, rdx, r10, r8, r9] = arguments;
    let before = fence::registers(tid).map_err(step("read registers"))?;
    let rax = number as u64;
    let registers = Registers { rax, rdi, rsi, rdx, r10, r8, r9, rip: at, orig_rax: u64::MAX, ..before };
    fence::set_registers(tid, &registers).map_err(step("set registers"))?;
    fence::step(tid).map_err(step("go one instruction"))?;
    match stopped(tid)? {
        (libc::SIGTRAP, _) => {}
        (signal, _) => {
            return Err(crate::error::unsupported(format!(
                "signal {signal} came before system call {number}"
            )));
        }
    }
    let result = fence::registers(tid).map_err(step("read registers"))?.rax;
    succeeded(rax, result)
}

fn succeeded(number: u64, result: u64) -> Result<u64, CheckpointError> {
    if result <= ERRORS {
        return Ok(result);
    }
    let source = std::io::Error::from_raw_os_error((result as i64).unsigned_abs() as i32);
    Err(CheckpointError::Call { number, source })
}

/// What is above is the negative of an error's number.
const ERRORS: u64 = u64::MAX - 4095;

/// Has a thread make all calls of a script that was written into its process, and adds the threads that it starts.
pub(crate) fn run(
    tid: Tid,
    memory: &Memory,
    script: &Script,
    started: &mut Vec<Tid>,
) -> Result<(), CheckpointError> {
    let before = fence::registers(tid).map_err(step("read registers"))?;
    let registers = Registers {
        rip: script.code(),
        r12: script.table(),
        r13: script.table_end(),
        orig_rax: u64::MAX,
        ..before
    };
    fence::set_registers(tid, &registers).map_err(step("set registers"))?;
    loop {
        fence::go_on(tid).map_err(step("let the process go on"))?;
        match stopped(tid)? {
            (_, libc::PTRACE_EVENT_CLONE) => {
                let thread = fence::started(tid).map_err(step("learn of a thread"))?;
                started.push(thread);
                stopped(thread)?;
            }
            (libc::SIGTRAP, _) => break,
            (signal, _) => {
                return Err(crate::error::unsupported(format!(
                    "it got signal {signal} before it was itself"
                )));
            }
        }
    }
    let place = fence::registers(tid).map_err(step("read registers"))?.r12;
    // First: where another file was mapped, later calls fail for that reason.
    compare_stamps(memory, script, place)?;
    if place > script.table() {
        let (number, result) = (memory.word(place - Script::CALL)?, memory.word(place - 8)?);
        succeeded(number, result)?;
    }
    if place != script.table_end() {
        return Err(crate::error::unsupported("it did not come to the end of its beginning"));
    }
    for (at, wanted) in script.wanted() {
        if memory.word(at)? != wanted {
            return Err(crate::error::unsupported("it has more descriptors than it was given"));
        }
    }
    Ok(())
}

/// Whether the files that a script opened and mapped are those that the process had mapped, as far as it came.
fn compare_stamps(memory: &Memory, script: &Script, end: u64) -> Result<(), CheckpointError> {
    for check in script.stamps().iter().filter(|check| check.call < end) {
        let mut stat = [0; STAT_BYTES];
        memory.read(check.result, &mut stat)?;
        // The last call may be an `fstat` that failed.
        if stat != [0; STAT_BYTES] && FileStamp::from_stat(&stat) != check.stamp {
            return Err(replaced(&check.path));
        }
    }
    Ok(())
}
