//! The outcome of each step.

use mimeo_agent_protocol::message::{Failure, IdentityStep, Step, StepOutcome};

/// The outcome of a step that did not fail.
#[derive(Debug)]
pub(super) enum StepSuccess {
    Done,
    /// Done, with a detail to report.
    DoneWith(String),
    NotNeeded,
}

/// A step has failed: no later step may be tried.
#[derive(Debug)]
pub(super) struct StepFailed;

/// The steps so far, in order.
#[derive(Debug, Default)]
pub(super) struct StepLog(Vec<IdentityStep>);

impl StepLog {
    /// Records the outcome of a step.
    pub(super) fn record(
        &mut self,
        step: Step,
        result: Result<StepSuccess, Failure>,
    ) -> Result<(), StepFailed> {
        let failed = result.is_err();
        let (outcome, detail) = match result {
            Ok(StepSuccess::Done) => (StepOutcome::Done, None),
            Ok(StepSuccess::DoneWith(detail)) => (StepOutcome::Done, Some(detail)),
            Ok(StepSuccess::NotNeeded) => (StepOutcome::NotNeeded, None),
            Err(failure) => (StepOutcome::Failed, Some(failure.message)),
        };
        self.0.push(IdentityStep { step, outcome, detail });
        if failed { Err(StepFailed) } else { Ok(()) }
    }

    /// All steps. Those that were not reached get the outcome `remaining`.
    pub(super) fn complete(mut self, remaining: StepOutcome) -> Vec<IdentityStep> {
        for step in Step::ALL.into_iter().skip(self.0.len()) {
            self.0.push(IdentityStep { step, outcome: remaining, detail: None });
        }
        self.0
    }
}

#[cfg(test)]
mod tests {
    use mimeo_agent_protocol::message::FailureKind;

    use super::*;
    use crate::failure::failure;

    #[test]
    fn steps_after_a_failure_are_not_tried() {
        let mut log = StepLog::default();
        log.record(Step::Entropy, Ok(StepSuccess::Done)).expect("continues");
        log.record(Step::VmGeneration, Err(failure(FailureKind::Invalid, "why"))).expect_err("stops");
        let steps = log.complete(StepOutcome::NotTried);
        assert_eq!(steps.iter().map(|step| step.step).collect::<Vec<_>>(), Step::ALL);
        assert_eq!(steps[1].detail.as_deref(), Some("why"));
        let outcomes: Vec<StepOutcome> = steps.iter().map(|step| step.outcome).collect();
        assert_eq!(outcomes[..3], [StepOutcome::Done, StepOutcome::Failed, StepOutcome::NotTried]);
        assert!(outcomes[2..].iter().all(|outcome| *outcome == StepOutcome::NotTried));
    }
}
