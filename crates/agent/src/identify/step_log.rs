//! The outcome of each step.

use mimeo_agent_protocol::message::{Failure, IdentityLine, Line, Outcome};

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
pub(super) struct StepLog(Vec<IdentityLine>);

impl StepLog {
    /// Records the outcome of a step.
    pub(super) fn record(
        &mut self,
        line: Line,
        result: Result<StepSuccess, Failure>,
    ) -> Result<(), StepFailed> {
        let failed = result.is_err();
        let (outcome, detail) = match result {
            Ok(StepSuccess::Done) => (Outcome::Done, None),
            Ok(StepSuccess::DoneWith(detail)) => (Outcome::Done, Some(detail)),
            Ok(StepSuccess::NotNeeded) => (Outcome::NotNeeded, None),
            Err(failure) => (Outcome::Failed, Some(failure.message)),
        };
        self.0.push(IdentityLine { line, outcome, detail });
        if failed { Err(StepFailed) } else { Ok(()) }
    }

    /// All steps. Those that were not reached get the outcome `remaining`.
    pub(super) fn complete(mut self, remaining: Outcome) -> Vec<IdentityLine> {
        for line in Line::ALL.into_iter().skip(self.0.len()) {
            self.0.push(IdentityLine { line, outcome: remaining, detail: None });
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
        log.record(Line::Entropy, Ok(StepSuccess::Done)).expect("continues");
        log.record(Line::Generation, Err(failure(FailureKind::Invalid, "why"))).expect_err("stops");
        let lines = log.complete(Outcome::NotTried);
        assert_eq!(lines.iter().map(|line| line.line).collect::<Vec<_>>(), Line::ALL);
        assert_eq!(lines[1].detail.as_deref(), Some("why"));
        let outcomes: Vec<Outcome> = lines.iter().map(|line| line.outcome).collect();
        assert_eq!(outcomes[..3], [Outcome::Done, Outcome::Failed, Outcome::NotTried]);
        assert!(outcomes[2..].iter().all(|outcome| *outcome == Outcome::NotTried));
    }
}
