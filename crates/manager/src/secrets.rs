//! What a request contains, or has been given, that is stored nowhere.

use mimeo_engine::launch_request::RegistryLogin;
use mimeo_engine::snapshot_server::Reservation;

/// What a request contains, or has been given, that is stored nowhere.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    /// The login at the image's registry.
    pub(crate) registry_login: Option<RegistryLogin>,
    /// Clones of a pool, whose ids are those of machines that the operation starts. A later manager starts others of the
    /// same ids.
    pub(crate) reservation: Option<Reservation>,
}
