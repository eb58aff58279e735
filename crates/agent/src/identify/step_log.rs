//! What became of each line.

use mimeo_agent_protocol::message::{Failure, IdentityLine, Line, Outcome};

/// What a line came to that did not fail.
#[derive(Debug)]
pub(super) enum StepSuccess {
    Done,
    /// Done, and there is something to say about it.
    DoneWith(String),
    NotNeeded,
}

/// A line has failed: none after it may be tried.
#[derive(Debug)]
pub(super) struct StepFailed;

/// The lines so far, in order.
#[derive(Debug, Default)]
pub(super) struct StepLog(Vec<IdentityLine>);

impl StepLog {
    /// Takes down what became of a line.
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

    /// All lines; `rest` became of those that were not come to.
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
        log.record(Line::Entropy, Ok(StepSuccess::Done)).expect("goes on");
        log.record(Line::Generation, Err(failure(FailureKind::Invalid, "why"))).expect_err("stops");
        let lines = log.complete(Outcome::NotTried);
        assert_eq!(lines.iter().map(|line| line.line).collect::<Vec<_>>(), Line::ALL);
        assert_eq!(lines[1].detail.as_deref(), Some("why"));
        let outcomes: Vec<Outcome> = lines.iter().map(|line| line.outcome).collect();
        assert_eq!(outcomes[..3], [Outcome::Done, Outcome::Failed, Outcome::NotTried]);
        assert!(outcomes[2..].iter().all(|outcome| *outcome == Outcome::NotTried));
    }
}
