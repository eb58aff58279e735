//! An in-memory host with injectable faults.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::address::BridgeAddress;
use super::host::{Connected, Host};
use super::rules::{Element, Key};
use super::{Attachment, BridgedError, NetworkRequest, TapUse, attach_to, clear_on, sweep_on};

/// Injected faults: each step fails after this many successes, counted from its last failure. All off by default.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Creating the bridge.
    pub prepare_after: Option<u32>,
    /// Creating the namespace and the link.
    pub connect_after: Option<u32>,
    /// Applying an nftables transaction.
    pub apply_after: Option<u32>,
}

/// The fake host.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    faults: Faults,
    state: Arc<Mutex<State>>,
    /// Whether the bridge's lock is held.
    locked: Arc<Mutex<bool>>,
}

#[derive(Debug, Default)]
struct State {
    bridge: bool,
    table: bool,
    links: BTreeMap<String, BridgeAddress>,
    marks: BTreeSet<String>,
    /// Set and key of each element, and the id of its machine.
    elements: BTreeMap<(&'static str, Key), String>,
    steps: BTreeMap<&'static str, u32>,
}

impl Fake {
    /// Creates a host without a bridge and without machines.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self { faults, ..Self::default() }
    }

    /// [`attach`](super::attach) on this host.
    ///
    /// # Errors
    /// As [`attach`](super::attach), and when a fault is injected.
    pub fn attach(&self, request: &NetworkRequest) -> Result<Attachment, BridgedError> {
        attach_to(Arc::new(self.clone()), request)
    }

    /// [`sweep`](super::sweep) on this host.
    ///
    /// # Errors
    /// When a fault is injected.
    pub fn sweep(&self) -> Result<Vec<String>, BridgedError> {
        sweep_on(self)
    }

    /// [`clear`](super::clear) on this host.
    ///
    /// # Errors
    /// When a fault is injected.
    pub fn clear(&self, id: &str) -> Result<(), BridgedError> {
        clear_on(self, id)
    }

    /// Simulates a killed supervisor: only the machine's link disappears.
    pub fn kill(&self, attachment: Attachment) {
        self.state().links.remove(&attachment.id);
        std::mem::forget(attachment);
    }

    /// Everything that exists on the host, one line each.
    #[must_use]
    pub fn leftovers(&self) -> Vec<String> {
        let state = self.state();
        let mut all: Vec<_> = state.links.keys().map(|id| format!("link {id}")).collect();
        all.extend(state.marks.iter().map(|id| format!("mark {id}")));
        all.extend(state.elements.iter().map(|((set, key), id)| format!("element {set} {key:?} of {id}")));
        all.extend(state.bridge.then(|| "bridge".to_owned()));
        all.extend(state.table.then(|| "table".to_owned()));
        all
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies `change` to each element. If one change fails, none is applied.
    fn change_all(
        &self,
        elements: &[Element],
        mut change: impl FnMut(&mut BTreeMap<(&'static str, Key), String>, &Element) -> bool,
    ) -> Result<(), BridgedError> {
        let mut state = self.state();
        let mut all = state.elements.clone();
        match elements.iter().find(|element| !change(&mut all, element)) {
            Some(element) => Err(BridgedError::Nft {
                stderr: format!("element exists already or is missing: {element:?}"),
            }),
            None => {
                state.elements = all;
                Ok(())
            }
        }
    }

    fn step(&self, step: &'static str, fails_after: Option<u32>) -> Result<(), BridgedError> {
        let Some(after) = fails_after else { return Ok(()) };
        let mut state = self.state();
        let done = state.steps.entry(step).or_default();
        if *done < after {
            *done += 1;
            return Ok(());
        }
        *done = 0;
        Err(BridgedError::Injected { step })
    }
}

/// Releases the bridge's lock when dropped.
struct LockGuard(Arc<Mutex<bool>>);

impl Drop for LockGuard {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

impl Host for Fake {
    fn lock(&self) -> Result<Box<dyn Send>, BridgedError> {
        loop {
            let mut held = self.locked.lock().unwrap_or_else(PoisonError::into_inner);
            if !*held {
                *held = true;
                return Ok(Box::new(LockGuard(Arc::clone(&self.locked))));
            }
            drop(held);
            std::thread::yield_now();
        }
    }

    fn prepare(&self) -> Result<(), BridgedError> {
        self.step("prepare", self.faults.prepare_after)?;
        self.state().bridge = true;
        Ok(())
    }

    fn attached(&self) -> Result<HashMap<String, BridgeAddress>, BridgedError> {
        Ok(self.state().links.clone().into_iter().collect())
    }

    fn connect(&self, id: &str, address: BridgeAddress, _: TapUse) -> Result<Connected, BridgedError> {
        self.step("connect", self.faults.connect_after)?;
        let mut state = self.state();
        if state.links.insert(id.to_owned(), address).is_some() {
            return Err(BridgedError::Exists { name: id.to_owned() });
        }
        state.marks.insert(id.to_owned());
        Ok(Connected { namespace: None, tap: None, dns_sockets: None })
    }

    fn disconnect(&self, id: &str) -> Result<(), BridgedError> {
        let mut state = self.state();
        state.links.remove(id);
        state.marks.remove(id);
        Ok(())
    }

    fn stale_marks(&self) -> Vec<String> {
        let state = self.state();
        state.marks.iter().filter(|id| !state.links.contains_key(*id)).cloned().collect()
    }

    fn ensure_table(&self) -> Result<(), BridgedError> {
        self.step("apply", self.faults.apply_after)?;
        self.state().table = true;
        Ok(())
    }

    fn add(&self, elements: &[Element], id: &str) -> Result<(), BridgedError> {
        self.step("apply", self.faults.apply_after)?;
        self.change_all(elements, |all, element| {
            all.insert((element.set, element.key), id.to_owned()).is_none()
        })
    }

    fn delete(&self, elements: &[Element]) -> Result<(), BridgedError> {
        self.step("apply", self.faults.apply_after)?;
        self.change_all(elements, |all, element| all.remove(&(element.set, element.key)).is_some())
    }

    fn rules(&self) -> Result<Option<serde_json::Value>, BridgedError> {
        let state = self.state();
        let element = |((set, key), id): (&(&str, Key), &String)| {
            let value = match key {
                Key::Any(protocol, port) => json!({ "concat": [protocol.to_string(), port] }),
                Key::At(protocol, ip, port) => json!({ "concat": [protocol.to_string(), ip, port] }),
                Key::Machine(ip) => json!(ip),
            };
            json!({ "map": { "name": set, "elem": [[{ "elem": { "val": value, "comment": id } }, {}]] } })
        };
        Ok(Some(json!({ "nftables": state.elements.iter().map(element).collect::<Vec<_>>() })))
    }

    fn remove_bridge(&self) -> Result<(), BridgedError> {
        let mut state = self.state();
        (state.bridge, state.table) = (false, false);
        state.elements.clear();
        Ok(())
    }
}
