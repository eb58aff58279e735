//! The state of stopped threads.

use std::io;

use crate::error::{CheckpointError, step, unsupported};
use crate::fence::{self, Siginfo, SignalQueue, Tid};
use crate::image::Thread;
use crate::tracee::{self, Memory};

/// The signals to block in a thread that makes system calls for its tracer: all but SIGTRAP, which it stops
/// with after each call.
pub(crate) const BLOCKED: u64 = !(1 << (libc::SIGTRAP - 1));

/// Reads the state of all threads. Afterwards their signals are blocked.
pub(crate) fn read_all(
    tids: &[Tid],
    syscall_address: u64,
    memory: &Memory,
) -> Result<Vec<Thread>, CheckpointError> {
    let read = |tid: &Tid| read_thread(*tid).map_err(step("read a thread's state"));
    let threads: Vec<Thread> = tids.iter().map(read).collect::<Result<_, _>>()?;
    for tid in tids {
        fence::set_signal_mask(*tid, BLOCKED).map_err(step("block a thread's signals"))?;
    }
    let threads = tids.iter().zip(threads);
    threads.map(|(tid, thread)| add_own_state(*tid, thread, syscall_address, memory)).collect()
}

fn read_thread(tid: Tid) -> io::Result<Thread> {
    Ok(Thread {
        registers: fence::registers(tid)?,
        xstate: fence::xstate(tid)?,
        signal_mask: fence::signal_mask(tid)?,
        pending: Vec::new(),
        alternate_stack: [0; 3],
        tid_address: 0,
        robust_list: fence::robust_list(tid)?,
        rseq: fence::rseq(tid)?,
    })
}

/// Adds the state that only the thread itself can query, and refuses what cannot be restored.
fn add_own_state(
    tid: Tid,
    thread: Thread,
    syscall_address: u64,
    memory: &Memory,
) -> Result<Thread, CheckpointError> {
    let (head, _) = thread.robust_list;
    if head != 0 && memory.word(head)? != head {
        return Err(unsupported(format!("thread {tid} holds a robust mutex")));
    }
    let scratch = below_red_zone(thread.registers.rsp);
    tracee::system_call(tid, syscall_address, libc::SYS_prctl, [PR_GET_TID_ADDRESS, scratch, 0, 0, 0, 0])?;
    let tid_address = memory.word(scratch)?;
    tracee::system_call(tid, syscall_address, libc::SYS_sigaltstack, [0, scratch, 0, 0, 0, 0])?;
    let alternate_stack = [memory.word(scratch)?, memory.word(scratch + 8)?, memory.word(scratch + 16)?];
    Ok(Thread { tid_address, alternate_stack, pending: pending_signals(tid, SignalQueue::Thread)?, ..thread })
}

const PR_GET_TID_ADDRESS: u64 = 40;

/// An address below a stopped thread's stack that the thread does not use.
pub(crate) fn below_stack(tid: Tid) -> Result<u64, CheckpointError> {
    Ok(below_red_zone(fence::registers(tid).map_err(step("read registers"))?.rsp))
}

/// An address below the red zone of a stack.
fn below_red_zone(stack: u64) -> u64 {
    (stack - 512) & !63
}

/// Pending signals: the number and the `siginfo_t` of each.
pub(crate) fn pending_signals(tid: Tid, queue: SignalQueue) -> Result<Vec<(i32, Vec<u8>)>, CheckpointError> {
    let pending = fence::pending_signals(tid, queue).map_err(step("read a thread's signals"))?;
    let checked = |info: Siginfo| match i32::from_ne_bytes([info[0], info[1], info[2], info[3]]) {
        // A pending SIGTRAP would stop a process while it is being restored.
        libc::SIGTRAP => Err(unsupported(format!("thread {tid} has a pending SIGTRAP"))),
        signal => Ok((signal, info.to_vec())),
    };
    pending.into_iter().map(checked).collect()
}
