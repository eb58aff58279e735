//! How a start is carried out and observed.

use std::fmt;
use std::sync::Arc;

use mimeo_image::{Credentials, Progress};

use crate::machine::MachineId;

/// Receives the name and the milliseconds of each stage that has ended.
pub type StageObserver = Arc<dyn Fn(&str, u64) + Send + Sync>;

/// How a start is carried out and observed.
#[derive(Clone)]
pub struct StartOptions {
    /// The id of a new machine; random if absent.
    pub id: Option<MachineId>,
    /// The login at the image's registry, instead of those of the login files.
    pub credentials: Option<Credentials>,
    /// Receives the progress of a pull.
    pub progress: Arc<dyn Progress>,
    /// Receives the stages.
    pub stages: Option<StageObserver>,
}

impl StartOptions {
    /// Observes only the pull of the image.
    #[must_use]
    pub fn new(progress: Arc<dyn Progress>) -> Self {
        Self { id: None, credentials: None, progress, stages: None }
    }
}

impl fmt::Debug for StartOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartOptions").field("id", &self.id).finish_non_exhaustive()
    }
}
