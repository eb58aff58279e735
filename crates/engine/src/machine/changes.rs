//! Changes to an existing machine: `rename` and `update`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Action, MachineName, Record, RestartPolicy};

/// What to change; everything else stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The new name.
    pub name: Option<MachineName>,
    /// Labels to set, or with `None` to remove.
    pub labels: BTreeMap<String, Option<String>>,
    /// The new restart policy.
    pub restart: Option<RestartPolicy>,
    /// The new number of vCPUs, from the next start on.
    pub cpus: Option<u32>,
    /// With that: the container's CPU time in billionths of a CPU, where it is less than the vCPUs.
    #[serde(default)]
    pub nano_cpus: Option<u64>,
    /// The new memory size in MiB, from the next start on.
    pub memory_mib: Option<u32>,
}

impl Changes {
    /// Returns the action that decides whether the machine's state allows the changes.
    #[must_use]
    pub fn action(&self) -> Action {
        if self.cpus.is_some() || self.memory_mib.is_some() { Action::Resize } else { Action::Edit }
    }

    /// Returns the name of the event that reports the changes.
    #[must_use]
    pub(crate) fn event(&self) -> &'static str {
        if self.name.is_some() { "rename" } else { "update" }
    }

    /// Applies the changes to the machine's record.
    pub(crate) fn apply(&self, record: &mut Record) {
        if let Some(name) = &self.name {
            record.name.clone_from(name);
            record.spec.name = Some(name.clone());
        }
        for (key, value) in &self.labels {
            match value {
                Some(value) => record.spec.labels.insert(key.clone(), value.clone()),
                None => record.spec.labels.remove(key),
            };
        }
        let spec = &mut record.spec;
        spec.restart = self.restart.unwrap_or(spec.restart);
        if let Some(cpus) = self.cpus {
            spec.cpus = cpus;
            spec.container.nano_cpus = self.nano_cpus;
        }
        spec.memory_mib = self.memory_mib.unwrap_or(spec.memory_mib);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{MachineId, MachineSpec};

    #[test]
    fn only_what_is_named_changes() {
        let name: MachineName = "web".parse().expect("a name");
        let mut spec = MachineSpec::new("busybox");
        spec.labels = BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let mut record = Record::new(MachineId::random(), name, spec);
        let before = record.clone();
        Changes::default().apply(&mut record);
        assert_eq!(record, before);
        let changes = Changes {
            labels: BTreeMap::from([("a".into(), None), ("c".into(), Some("3".into()))]),
            restart: Some(RestartPolicy::Always),
            ..Changes::default()
        };
        assert_eq!(changes.action(), Action::Edit);
        changes.apply(&mut record);
        assert_eq!(record.spec.restart, RestartPolicy::Always);
        assert_eq!(record.spec.labels, BTreeMap::from([("b".into(), "2".into()), ("c".into(), "3".into())]));
        assert_eq!(record.name, before.name);
        record.spec.container.nano_cpus = Some(500_000_000);
        let resize = Changes { cpus: Some(2), ..Changes::default() };
        assert_eq!(resize.action(), Action::Resize);
        resize.apply(&mut record);
        assert_eq!((record.spec.cpus, record.spec.container.nano_cpus), (2, None));
    }
}
