//! `mimeo image tree`: shows the layers of an image as a tree.

use std::collections::BTreeMap;

use mimeo_engine::Engine;
use mimeo_image::{Digest, Image};

use crate::error::CliError;
use crate::{humanize, output};

/// Digits of an id.
const ID_DIGITS: usize = 12;

/// Arguments of `mimeo image tree`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  mimeo image tree --whatrequires alpine")]
pub(crate) struct Args {
    /// Also show the layers of images that are built on the image
    #[arg(long)]
    whatrequires: bool,
    /// The image: a name or an id
    #[arg(value_name = "IMAGE")]
    image: String,
}

/// A layer is named by the diff ids from the lowest to its own.
type Path = Vec<Digest>;
/// Layers, and their uncompressed sizes. A layer comes before those that are built on it.
type Layers = BTreeMap<Path, u64>;

/// Prints the tree.
pub(crate) fn run(engine: &Engine, args: &Args) -> Result<i32, CliError> {
    let store = engine.images()?;
    let image = store.find(&args.image)?.ok_or_else(|| super::unknown(&args.image))?;
    let images = store.list()?.images;
    let own = path(&image);
    let is_child = |other: &&Image| args.whatrequires && path(other).starts_with(&own);
    let mut layers = Layers::new();
    for shown in std::iter::once(&image).chain(images.iter().filter(is_child)) {
        for (depth, layer) in shown.layers.iter().enumerate() {
            let at = layers.entry(path(shown)[..=depth].to_vec());
            at.or_insert_with(|| store.unpacked_size(layer));
        }
    }
    output::bytes(render(&image, &images, &layers).as_bytes())?;
    Ok(0)
}

fn path(image: &Image) -> Path {
    image.layers.iter().map(|layer| layer.diff_id).collect()
}

/// The image's own layers are in one column, and what is built on it is below its topmost layer.
fn render(image: &Image, images: &[Image], layers: &Layers) -> String {
    let (id, names, size) = (image.short_id(), image.names.join(" "), humanize::size(image.size, 4));
    let mut text = format!("Image ID: {id}\nTags:     [{names}]\nSize:     {size}\nImage Layers\n");
    let own = path(image).len();
    let paths: Vec<_> = layers.keys().collect();
    for (index, path) in paths.iter().enumerate() {
        let following = &paths[index + 1..];
        let is_last = |path: &[Digest]| path.len() == own || !has_sibling(following, path);
        for depth in own..path.len() {
            text += if is_last(&path[..depth]) { "    " } else { "│   " };
        }
        let is_end = if path.len() < own { false } else { is_last(path) };
        text += if is_end { "└── " } else { "├── " };
        let id = path.last().map(|digest| digest.hex()[..ID_DIGITS].to_owned()).unwrap_or_default();
        text += &format!("ID: {id} Size: {:>7}{}\n", humanize::size(layers[*path], 4), tops(images, path));
    }
    text.push('\n');
    text
}

/// The names of the images whose topmost layer it is.
fn tops(images: &[Image], layer: &[Digest]) -> String {
    let tops = images.iter().filter(|image| path(image) == layer);
    let names: Vec<_> = tops.flat_map(|image| image.names.iter().map(String::as_str)).collect();
    if names.is_empty() { String::new() } else { format!(" Top Layer of: [{}]", names.join(" ")) }
}

/// Whether another layer on the same layer follows.
fn has_sibling(following: &[&Path], path: &[Digest]) -> bool {
    let below = &path[..path.len().saturating_sub(1)];
    following.iter().any(|other| other.len() == path.len() && other.starts_with(below) && **other != path)
}
