//! A machine's life: what may be asked of it when. Pure: no I/O, no clock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is being made; its container does not run yet.
    Creating,
    /// Its container runs.
    Running,
    /// Its processors stand still.
    Paused,
    /// It was told to end.
    Stopping,
    /// Its container has ended.
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

/// What can be asked of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Talk to the guest: exec, copy, processes.
    Enter,
    /// Send its container a signal.
    Signal,
    /// Stand still.
    Pause,
    /// Go on.
    Unpause,
    /// Be copied.
    Snapshot,
    /// End in good order.
    Stop,
    /// Vanish.
    Remove {
        /// Even if it runs.
        force: bool,
    },
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Do it.
    Proceed,
    /// It is so already.
    Nothing,
    /// Let the processors go on, then do it.
    ResumeFirst,
    /// End the machine, then do it.
    StopFirst,
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It has not come up yet.
    #[error("it is still being created")]
    NotYet,
    /// It is paused.
    #[error("it is paused: `mimeo unpause` lets it go on")]
    Paused,
    /// It is not paused.
    #[error("it is not paused")]
    NotPaused,
    /// It is ending.
    #[error("it is stopping")]
    Stopping,
    /// It is over.
    #[error("it is not running")]
    NotRunning,
    /// It runs, and nobody said that this does not matter.
    #[error("it is running: stop it first, or use --force")]
    Running,
}

/// Whether and how `action` is done in `phase`.
///
/// # Errors
/// When it cannot be done then.
pub fn decide(phase: Phase, action: Action) -> Result<Decision, Refusal> {
    match action {
        // The workload must take part in it, as in anything that enters the guest.
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
        // One more signal may be what ends it.
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
        // A machine that is being created is ended by undoing what was done.
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

    /// What a machine is after an action that was decided on.
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
        /// Whatever is asked in whatever order, an ended machine never comes
        /// back, and nothing but resuming moves a paused one's processors.
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

        /// Asking twice for the same end is no error.
        #[test]
        fn stop_and_pause_can_be_repeated(first in 0..2usize) {
            let action = [Action::Stop, Action::Pause][first];
            let decision = decide(Phase::Running, action).expect("allowed");
            let next = phase_after(Phase::Running, action, decision);
            prop_assert_eq!(decide(next, action), Ok(Decision::Nothing));
        }
    }
}
