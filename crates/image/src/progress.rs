//! What a pull tells while it works.

use crate::digest::Digest;

/// Receives events; called often and from several threads, so it must be quick.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);
}

/// One step of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The manifest is known.
    Resolved {
        /// The manifest's digest.
        digest: Digest,
        /// How many layers the image has.
        layers: usize,
        /// Bytes of all layers as stored, compressed.
        bytes: u64,
    },
    /// A layer moved on.
    Layer {
        /// The layer's digest.
        digest: Digest,
        /// What is being done with it.
        stage: Stage,
        /// Bytes done in this stage, compressed.
        done: u64,
        /// Bytes of this stage, compressed.
        total: u64,
    },
    /// The filesystem is being written.
    Writing {
        /// Bytes of file content written.
        done: u64,
        /// Bytes of file content in all.
        total: u64,
    },
    /// The image is in the store.
    Stored,
}

/// What is being done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Its bytes come in.
    Downloading,
    /// A cut or a fault: it will be tried again.
    Retrying,
    /// Its bytes are here and verified.
    Present,
    /// Its entries are read.
    Unpacking,
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn event(&self, _event: Event) {}
}
