//! Which action is allowed in which state of a machine. Pure: no I/O, no clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The states of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The machine is being created; its container does not run yet.
    Creating,
    /// The container runs.
    Running,
    /// The vCPUs are stopped.
    Paused,
    /// The machine has received a request to stop.
    Stopping,
    /// The container has exited.
    Exited,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
        })
    }
}

/// An action that a client requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
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
    /// The machine is not paused.
    #[error("it is not paused")]
    NotPaused,
    /// The machine is stopping.
    #[error("it is stopping")]
    Stopping,
    /// The machine has exited.
    #[error("it is not running")]
    NotRunning,
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
        Action::Signal => signal(phase),
        Action::Pause => pause(phase),
        Action::Unpause => unpause(phase),
        Action::Stop => Ok(stop(phase)),
        Action::Remove { force } => remove(phase, force),
    }
}

fn enter(phase: Phase) -> Result<Decision, Refusal> {
    match phase {
        Phase::Running => Ok(Decision::Proceed),
        Phase::Creating => Err(Refusal::NotYet),
        Phase::Paused => Err(Refusal::Paused),
        Phase::Stopping => Err(Refusal::Stopping),
        Phase::Exited => Err(Refusal::NotRunning),
    }
}

fn signal(phase: Phase) -> Result<Decision, Refusal> {
    match phase {
        // Another signal may be the one that ends the container.
        Phase::Running | Phase::Stopping => Ok(Decision::Proceed),
        Phase::Creating => Err(Refusal::NotYet),
        Phase::Paused => Err(Refusal::Paused),
        Phase::Exited => Err(Refusal::NotRunning),
    }
}

fn pause(phase: Phase) -> Result<Decision, Refusal> {
    match phase {
        Phase::Running => Ok(Decision::Proceed),
        Phase::Paused => Ok(Decision::Nothing),
        Phase::Creating => Err(Refusal::NotYet),
        Phase::Stopping => Err(Refusal::Stopping),
        Phase::Exited => Err(Refusal::NotRunning),
    }
}

fn unpause(phase: Phase) -> Result<Decision, Refusal> {
    match phase {
        Phase::Paused => Ok(Decision::Proceed),
        Phase::Running | Phase::Stopping => Err(Refusal::NotPaused),
        Phase::Creating => Err(Refusal::NotYet),
        Phase::Exited => Err(Refusal::NotRunning),
    }
}

fn stop(phase: Phase) -> Decision {
    match phase {
        // Stopping a machine that is being created undoes its creation.
        Phase::Running | Phase::Creating => Decision::Proceed,
        Phase::Paused => Decision::ResumeFirst,
        Phase::Stopping | Phase::Exited => Decision::Nothing,
    }
}

fn remove(phase: Phase, force: bool) -> Result<Decision, Refusal> {
    match phase {
        Phase::Exited => Ok(Decision::Proceed),
        _ if force => Ok(Decision::StopFirst),
        _ => Err(Refusal::Running),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PHASES: [Phase; 5] =
        [Phase::Creating, Phase::Running, Phase::Paused, Phase::Stopping, Phase::Exited];
    const ACTIONS: [Action; 8] = [
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
            (_, Decision::Nothing) | (Action::Enter | Action::Snapshot | Action::Signal, _) => phase,
            (Action::Pause, _) => Phase::Paused,
            (Action::Unpause, _) => Phase::Running,
            (Action::Stop, _) => Phase::Stopping,
            (Action::Remove { .. }, _) => Phase::Exited,
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
    fn only_an_exited_machine_is_removed_without_force() {
        for phase in PHASES {
            let decision = decide(phase, Action::Remove { force: false });
            assert_eq!(decision.is_ok(), phase == Phase::Exited, "{phase}");
        }
    }

    proptest! {
        /// No sequence of requests restarts an exited machine, and only a resume runs the
        /// vCPUs of a paused one.
        #[test]
        fn no_requests_restart_or_wake_a_machine(actions in proptest::collection::vec(0..ACTIONS.len(), 1..40)) {
            let mut phase = Phase::Running;
            for action in actions.into_iter().map(|n| ACTIONS[n]) {
                let Ok(decision) = decide(phase, action) else { continue };
                let next = phase_after(phase, action, decision);
                if phase == Phase::Exited {
                    prop_assert_eq!(next, Phase::Exited);
                }
                if phase == Phase::Paused && next == Phase::Stopping {
                    prop_assert_eq!(decision, Decision::ResumeFirst);
                }
                if phase == Phase::Paused {
                    prop_assert_ne!(action, Action::Enter);
                    prop_assert_ne!(action, Action::Snapshot);
                    prop_assert_ne!(action, Action::Signal);
                }
                phase = next;
            }
        }

        /// Repeating a stop or a pause is no error.
        #[test]
        fn stop_and_pause_can_be_repeated(first in 0..2usize) {
            let action = [Action::Stop, Action::Pause][first];
            let decision = decide(Phase::Running, action).expect("allowed");
            let next = phase_after(Phase::Running, action, decision);
            prop_assert_eq!(decide(next, action), Ok(Decision::Nothing));
        }
    }
}
