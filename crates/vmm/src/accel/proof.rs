//! The proof: run the scratch guest to its end, in time, or say why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kvm_ioctls::{Kvm, VcpuExit};
use vmm_sys_util::signal::{Killable as _, SIGRTMIN, register_signal_handler};

use super::decide::{Acceleration, Why};
use super::fence::Memory;
use super::guest::{
    CODE, MEMORY_BYTES, PORT_FAILED, PORT_PASSED, REPORT, ROUND_INSTRUCTIONS, ROUNDS, SUM, Stage,
};
use super::machine::Machine;

/// A CPU that runs guests needs a few milliseconds; an interpreter, seconds.
const DEADLINE: Duration = Duration::from_secs(2);
/// Time for a vCPU to leave the kernel once it is told to.
const GRACE: Duration = Duration::from_secs(1);
/// A signal that arrives just before the vCPU enters the kernel is lost: again.
const KICK_EVERY: Duration = Duration::from_millis(5);
/// Emulation in QEMU does hundreds: below this, it is the better choice.
const MIN_MILLION_PER_SECOND: u64 = 200;
/// Away from the first ones, which libraries take.
const KICK_SIGNAL_OFFSET: i32 = 9;

/// Runs the scratch guest on `/dev/kvm`. A few milliseconds where it works;
/// never more than three seconds. Starts a thread for the time.
pub fn prove() -> Acceleration {
    match run_guest() {
        Ok(million_instructions_per_second) => Acceleration::Kvm { million_instructions_per_second },
        Err(why) => Acceleration::Tcg { why },
    }
}

fn run_guest() -> Result<u64, Why> {
    let kvm = Kvm::new().map_err(|error| Why::from_open(error.errno()))?;
    let memory = Arc::new(Memory::zeroed(MEMORY_BYTES));
    let machine = Machine::new(&kvm, Arc::clone(&memory), CODE).map_err(|refused| Why::Refused {
        step: refused.step.to_owned(),
        error: refused.error.to_string(),
    })?;
    let start = Instant::now();
    let ended = Runner::start(machine)?.wait();
    judge(ended, &memory, start.elapsed())
}

/// How the guest came to its end.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Passed,
    WrongResult,
    /// Any other exit, by name.
    Exit(String),
    /// Taken off the CPU at the deadline.
    Stopped,
    /// It did not even leave the kernel when told to.
    Stuck,
}

fn judge(ended: Ended, memory: &Memory, took: Duration) -> Result<u64, Why> {
    let stage = Stage::from_report(memory.read(REPORT));
    let done = Done::read(memory, stage, took);
    match ended {
        Ended::Passed if memory.read(REPORT + 24) != SUM => Err(Why::WrongResult { stage: Stage::Loop }),
        Ended::Passed if done.million_per_second() < MIN_MILLION_PER_SECOND => Err(done.too_slow()),
        Ended::Passed => Ok(done.million_per_second()),
        Ended::WrongResult => Err(Why::WrongResult { stage }),
        Ended::Exit(exit) => Err(Why::Stopped { stage, exit }),
        Ended::Stopped if stage == Stage::Loop => Err(done.too_slow()),
        Ended::Stopped | Ended::Stuck => Err(Why::Hung { stage }),
    }
}

/// What the loop got done.
struct Done {
    instructions: u64,
    took: Duration,
}

impl Done {
    fn read(memory: &Memory, stage: Stage, took: Duration) -> Self {
        let rounds = match stage {
            Stage::Loop => ROUNDS.saturating_sub(memory.read(REPORT + 16)),
            Stage::End => ROUNDS,
            _ => 0,
        };
        Self { instructions: rounds * ROUND_INSTRUCTIONS, took }
    }

    fn million_per_second(&self) -> u64 {
        self.instructions / (self.took.as_micros() as u64).max(1)
    }

    fn too_slow(&self) -> Why {
        Why::TooSlow { instructions: self.instructions, milliseconds: self.took.as_millis() as u64 }
    }
}

/// The guest on a thread of its own, so that a vCPU that never returns holds
/// nobody up.
struct Runner {
    thread: JoinHandle<()>,
    ended: Receiver<Ended>,
    stop: Arc<AtomicBool>,
}

impl Runner {
    fn start(machine: Machine) -> Result<Self, Why> {
        let refused = |error: String| Why::Refused { step: "prepare the deadline".to_owned(), error };
        register_signal_handler(kick_signal(), on_kick).map_err(|error| refused(error.to_string()))?;
        let (sender, ended) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let body = move || {
            // Nobody listens any more when it was given up as stuck.
            sender.send(run(machine, &stopping)).unwrap_or_default();
        };
        let thread = thread::Builder::new().name("kvm-proof".to_owned()).spawn(body);
        Ok(Self { thread: thread.map_err(|error| refused(error.to_string()))?, ended, stop })
    }

    /// Ends by the deadline and the grace. A thread that is stuck in the kernel
    /// is left behind, with the VM and the memory that it owns.
    fn wait(self) -> Ended {
        if let Some(ended) = self.receive(DEADLINE) {
            return ended;
        }
        self.stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if self.thread.kill(kick_signal()).is_err() {
                break;
            }
            if let Some(ended) = self.receive(KICK_EVERY) {
                return ended;
            }
        }
        Ended::Stuck
    }

    fn receive(&self, within: Duration) -> Option<Ended> {
        match self.ended.recv_timeout(within) {
            Ok(ended) => Some(ended),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Ended::Exit("a panic".to_owned())),
        }
    }
}

fn kick_signal() -> i32 {
    SIGRTMIN() + KICK_SIGNAL_OFFSET
}

/// Does nothing: that a signal came is what makes the kernel return.
extern "C" fn on_kick(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

fn run(mut machine: Machine, stop: &AtomicBool) -> Ended {
    loop {
        match machine.vcpu.run() {
            Ok(VcpuExit::IoOut(PORT_PASSED, _)) => return Ended::Passed,
            Ok(VcpuExit::IoOut(PORT_FAILED, _)) => return Ended::WrongResult,
            Ok(exit) => return Ended::Exit(name(&exit)),
            Err(error) if error.errno() != libc::EINTR => return Ended::Exit(error.to_string()),
            Err(_) if stop.load(Ordering::Relaxed) => return Ended::Stopped,
            Err(_) => {}
        }
    }
}

fn name(exit: &VcpuExit<'_>) -> String {
    match exit {
        VcpuExit::InternalError => "KVM cannot emulate the instruction (internal error)".to_owned(),
        VcpuExit::Shutdown => "the guest's CPU shut down (triple fault)".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(stage: u64, rounds_left: u64, sum: u64) -> Memory {
        let memory = Memory::zeroed(MEMORY_BYTES);
        [(0, stage), (16, rounds_left), (24, sum)]
            .into_iter()
            .for_each(|(at, word)| memory.write(REPORT + at, word));
        memory
    }

    #[test]
    fn a_fast_and_right_guest_is_believed() {
        let verdict = judge(Ended::Passed, &memory(7, 0, SUM), Duration::from_millis(4));
        assert_eq!(verdict, Ok(1000));
    }

    #[test]
    fn a_wrong_sum_is_not() {
        let verdict = judge(Ended::Passed, &memory(7, 0, SUM - 1), Duration::from_millis(4));
        assert_eq!(verdict, Err(Why::WrongResult { stage: Stage::Loop }));
    }

    #[test]
    fn a_slow_guest_is_counted_at_the_deadline() {
        let verdict = judge(Ended::Stopped, &memory(6, ROUNDS / 2, 0), Duration::from_secs(2));
        assert_eq!(verdict, Err(Why::TooSlow { instructions: 2_000_000, milliseconds: 2000 }));
    }

    #[test]
    fn the_stage_of_a_failure_is_named() {
        let verdict = judge(Ended::Exit("x".to_owned()), &memory(1, 0, 0), Duration::ZERO);
        assert_eq!(verdict, Err(Why::Stopped { stage: Stage::Cmpxchg16b, exit: "x".to_owned() }));
    }

    #[test]
    fn the_proof_ends_on_this_machine_whatever_it_finds() {
        let start = Instant::now();
        let verdict = prove();
        assert!(start.elapsed() < DEADLINE + GRACE + Duration::from_millis(500), "{verdict:?}");
    }

    /// Past the instructions that an interpreting host stops at.
    const ONLY_THE_LOOP: u64 = CODE + 0x6b;

    #[test]
    fn a_running_guest_is_taken_off_the_cpu_at_the_deadline() {
        let Ok(kvm) = Kvm::new() else { return };
        let memory = Arc::new(Memory::zeroed(MEMORY_BYTES));
        let machine = Machine::new(&kvm, Arc::clone(&memory), ONLY_THE_LOOP).unwrap();
        let start = Instant::now();
        let ended = Runner::start(machine).unwrap().wait();
        assert!(matches!(ended, Ended::Passed | Ended::Stopped), "{ended:?}");
        assert!(start.elapsed() < DEADLINE + GRACE, "{:?}", start.elapsed());
        let stage = Stage::from_report(memory.read(REPORT));
        let done = Done::read(&memory, stage, start.elapsed());
        assert!(done.instructions > 0, "{ended:?} at {stage}");
    }
}
