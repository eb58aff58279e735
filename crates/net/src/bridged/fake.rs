//! A host without a kernel, with faults that can be switched on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::host::{Connected, Host};
use super::outer::Outer;
use super::rules::{Element, Key};
use super::{Attachment, BridgedError, TapUse, Wish, attach_to, clear_on, sweep_on};

/// What fails: a step, each time that this many have gone before since it last failed. All off by default.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Making sure of the bridge.
    pub prepare_after: Option<u32>,
    /// Making the namespace and the link.
    pub connect_after: Option<u32>,
    /// A transaction of rules.
    pub apply_after: Option<u32>,
}

/// The host.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    faults: Faults,
    state: Arc<Mutex<State>>,
    /// Held by who changes something.
    locked: Arc<Mutex<bool>>,
}

#[derive(Debug, Default)]
struct State {
    bridge: bool,
    table: bool,
    links: BTreeMap<String, Outer>,
    marks: BTreeSet<String>,
    /// Set and key to the machine that it is of.
    elements: BTreeMap<(&'static str, Key), String>,
    steps: BTreeMap<&'static str, u32>,
}

impl Fake {
    /// A host with nothing on it.
    #[must_use]
    pub fn new(faults: Faults) -> Self {
        Self { faults, ..Self::default() }
    }

    /// As [`attach`](super::attach), here.
    ///
    /// # Errors
    /// As that, and as it was told.
    pub fn attach(&self, wish: &Wish) -> Result<Attachment, BridgedError> {
        attach_to(Arc::new(self.clone()), wish)
    }

    /// As [`sweep`](super::sweep), here.
    ///
    /// # Errors
    /// As it was told.
    pub fn sweep(&self) -> Result<Vec<String>, BridgedError> {
        sweep_on(self)
    }

    /// As [`clear`](super::clear), here.
    ///
    /// # Errors
    /// As it was told.
    pub fn clear(&self, id: &str) -> Result<(), BridgedError> {
        clear_on(self, id)
    }

    /// Ends a machine as a killed process does: its link goes, and nothing else.
    pub fn kill(&self, attachment: Attachment) {
        self.state().links.remove(&attachment.id);
        std::mem::forget(attachment);
    }

    /// All that is there, one line each.
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

    /// Applies `change` to each element; if one reports failure, none is changed.
    fn change_all(
        &self,
        elements: &[Element],
        mut change: impl FnMut(&mut BTreeMap<(&'static str, Key), String>, &Element) -> bool,
    ) -> Result<(), BridgedError> {
        let mut state = self.state();
        let mut all = state.elements.clone();
        match elements.iter().find(|element| !change(&mut all, element)) {
            Some(element) => Err(BridgedError::Nft { said: format!("it is there, or is not: {element:?}") }),
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
        Err(BridgedError::Told { step })
    }
}

/// Lets others when it is dropped.
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

    fn attached(&self) -> Result<HashMap<String, Outer>, BridgedError> {
        Ok(self.state().links.clone().into_iter().collect())
    }

    fn connect(&self, id: &str, outer: Outer, _: TapUse) -> Result<Connected, BridgedError> {
        self.step("connect", self.faults.connect_after)?;
        let mut state = self.state();
        if state.links.insert(id.to_owned(), outer).is_some() {
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
