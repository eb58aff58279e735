//! State that the kernel reveals only to the process itself.

use crate::error::{CheckpointError, unsupported};
use crate::fence::Tid;
use crate::procfs::ProcFile;
use crate::tracee::{self, Memory};

/// Makes system calls in a stopped process, on its main thread.
#[derive(Debug)]
pub(crate) struct RemoteCalls<'a> {
    pub(crate) pid: Tid,
    /// The address of a `syscall` instruction.
    pub(crate) syscall_address: u64,
    pub(crate) memory: &'a Memory,
    /// The address of memory for results.
    pub(crate) scratch: u64,
}

/// Commands of `membarrier`, of linux/membarrier.h.
const QUERY: u64 = 0;
const REGISTER_GLOBAL_EXPEDITED: u64 = 1 << 2;
const GET_REGISTRATIONS: u64 = 1 << 9;
/// Pairs of a barrier, which fails with `EPERM` in a process that is not registered for it, and its
/// registration.
const PRIVATE_BARRIERS: [(u64, u64); 3] = [(1 << 3, 1 << 4), (1 << 5, 1 << 6), (1 << 7, 1 << 8)];

impl RemoteCalls<'_> {
    pub(crate) fn call(&self, number: i64, arguments: [u64; 6]) -> Result<u64, CheckpointError> {
        tracee::system_call(self.pid, self.syscall_address, number, arguments)
    }

    fn read_words<const COUNT: usize>(&self) -> Result<[u64; COUNT], CheckpointError> {
        let mut words = [0; COUNT];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.memory.word(self.scratch + 8 * index as u64)?;
        }
        Ok(words)
    }

    /// Number, handler, flags, restorer and mask of each signal that is handled or ignored.
    pub(crate) fn signal_actions(&self, status: &ProcFile) -> Result<Vec<(u32, [u64; 4])>, CheckpointError> {
        let set = status.number("SigCgt", 16)? | status.number("SigIgn", 16)?;
        let is_set = |signal: &u32| set & (1 << (signal - 1)) != 0;
        let action = |signal: u32| {
            self.call(libc::SYS_rt_sigaction, [u64::from(signal), 0, self.scratch, 8, 0, 0])?;
            Ok((signal, self.read_words()?))
        };
        (1..=64).filter(is_set).map(action).collect()
    }

    /// Registrations for `membarrier`, a bit for each command that makes one.
    pub(crate) fn membarrier_registrations(&self) -> Result<u64, CheckpointError> {
        let membarrier = |command| self.call(libc::SYS_membarrier, [command, 0, 0, 0, 0, 0]);
        match membarrier(GET_REGISTRATIONS) {
            Err(CheckpointError::Call { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => {}
            // The kernel has no `membarrier`: there are no registrations.
            Err(CheckpointError::Call { source, .. }) if source.raw_os_error() == Some(libc::ENOSYS) => {
                return Ok(0);
            }
            registered => return registered,
        }
        // Kernels before 6.3 do not list registrations. REGISTER_GLOBAL_EXPEDITED cannot be probed and is
        // assumed: it costs an interrupt at the barriers of other processes.
        let known = membarrier(QUERY)?;
        let mut registered = known & REGISTER_GLOBAL_EXPEDITED;
        for (barrier, register) in PRIVATE_BARRIERS.into_iter().filter(|(barrier, _)| known & barrier != 0) {
            match membarrier(barrier) {
                Ok(_) => registered |= register,
                Err(CheckpointError::Call { source, .. }) if source.raw_os_error() == Some(libc::EPERM) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(registered)
    }

    /// Refuses timers: they end with the process, and their expiry times are not known.
    pub(crate) fn refuse_timers(&self) -> Result<(), CheckpointError> {
        let timers = ProcFile::read(format!("/proc/{}/timers", self.pid))?;
        if let Some(timer) = timers.lines().next() {
            return Err(unsupported(format!("the process has a POSIX timer, {timer}")));
        }
        for kind in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
            self.call(libc::SYS_getitimer, [kind as u64, self.scratch, 0, 0, 0, 0])?;
            let [.., seconds, microseconds] = self.read_words::<4>()?;
            if (seconds, microseconds) != (0, 0) {
                return Err(unsupported(format!("the process has an interval timer of kind {kind}")));
            }
        }
        Ok(())
    }
}
