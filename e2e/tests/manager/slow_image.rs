//! An image of a registry whose manifest arrives, and whose layer does not.

use e2e::{Client, Registry, StallingProxy, World, until};
use serde_json::{Value, json};

/// The bytes that arrive.
const BYTES: u64 = 40_000;

pub(crate) struct SlowImage {
    _registry: Registry,
    pub(crate) proxy: StallingProxy,
    pub(crate) reference: String,
}

impl SlowImage {
    /// Serves busybox.
    pub(crate) fn serve(world: &World) -> Self {
        drop(world.busybox());
        let registry = Registry::start();
        let name = registry.push(&world.files().join("busybox"), "slow");
        Self::hold_back(registry, &name)
    }

    /// Serves the image of this name, and holds its layer back.
    pub(crate) fn hold_back(registry: Registry, name: &str) -> Self {
        let proxy = StallingProxy::new(&registry.address, BYTES);
        let reference = name.replace(&registry.address, &proxy.address);
        Self { _registry: registry, proxy, reference }
    }

    /// A request for a machine of it.
    pub(crate) fn request(&self, name: &str) -> Value {
        json!({ "name": name, "image": self.reference, "registry": { "insecure": [self.proxy.address] } })
    }
}

/// Creates a machine of it; returns the path of the operation when the pull has begun.
pub(crate) fn begin_creation(client: &Client, request: &Value) -> String {
    let accepted = client.post("/v1/containers", request).ok(202);
    let operation = accepted.header("location").expect("a location").to_owned();
    until("the pull has begun", || {
        (client.get(&operation).ok(200).json()["item"]["stage"] == "image").then_some(())
    });
    operation
}
