//! The state of stopped threads.

use std::io;

use crate::error::{CheckpointError, step, unsupported};
use crate::fence::{self, Queue, Siginfo, Tid};
use crate::image::Thread;
use crate::tracee::{self, Memory};

/// Signals that a thread which makes system calls for us does not take: all but the one that such a call ends with.
pub(crate) const BLOCKED: u64 = !(1 << (libc::SIGTRAP - 1));

/// Reads the states of all threads. Signals are blocked in them after this.
pub(crate) fn read_all(tids: &[Tid], at: u64, memory: &Memory) -> Result<Vec<Thread>, CheckpointError> {
    let read = |tid: &Tid| thread(*tid).map_err(step("read a thread's state"));
    let threads: Vec<Thread> = tids.iter().map(read).collect::<Result<_, _>>()?;
    for tid in tids {
        fence::set_signal_mask(*tid, BLOCKED).map_err(step("block a thread's signals"))?;
    }
    let threads = tids.iter().zip(threads);
    threads.map(|(tid, thread)| complete(*tid, thread, at, memory)).collect()
}

fn thread(tid: Tid) -> io::Result<Thread> {
    Ok(Thread {
        registers: fence::registers(tid)?,
        xstate: fence::xstate(tid)?,
        signal_mask: fence::signal_mask(tid)?,
        pending: Vec::new(),
        alternate_stack: [0; 3],
        id_at: 0,
        robust_list: fence::robust_list(tid)?,
        rseq: fence::rseq(tid)?,
    })
}

/// Adds what the kernel tells only the thread itself, and refuses what cannot be restored.
fn complete(tid: Tid, thread: Thread, at: u64, memory: &Memory) -> Result<Thread, CheckpointError> {
    let (head, _) = thread.robust_list;
    if head != 0 && memory.word(head)? != head {
        return Err(unsupported(format!("thread {tid} holds a robust mutex")));
    }
    let scratch = below(thread.registers.rsp);
    tracee::call(tid, at, libc::SYS_prctl, [PR_GET_TID_ADDRESS, scratch, 0, 0, 0, 0])?;
    let id_at = memory.word(scratch)?;
    tracee::call(tid, at, libc::SYS_sigaltstack, [0, scratch, 0, 0, 0, 0])?;
    let alternate_stack = [memory.word(scratch)?, memory.word(scratch + 8)?, memory.word(scratch + 16)?];
    Ok(Thread { id_at, alternate_stack, pending: pending(tid, Queue::Thread)?, ..thread })
}

const PR_GET_TID_ADDRESS: u64 = 40;

/// Where nothing of a stopped thread's is.
pub(crate) fn below_stack(tid: Tid) -> Result<u64, CheckpointError> {
    Ok(below(fence::registers(tid).map_err(step("read registers"))?.rsp))
}

/// Below the stack, and what a function may use below that.
fn below(stack: u64) -> u64 {
    (stack - 512) & !63
}

/// Signals that were sent and not yet taken: the number and the `siginfo_t` of each.
pub(crate) fn pending(tid: Tid, queue: Queue) -> Result<Vec<(i32, Vec<u8>)>, CheckpointError> {
    let pending = fence::pending(tid, queue).map_err(step("read a thread's signals"))?;
    let keep = |info: Siginfo| match i32::from_ne_bytes([info[0], info[1], info[2], info[3]]) {
        // A restored process stops for it before it is complete.
        libc::SIGTRAP => Err(unsupported(format!("thread {tid} has a SIGTRAP that it has not taken"))),
        signal => Ok((signal, info.to_vec())),
    };
    pending.into_iter().map(keep).collect()
}
