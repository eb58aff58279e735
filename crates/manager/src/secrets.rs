//! What a request contains that is stored nowhere.

use mimeo_engine::launch_request::RegistryLogin;

/// What a request contains that is stored nowhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets {
    /// The login at the image's registry.
    pub(crate) registry_login: Option<RegistryLogin>,
}
