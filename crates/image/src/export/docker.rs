//! Archives as by `docker save`: `manifest.json`, configurations, and uncompressed layers.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek, SeekFrom};

use serde::Serialize;

use super::manifest;
use super::sink::Sink;
use super::{ExportError, Exported};
use crate::commit::FileError;
use crate::digest::Digest;
use crate::image::{Image, LayerInfo};
use crate::layer::{self, Budget, LayerProblem};
use crate::limits::Limits;
use crate::local::DOCKER_MANIFEST;
use crate::store::Store;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Writes images, each once, and a list of them.
pub(super) fn write(
    store: &Store,
    images: &[Exported],
    sink: &mut dyn Sink,
) -> Result<Vec<Digest>, ExportError> {
    let mut items: Vec<Item> = Vec::new();
    let mut written = BTreeSet::new();
    for exported in images {
        let image = &exported.image;
        let config = format!("{}.json", image.id.hex());
        if let Some(item) = items.iter_mut().find(|item| item.config == config) {
            item.repo_tags.extend(exported.names.clone());
            continue;
        }
        manifest::check_complete(store, image)?;
        for layer in image.layers.iter().filter(|layer| written.insert(layer.diff_id)) {
            write_layer(store, image, layer, sink)?;
        }
        sink.add_blob(&config, image.id, &store.blob(image.id))?;
        let layers = image.layers.iter().map(member).collect();
        items.push(Item { config, repo_tags: exported.names.clone(), layers });
    }
    sink.add_bytes(DOCKER_MANIFEST, &serde_json::to_vec(&items)?)?;
    Ok(images.iter().map(|exported| exported.image.digest).collect())
}

fn member(layer: &LayerInfo) -> String {
    format!("{}.tar", layer.diff_id.hex())
}

/// Writes a layer uncompressed. A tar header needs the size first, so it is unpacked into a temporary file.
fn write_layer(
    store: &Store,
    image: &Image,
    layer: &LayerInfo,
    sink: &mut dyn Sink,
) -> Result<(), ExportError> {
    let path = store.blob(layer.digest);
    let temporary = store.temporary();
    let file = File::open(&path).map_err(FileError::at("open", &path))?;
    let mut plain = tempfile::tempfile_in(&temporary).map_err(FileError::at("write in", &temporary))?;
    let refuse = |problem| ExportError::Layer {
        image: image.id.to_string(),
        layer: layer.digest,
        source: Box::new(problem),
    };
    let budget = Budget::new(Limits::default().without_ratio());
    let (actual, size) = layer::unpack(file, &mut plain, &budget).map_err(refuse)?;
    if actual != layer.diff_id {
        return Err(refuse(LayerProblem::WrongDiffId { expected: layer.diff_id, actual }));
    }
    plain.seek(SeekFrom::Start(0)).map_err(FileError::at("rewind", &temporary))?;
    sink.add(&member(layer), &mut plain, size)
}
