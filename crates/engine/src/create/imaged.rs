//! Stage 2: finds or pulls the image, and determines the container's process.

use std::sync::Arc;

use mimeo_agent_protocol::message::{Process, TerminalSize};
use mimeo_image::{Image, ImageConfig, Progress, PullOptions, Source, Store};
use mimeo_net::PortMapping;

use super::planned::Planned;
use super::process;
use crate::Engine;
use crate::machine::{ImageSummary, NetworkRecord, PullPolicy};
use crate::signal;
use crate::stage::StageError;

/// A planned machine with its image.
#[derive(Debug)]
pub(super) struct Imaged {
    pub(super) planned: Planned,
    pub(super) image: Image,
}

impl Planned {
    /// Finds or pulls the image. Nothing is undone: a pulled image stays in the store.
    pub(super) async fn image(
        mut self,
        engine: &Engine,
        size: Option<TerminalSize>,
        progress: Arc<dyn Progress>,
    ) -> Result<Imaged, StageError> {
        let store = engine.images()?;
        let record = &mut self.claim.record;
        let image = match &record.image {
            // Its disk belongs to this image; the name may refer to another one by now.
            Some(image) => find_own(&store, image)?,
            None => find_or_pull(&store, &record.spec.image, record.spec.pull, progress).await?,
        };
        record.spec.stop_signal = Some(signal::stop_signal(&record.spec, &image.config)?);
        let process = process::container_process(&record.spec, &image.config)?;
        let terminal = process.terminal.map(|default| size.unwrap_or(default));
        record.process = Process { terminal, ..process };
        if let (true, Some(network)) = (record.spec.publish_exposed, &mut record.network) {
            publish_exposed(network, &record.spec.expose, &image.config);
        }
        let name = || image.names.first().unwrap_or(&record.spec.image).clone();
        record.image.get_or_insert_with(|| ImageSummary { id: image.id.to_string(), name: name() });
        self.stopwatch.lap("image");
        Ok(Imaged { planned: self, image })
    }
}

/// Publishes the ports that the machine and its image expose, except those that are published already. A port
/// of the image's that no VMM can publish, such as SCTP's, is left out.
fn publish_exposed(network: &mut NetworkRecord, own: &[PortMapping], image: &ImageConfig) {
    let of_image = image.exposed_ports.iter().filter_map(|text| PortMapping::parse(text).ok());
    for port in own.iter().copied().chain(of_image.flatten()) {
        let same =
            |other: &PortMapping| (other.guest_port, other.protocol) == (port.guest_port, port.protocol);
        if !network.ports.iter().any(same) {
            network.ports.push(port);
        }
    }
}

/// Finds the image that an existing machine was created from.
fn find_own(store: &Store, image: &ImageSummary) -> Result<Image, StageError> {
    store.find(&image.id)?.ok_or_else(|| StageError::ImageRemoved { name: image.name.clone() })
}

async fn find_or_pull(
    store: &Store,
    name: &str,
    policy: PullPolicy,
    progress: Arc<dyn Progress>,
) -> Result<Image, StageError> {
    if policy != PullPolicy::Always
        && let Some(image) = store.find(name)?
    {
        return Ok(image);
    }
    if policy == PullPolicy::Never {
        return Err(StageError::ImageMissing { image: name.to_owned() });
    }
    let source: Source = name.parse()?;
    Ok(store.pull(&source, &PullOptions::default(), progress).await?)
}
