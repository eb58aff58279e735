//! The identity of a clone: what the guest is told, and whether every step of applying it succeeded.

use mimeo_agent_protocol::link::Link;
use mimeo_agent_protocol::message::{Identity, IdentityStep, Reply, Request, Step, StepOutcome};

use crate::guest::{dns, entropy, hostname, hosts, interface, unix_nanos};
use crate::machine::Record;
use crate::stage::StageError;

/// Steps that can never be `not_needed`.
const MANDATORY_STEPS: [Step; 3] = [Step::Entropy, Step::VmGeneration, Step::Clock];
/// Characters kept of a step's detail, which the guest writes.
const MAX_DETAIL: usize = 200;

/// A UUID that no other clone has.
pub(crate) fn new_vm_generation() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The number of a clone's first session: one that its source has not had.
pub(crate) fn session(vm_generation: &str) -> u32 {
    let digits: String = vm_generation.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    // The highest and the lowest numbers have meanings of their own.
    u32::from_str_radix(&digits, 16).unwrap_or_default().clamp(16, u32::MAX - 1)
}

/// The identity of the machine in `record`; with `thaw` its workload runs once it is applied.
pub(crate) fn describe(record: &Record, thaw: bool) -> Result<Identity, StageError> {
    Ok(Identity {
        vm_generation: record.vm_generation.clone().unwrap_or_else(new_vm_generation),
        machine: record.id.to_string(),
        hostname: hostname(record),
        unix_nanos: unix_nanos(),
        entropy: entropy()?,
        interface: record.network.as_ref().map(interface),
        dns: dns(record),
        dns_search: record.spec.dns_search.clone(),
        dns_options: record.spec.dns_options.clone(),
        hosts: hosts(record),
        env: record.spec.env.clone(),
        signal: None,
        thaw,
        warm_up: false,
    })
}

/// Has the guest apply the identity, and returns the outcome of each step. A step that failed or is missing is an
/// error.
pub(crate) async fn apply(link: &Link, identity: Identity) -> Result<Vec<IdentityStep>, StageError> {
    match link.call(&Request::Identify(Box::new(identity))).await? {
        Reply::Identified { steps } => check_steps(&steps),
        other => Err(other.unexpected().into()),
    }
}

/// Has the guest apply the identity as a warm-up run: it runs the same code, and changes nothing that lasts.
pub(crate) async fn warm_up(link: &Link, identity: Identity) -> Result<(), StageError> {
    apply(link, Identity { warm_up: true, ..identity }).await.map(drop)
}

/// Records that the guest has done the last step, which was requested separately.
pub(crate) fn mark_thawed(steps: &mut [IdentityStep]) {
    for step in steps.iter_mut().filter(|step| step.step == Step::Thaw) {
        step.outcome = StepOutcome::Done;
    }
}

/// The outcomes in the protocol's order, if each step succeeded.
fn check_steps(reported: &[IdentityStep]) -> Result<Vec<IdentityStep>, StageError> {
    if let Some(failed) = reported.iter().find(|report| !succeeded(report)) {
        let why = shorten(failed).detail.unwrap_or_else(|| "the guest did not do it".to_owned());
        return Err(StageError::Identity { step: wire_name(failed.step), why });
    }
    // Nothing is kept of what a guest reports beyond the steps that were requested.
    Step::ALL
        .into_iter()
        .map(|step| match reported.iter().find(|report| report.step == step) {
            Some(report) => Ok(shorten(report)),
            None => {
                let why = "the guest did not report it".to_owned();
                Err(StageError::Identity { step: wire_name(step), why })
            }
        })
        .collect()
}

fn succeeded(report: &IdentityStep) -> bool {
    match report.outcome {
        StepOutcome::Done => true,
        StepOutcome::NotNeeded => !MANDATORY_STEPS.contains(&report.step),
        StepOutcome::Failed | StepOutcome::NotTried | StepOutcome::Unknown => false,
    }
}

fn shorten(report: &IdentityStep) -> IdentityStep {
    let detail = report.detail.as_ref().map(|detail| detail.chars().take(MAX_DETAIL).collect());
    IdentityStep { detail, ..report.clone() }
}

/// The step's name on the wire, such as `ssh_keys`.
fn wire_name(step: Step) -> String {
    serde_json::to_value(step).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_all(outcome: impl Fn(Step) -> StepOutcome) -> Vec<IdentityStep> {
        let report = |step| IdentityStep { step, outcome: outcome(step), detail: None };
        Step::ALL.into_iter().map(report).collect()
    }

    #[test]
    fn each_step_must_be_reported_and_succeed() {
        assert!(check_steps(&report_all(|_| StepOutcome::Done)).is_ok());
        for broken in Step::ALL {
            for bad in [StepOutcome::Failed, StepOutcome::NotTried, StepOutcome::Unknown] {
                let steps = report_all(|step| if step == broken { bad } else { StepOutcome::Done });
                let error = check_steps(&steps).expect_err("a step failed").to_string();
                assert!(error.contains(&wire_name(broken)), "{error}");
            }
            let mut steps = report_all(|_| StepOutcome::Done);
            steps.retain(|report| report.step != broken);
            let error = check_steps(&steps).expect_err("a step is missing").to_string();
            assert!(error.contains(&wire_name(broken)), "{error}");
        }
    }

    #[test]
    fn a_clones_session_avoids_the_reserved_numbers() {
        for vm_generation in ["ffffffff-0000", "00000000-0000", "x"] {
            assert!((16..u32::MAX).contains(&session(vm_generation)));
        }
    }
}
