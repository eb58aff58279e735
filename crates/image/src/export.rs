//! Writes images of the store to files: what `save` and `push` give to other tools.

mod directory;
mod docker;
mod layout;
pub(crate) mod manifest;
mod sink;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::commit::FileError;
use crate::digest::Digest;
use crate::image::Image;
use crate::layer::LayerProblem;
use crate::store::Store;

use sink::{Folder, Tar};

/// The kind of a file or directory with images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// A tar file as by `docker save`: uncompressed layers.
    DockerArchive,
    /// An OCI layout in a tar file.
    OciArchive,
    /// An OCI layout.
    OciDir,
    /// A directory with a manifest of docker's schema 2 and the blobs.
    DockerDir,
}

impl ExportFormat {
    /// Whether it is a directory, not a file.
    pub fn is_directory(self) -> bool {
        matches!(self, Self::OciDir | Self::DockerDir)
    }
}

/// An image to be exported, and the names that it gets.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The image.
    pub image: Image,
    /// Full names; an OCI layout may also have plain tags.
    pub names: Vec<String>,
}

/// Why images were not exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A manifest, configuration or layer of the image is missing in the store.
    #[error("{what} of image {image} is not in the store: pull the image again")]
    Missing {
        /// The image's id.
        image: String,
        /// Such as `layer sha256:…`.
        what: String,
    },
    /// A blob of the store has changed.
    #[error("{} is damaged: remove the image and pull it again", path.display())]
    Damaged {
        /// The blob.
        path: PathBuf,
    },
    /// A layer cannot be unpacked.
    #[error("layer {layer} of image {image} cannot be unpacked")]
    Layer {
        /// The image's id.
        image: String,
        /// The layer's digest.
        layer: Digest,
        /// Why.
        source: Box<LayerProblem>,
    },
    /// The manifest cannot be expressed in the format.
    #[error("image {image} cannot be written in this format: {reason}")]
    Format {
        /// The image's id.
        image: String,
        /// Why.
        reason: String,
    },
    /// The format holds one image only.
    #[error("this format holds one image, not {count}: use docker-archive or oci-archive")]
    Several {
        /// How many there are.
        count: usize,
    },
    /// The directory has content of another kind.
    #[error("{} is not empty, and not an OCI layout", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The destination cannot be written.
    #[error("cannot write {member}")]
    Write {
        /// The member.
        member: String,
        /// Why.
        source: io::Error,
    },
    /// A document cannot be encoded.
    #[error("cannot encode a document")]
    Encode(#[from] serde_json::Error),
    /// A file of the store cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Store {
    /// Writes images to a tar file. Returns the digests of their manifests, as written. Blocks.
    ///
    /// # Errors
    /// When an image is not complete in the store, or `to` cannot be written.
    pub fn export_archive(
        &self,
        images: &[Exported],
        format: ExportFormat,
        to: impl Write,
    ) -> Result<Vec<Digest>, ExportError> {
        let _in_use = self.lock_shared()?;
        let mut tar = Tar::new(to);
        let digests = match format {
            ExportFormat::OciArchive | ExportFormat::OciDir => layout::write(self, images, &mut tar)?,
            ExportFormat::DockerArchive | ExportFormat::DockerDir => docker::write(self, images, &mut tar)?,
        };
        tar.finish()?;
        Ok(digests)
    }

    /// Writes an image to a directory. An OCI layout that exists keeps its other images. Returns the digest of the
    /// manifest, as written. Blocks.
    ///
    /// # Errors
    /// When the image is not complete in the store, the directory has other content, or it cannot be written.
    pub fn export_directory(
        &self,
        images: &[Exported],
        format: ExportFormat,
        to: &Path,
    ) -> Result<Vec<Digest>, ExportError> {
        let _in_use = self.lock_shared()?;
        let mut folder = Folder::create(to)?;
        match (format, images) {
            (ExportFormat::OciDir | ExportFormat::OciArchive, _) => layout::write(self, images, &mut folder),
            (_, [image]) => Ok(vec![directory::write(self, image, &mut folder)?]),
            _ => Err(ExportError::Several { count: images.len() }),
        }
    }
}
