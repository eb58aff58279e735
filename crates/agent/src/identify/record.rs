//! What became of each line.

use mimeo_agent_protocol::message::{Failure, IdentityLine, Line, Outcome};

/// What a line came to that did not fail.
#[derive(Debug)]
pub(super) enum Did {
    Done,
    /// Done, and there is something to say about it.
    Told(String),
    NotNeeded,
}

/// A line has failed: none after it may be tried.
#[derive(Debug)]
pub(super) struct Stopped;

/// The lines so far, in order.
#[derive(Debug, Default)]
pub(super) struct Record(Vec<IdentityLine>);

impl Record {
    /// Takes down what became of a line.
    pub(super) fn note(&mut self, line: Line, result: Result<Did, Failure>) -> Result<(), Stopped> {
        let failed = result.is_err();
        let (outcome, detail) = match result {
            Ok(Did::Done) => (Outcome::Done, None),
            Ok(Did::Told(detail)) => (Outcome::Done, Some(detail)),
            Ok(Did::NotNeeded) => (Outcome::NotNeeded, None),
            Err(failure) => (Outcome::Failed, Some(failure.message)),
        };
        self.0.push(IdentityLine { line, outcome, detail });
        if failed { Err(Stopped) } else { Ok(()) }
    }

    /// All lines; `rest` became of those that were not come to.
    pub(super) fn complete(mut self, rest: Outcome) -> Vec<IdentityLine> {
        for line in Line::ALL.into_iter().skip(self.0.len()) {
            self.0.push(IdentityLine { line, outcome: rest, detail: None });
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
    fn what_comes_behind_a_failure_is_not_tried() {
        let mut record = Record::default();
        record.note(Line::Entropy, Ok(Did::Done)).expect("goes on");
        record.note(Line::Generation, Err(failure(FailureKind::Invalid, "why"))).expect_err("stops");
        let lines = record.complete(Outcome::NotTried);
        assert_eq!(lines.iter().map(|line| line.line).collect::<Vec<_>>(), Line::ALL);
        assert_eq!(lines[1].detail.as_deref(), Some("why"));
        let outcomes: Vec<Outcome> = lines.iter().map(|line| line.outcome).collect();
        assert_eq!(outcomes[..3], [Outcome::Done, Outcome::Failed, Outcome::NotTried]);
        assert!(outcomes[2..].iter().all(|outcome| *outcome == Outcome::NotTried));
    }
}
