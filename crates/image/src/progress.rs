//! Progress events of a pull.

use crate::digest::Digest;

/// Receives events. Called often and from several threads, so it must return quickly.
pub trait Progress: Send + Sync {
    /// Handles an event.
    fn event(&self, event: Event);
}

/// An event of a pull or an import.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The manifest is known.
    Resolved {
        /// The manifest's digest.
        digest: Digest,
        /// Number of layers.
        layers: usize,
        /// Size of all layers as stored, compressed, in bytes.
        bytes: u64,
    },
    /// A layer made progress.
    Layer {
        /// The layer's digest.
        digest: Digest,
        /// The current stage.
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
        /// Total bytes of file content.
        total: u64,
    },
    /// The image is in the store.
    Stored,
}

/// The stage of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The layer is being downloaded.
    Downloading,
    /// The download failed and will be retried.
    Retrying,
    /// The layer is in the store and verified.
    Present,
    /// The layer is being uploaded.
    Uploading,
    /// The layer's entries are being read.
    Unpacking,
}

/// Ignores all events.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn event(&self, _event: Event) {}
}
