//! How a snapshot is served.

/// How a snapshot is served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServeOptions {
    /// Number of clones that are kept ready.
    pub pool: usize,
    /// Whether a page server supplies the clones' memory.
    pub pager: bool,
    /// Whether clones run on when the server ends. Those that wait in its pool end with it.
    pub releases_clones: bool,
}
