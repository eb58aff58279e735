//! Freezes machines and applies identities, for tests.

use std::collections::BTreeMap;

use mimeo_agent_protocol::message::{
    Address, ExitStatus, Identity, IdentityStep, Interface, Process, Reply, Request, Step, StepOutcome,
};

use super::{Running, Vm, pause_briefly, shell};

/// A script that counts in a file while it runs.
pub const COUNTER: &str = "n=0; while :; do n=$((n+1)); echo $n > /dev/shm/n; sleep 0.01; done";

/// A clone's identity, valid in every step.
pub fn identity() -> Identity {
    Identity {
        vm_generation: "0198a1b2-0000-4000-8000-0123456789ab".into(),
        machine: "c".repeat(64),
        hostname: "clone".into(),
        unix_nanos: 1_850_000_000_000_000_000,
        entropy: "5a".repeat(32),
        interface: Some(Interface {
            mac: "02:00:00:00:00:08".into(),
            address: Address { ip: [10, 0, 2, 16].into(), prefix: 24 },
            gateway: [10, 0, 2, 2].into(),
            mtu: 1300,
            ipv6: None,
        }),
        dns: vec!["10.0.2.4".into()],
        dns_search: vec!["example.net".into()],
        dns_options: Vec::new(),
        hosts: [("cache".to_owned(), "10.9.8.6".to_owned())].into(),
        env: BTreeMap::from([("TOKEN".to_owned(), "the clone's own".to_owned())]),
        signal: None,
        thaw: true,
        warm_up: false,
    }
}

impl Vm {
    pub async fn freeze(&self) {
        assert_eq!(self.succeed(Request::Freeze).await, Reply::Frozen {});
    }

    pub async fn thaw(&self) {
        assert_eq!(
            self.succeed(Request::Thaw { unix_nanos: None, advance_nanos: 0, since: None }).await,
            Reply::Done
        );
    }

    pub async fn identify(&self, identity: Identity) -> Vec<IdentityStep> {
        match self.succeed(Request::Identify(Box::new(identity))).await {
            Reply::Identified { steps } => steps,
            other => panic!("{other:?}"),
        }
    }

    /// Attaches to the container's streams.
    pub async fn attach(&self) -> Running {
        self.begin(Request::Attach).await.unwrap_or_else(|failure| panic!("{failure}"))
    }

    /// The output of a script that runs while the workload is frozen.
    pub async fn aside(&self, script: &str) -> String {
        let output = self.run(Process { aside: true, ..shell(script) }).await;
        assert_eq!(output.status, ExitStatus::Code(0), "{script}: {output:?}");
        output.stdout
    }

    /// Whether the counter has stopped.
    pub async fn is_frozen(&self) -> bool {
        let before = self.aside("cat /dev/shm/n").await;
        pause_briefly().await;
        before == self.aside("cat /dev/shm/n").await
    }
}

/// Asserts that this step failed, for this reason, and that no later step was tried.
pub fn assert_step_failed(steps: &[IdentityStep], step: Step, why: &str) {
    let at = steps.iter().position(|found| found.step == step).expect("the step");
    for (number, found) in steps.iter().enumerate() {
        match number.cmp(&at) {
            std::cmp::Ordering::Less => {
                assert!(matches!(found.outcome, StepOutcome::Done | StepOutcome::NotNeeded), "{steps:#?}");
            }
            std::cmp::Ordering::Equal => {
                let detail = found.detail.as_deref().unwrap_or_default();
                assert!(found.outcome == StepOutcome::Failed && detail.contains(why), "{why}: {steps:#?}");
            }
            std::cmp::Ordering::Greater => assert_eq!(found.outcome, StepOutcome::NotTried, "{steps:#?}"),
        }
    }
    assert_eq!(steps.len(), Step::ALL.len());
}
