//! Which action is allowed in which state of a machine. Pure: no I/O, no clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The states of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The machine was created and never started.
    Created,
    /// The machine starts; its container does not run yet.
    Creating,
    /// The container runs.
    Running,
    /// The vCPUs are stopped.
    Paused,
    /// The VMM has stopped the vCPUs, because the host cannot write the machine's disk.
    DiskError,
    /// The machine has received a request to stop.
    Stopping,
    /// The container has exited, and the supervisor waits before it starts the machine again.
    Restarting,
    /// The container has exited.
    Exited,
}

impl Phase {
    /// Returns whether a machine in this state has a supervisor.
    #[must_use]
    pub fn is_live(self) -> bool {
        !matches!(self, Self::Created | Self::Exited)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Created => "created",
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::DiskError => "paused by a disk error",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
        })
    }
}

/// An action that a client requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Start the machine.
    Start,
    /// Change the machine's name, labels or restart policy.
    Edit,
    /// Change its vCPUs or its memory.
    Resize,
    /// Talk to the guest: exec, file copies, process lists.
    Enter,
    /// Send the container a signal.
    Signal,
    /// Stop the vCPUs.
    Pause,
    /// Resume the vCPUs.
    Unpause,
    /// Take a snapshot.
    Snapshot,
    /// Stop the container, and kill it after a timeout.
    Stop,
    /// Remove the machine.
    Remove {
        /// Stop it first if it runs.
        force: bool,
    },
}

/// How to carry out an allowed action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Carry it out.
    Proceed,
    /// The machine is in that state already.
    Nothing,
    /// Resume the vCPUs first.
    ResumeFirst,
    /// Stop the machine first.
    StopFirst,
    /// The supervisor carries it out.
    Supervisor,
}

/// Why an action is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The container does not run yet.
    #[error("it is still being created")]
    NotYet,
    /// The machine is paused.
    #[error("it is paused: `mimeo unpause` resumes it")]
    Paused,
    /// The host cannot write the machine's disk.
    #[error(
        "it is paused, because the host cannot write its disk (`mimeo inspect` says why): it resumes when it can; free space in MIMEO_HOME if the disk is full"
    )]
    DiskError,
    /// The machine is not paused.
    #[error("it is not paused")]
    NotPaused,
    /// The machine is stopping.
    #[error("it is stopping")]
    Stopping,
    /// The supervisor waits before it starts the machine again.
    #[error("it is restarting: `mimeo stop` stops it")]
    Restarting,
    /// The machine has exited, or was never started.
    #[error("it is not running")]
    NotRunning,
    /// The machine runs, and its size cannot be changed.
    #[error("its vCPUs and memory cannot be changed while it runs: stop it first")]
    Resize,
    /// The machine runs, and removal was not forced.
    #[error("it is running: stop it first, or use --force")]
    Running,
}

/// Returns how `action` is carried out in `phase`.
///
/// # Errors
/// If the action is not allowed in this state.
pub fn decide(phase: Phase, action: Action) -> Result<Decision, Refusal> {
    match action {
        // A snapshot needs the workload's cooperation, like anything that enters the guest.
        Action::Enter | Action::Snapshot => enter(phase),
        Action::Start => start(phase),
        Action::Edit => edit(phase),
        Action::Resize => resize(phase),
        Action::Signal => signal(phase),
        Action::Pause => pause(phase),
        Action::Unpause => unpause(phase),
        Action::Stop => Ok(stop(phase)),
        Action::Remove { force } => remove(phase, force),
    }
}

fn start(phase: Phase) -> Result<Decision, Refusal> {
    match phase {
        Phase::Created | Phase::Exited => Ok(Decision::Proceed),
        Phase::Creating | Phase::Running | Phase::Restarting => Ok(Decision::Nothing),
        Phase::Paused => Err(Refusal::Paused),
        Phase::DiskError => Err(Refusal::DiskError),
        Phase::Stopping => Err(Refusal::Stopping),
    }
}

fn edit(phase: Phase) -> Result<Decision, Refusal> {
    match phase {
        Phase::Created | Phase::Exited => Ok(Decision::Proceed),
        Phase::Running | Phase::Paused | Phase::DiskError => Ok(Decision::Supervisor),
        Phase::Creating => Err(Refusal::NotYet),
        Phase::Stopping => Err(Refusal::Stopping),
        Phase::Restarting => Err(Refusal::Restarting),
    }
}

fn resize(phase: Phase) -> Result<Decision, Refusal> {
    match edit(phase)? {
        Decision::Supervisor => Err(Refusal::Resize),
        decision => Ok(decision),
    }
}

fn enter(phase: Phase) -> Result<Decision, Refusal> {
    match phase {
        Phase::Running => Ok(Decision::Proceed),
        Phase::Creating => Err(Refusal::NotYet),
        Phase::Paused => Err(Refusal::Paused),
        Phase::DiskError => Err(Refusal::DiskError),
        Phase::Stopping => Err(Refusal::Stopping),
        Phase::Restarting => Err(Refusal::Restarting),
        Phase::Created | Phase::Exited => Err(Refusal::NotRunning),
    }
}

fn signal(phase: Phase) -> Result<Decision, Refusal> {
    match phase {
        // Another signal may be the one that ends the container.
        Phase::Running | Phase::Stopping => Ok(Decision::Proceed),
        Phase::Creating => Err(Refusal::NotYet),
        Phase::Paused => Err(Refusal::Paused),
        Phase::DiskError => Err(Refusal::DiskError),
        Phase::Restarting => Err(Refusal::Restarting),
        Phase::Created | Phase::Exited => Err(Refusal::NotRunning),
    }
}

fn pause(phase: Phase) -> Result<Decision, Refusal> {
    match phase {
        // A machine that the user paused stays so, even when its disk can be written again.
        Phase::Running | Phase::DiskError => Ok(Decision::Proceed),
        Phase::Paused => Ok(Decision::Nothing),
        Phase::Creating => Err(Refusal::NotYet),
        Phase::Stopping => Err(Refusal::Stopping),
        Phase::Restarting => Err(Refusal::Restarting),
        Phase::Created | Phase::Exited => Err(Refusal::NotRunning),
    }
}

fn unpause(phase: Phase) -> Result<Decision, Refusal> {
    match phase {
        Phase::Paused | Phase::DiskError => Ok(Decision::Proceed),
        Phase::Running | Phase::Stopping => Err(Refusal::NotPaused),
        Phase::Creating => Err(Refusal::NotYet),
        Phase::Restarting => Err(Refusal::Restarting),
        Phase::Created | Phase::Exited => Err(Refusal::NotRunning),
    }
}

fn stop(phase: Phase) -> Decision {
    match phase {
        // Stopping a machine that starts undoes the start.
        Phase::Running | Phase::Creating | Phase::Restarting => Decision::Proceed,
        Phase::Paused | Phase::DiskError => Decision::ResumeFirst,
        Phase::Stopping | Phase::Created | Phase::Exited => Decision::Nothing,
    }
}

fn remove(phase: Phase, force: bool) -> Result<Decision, Refusal> {
    match phase {
        Phase::Created | Phase::Exited => Ok(Decision::Proceed),
        _ if force => Ok(Decision::StopFirst),
        _ => Err(Refusal::Running),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PHASES: [Phase; 8] = [
        Phase::Created,
        Phase::Creating,
        Phase::Running,
        Phase::Paused,
        Phase::DiskError,
        Phase::Stopping,
        Phase::Restarting,
        Phase::Exited,
    ];
    const ACTIONS: [Action; 11] = [
        Action::Start,
        Action::Edit,
        Action::Resize,
        Action::Enter,
        Action::Snapshot,
        Action::Signal,
        Action::Pause,
        Action::Unpause,
        Action::Stop,
        Action::Remove { force: false },
        Action::Remove { force: true },
    ];

    /// The state of a machine after an allowed action.
    fn phase_after(phase: Phase, action: Action, decision: Decision) -> Phase {
        match (action, decision) {
            (_, Decision::Nothing) => phase,
            (Action::Enter | Action::Snapshot | Action::Signal | Action::Edit | Action::Resize, _) => phase,
            (Action::Start, _) => Phase::Creating,
            (Action::Pause, _) => Phase::Paused,
            (Action::Unpause, _) => Phase::Running,
            (Action::Stop, _) => Phase::Stopping,
            (Action::Remove { .. }, _) => Phase::Exited,
        }
    }

    /// What happens to a machine without a request.
    fn progress(phase: Phase) -> Phase {
        match phase {
            Phase::Creating | Phase::Restarting => Phase::Running,
            Phase::Stopping => Phase::Exited,
            other => other,
        }
    }

    #[test]
    fn only_a_running_machine_is_entered() {
        for phase in PHASES {
            assert_eq!(decide(phase, Action::Enter).is_ok(), phase == Phase::Running, "{phase}");
        }
    }

    #[test]
    fn stop_and_forced_removal_are_never_refused() {
        for phase in PHASES {
            assert!(decide(phase, Action::Stop).is_ok(), "{phase}");
            assert!(decide(phase, Action::Remove { force: true }).is_ok(), "{phase}");
        }
    }

    #[test]
    fn only_a_machine_without_a_supervisor_is_removed_or_resized_without_force() {
        for phase in PHASES {
            assert_eq!(decide(phase, Action::Remove { force: false }).is_ok(), !phase.is_live(), "{phase}");
            assert_eq!(decide(phase, Action::Resize).is_ok(), !phase.is_live(), "{phase}");
        }
    }

    #[test]
    fn a_machine_with_a_supervisor_is_not_started() {
        for phase in PHASES {
            let starts = decide(phase, Action::Start) == Ok(Decision::Proceed);
            assert_eq!(starts, !phase.is_live(), "{phase}");
        }
    }

    proptest! {
        /// Only a start makes an exited machine live again, and only a resume runs the vCPUs of a paused
        /// one.
        #[test]
        fn only_a_start_wakes_an_exited_machine(
            steps in proptest::collection::vec((0..ACTIONS.len(), proptest::bool::ANY), 1..60)
        ) {
            let mut phase = Phase::Created;
            for (action, progresses) in steps.into_iter().map(|(n, progresses)| (ACTIONS[n], progresses)) {
                if progresses {
                    phase = progress(phase);
                }
                let Ok(decision) = decide(phase, action) else { continue };
                let next = phase_after(phase, action, decision);
                if !phase.is_live() && next.is_live() {
                    prop_assert_eq!(action, Action::Start);
                }
                if action == Action::Start && phase.is_live() {
                    prop_assert_eq!(next, phase);
                }
                if phase == Phase::Paused && next == Phase::Stopping {
                    prop_assert_eq!(decision, Decision::ResumeFirst);
                }
                if phase == Phase::Paused {
                    prop_assert!(!matches!(action, Action::Enter | Action::Snapshot | Action::Signal | Action::Start));
                }
                if decision == Decision::Supervisor {
                    prop_assert!(matches!(phase, Phase::Running | Phase::Paused));
                }
                phase = next;
            }
        }

        /// Repeating a start, a stop or a pause is no error.
        #[test]
        fn start_stop_and_pause_can_be_repeated(first in 0..3usize) {
            let (phase, action) =
                [(Phase::Running, Action::Stop), (Phase::Running, Action::Pause), (Phase::Exited, Action::Start)][first];
            let decision = decide(phase, action).expect("allowed");
            let next = phase_after(phase, action, decision);
            prop_assert_eq!(decide(next, action), Ok(Decision::Nothing));
        }
    }
}
