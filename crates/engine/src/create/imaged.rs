//! Stage 2: finds or pulls the image, and determines the container's process.

use std::path::{Path, PathBuf};

use mimeo_agent_protocol::message::{Process, TerminalSize};
use mimeo_image::{Image, ImageConfig, PullOptions, RegistryOptions, Source, Store, blank};
use mimeo_net::PortMapping;

use super::options::StartOptions;
use super::planned::Planned;
use super::process;
use crate::Engine;
use crate::cause::chain;
use crate::health::effective_health;
use crate::machine::{
    HealthAction, ImageSummary, ImageVolumes, MachineSpec, NetworkRecord, PullPolicy, image_volumes,
};
use crate::signal;
use crate::stage::StageError;

/// File name of an empty image, in the machine's directory.
const EMPTY_IMAGE: &str = "empty-image";
const EMPTY_IMAGE_BYTES: u64 = 16 << 20;

/// A planned machine with its image.
#[derive(Debug)]
pub(super) struct Imaged {
    pub(super) planned: Planned,
    /// The image's filesystem.
    pub(super) rootfs: PathBuf,
    /// The image's run configuration.
    pub(super) config: ImageConfig,
}

impl Planned {
    /// Finds or pulls the image. Nothing is undone: a pulled image stays in the store.
    pub(super) async fn image(
        mut self,
        engine: &Engine,
        size: Option<TerminalSize>,
        options: &StartOptions,
    ) -> Result<Imaged, StageError> {
        if let Some(system) = self.claim.record.spec.system.clone() {
            return self.system(engine, &system);
        }
        let store = engine.images()?;
        let record = &mut self.claim.record;
        let image = match &record.image {
            // Its disk belongs to this image; the name may refer to another one by now.
            Some(image) => find_own(&store, image)?,
            None => find_or_pull(&store, &record.spec, options).await?,
        };
        check_health_action(&record.spec, &image.config)?;
        check_tmpfs(&record.spec, &image.config)?;
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
        Ok(Imaged { planned: self, rootfs: image.rootfs, config: image.config })
    }

    /// Gives a machine that runs no container an empty image.
    pub(super) fn empty_image(self, engine: &Engine) -> Result<Imaged, StageError> {
        let rootfs = self.claim.dir.join(EMPTY_IMAGE);
        blank::create_from_template(&engine.home().templates(), &rootfs, EMPTY_IMAGE_BYTES)?;
        Ok(Imaged { planned: self, rootfs, config: ImageConfig::default() })
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

/// Refuses an action on failed health checks for a machine without one. podman accepts it where the user has disabled the
/// check.
fn check_health_action(spec: &MachineSpec, image: &ImageConfig) -> Result<(), StageError> {
    let action = spec.health_on_failure;
    if action == HealthAction::None || spec.health.is_some() || effective_health(spec, image).is_some() {
        return Ok(());
    }
    Err(StageError::NoHealthCheck { action: action.name() })
}

/// Refuses a temporary filesystem below a volume that the image declares: the volume, which is mounted later, would hide it.
fn check_tmpfs(spec: &MachineSpec, image: &ImageConfig) -> Result<(), StageError> {
    if spec.image_volumes != ImageVolumes::Anonymous {
        return Ok(());
    }
    for volume in image_volumes(spec, &image.volumes) {
        if let Some(tmpfs) =
            spec.container.tmpfs.iter().find(|tmpfs| Path::new(&tmpfs.target).starts_with(&volume))
        {
            return Err(StageError::TmpfsOverlapsVolume { tmpfs: tmpfs.target.clone(), volume });
        }
    }
    Ok(())
}

/// Finds the image that an existing machine was created from.
fn find_own(store: &Store, image: &ImageSummary) -> Result<Image, StageError> {
    store.find(&image.id)?.ok_or_else(|| StageError::ImageRemoved { name: image.name.clone() })
}

async fn find_or_pull(
    store: &Store,
    spec: &MachineSpec,
    options: &StartOptions,
) -> Result<Image, StageError> {
    let local = match spec.pull {
        PullPolicy::Always => None,
        PullPolicy::Missing | PullPolicy::Newer | PullPolicy::Never => store.find(&spec.image)?,
    };
    match (spec.pull, local) {
        (PullPolicy::Newer, Some(image)) => Ok(pull_newer(store, spec, image, options).await),
        (_, Some(image)) => Ok(image),
        (PullPolicy::Never, None) => Err(StageError::ImageMissing { image: spec.image.clone() }),
        (_, None) => pull(store, spec, options).await,
    }
}

/// Pulls the image, which transfers nothing of what the store has; if that fails, the local image does.
async fn pull_newer(store: &Store, spec: &MachineSpec, local: Image, options: &StartOptions) -> Image {
    match pull(store, spec, options).await {
        Ok(image) => image,
        Err(error) => {
            let error = chain(&error);
            tracing::info!(
                component = "image",
                image = spec.image,
                error,
                "cannot pull, using the local image"
            );
            local
        }
    }
}

async fn pull(store: &Store, spec: &MachineSpec, options: &StartOptions) -> Result<Image, StageError> {
    let source: Source = spec.image.parse()?;
    let access = spec.registry.clone();
    let registry = RegistryOptions {
        insecure_registries: access.insecure_registries,
        skip_tls_verification: access.skip_tls_verification,
        auth_file: access.auth_file,
        credentials: options.credentials.clone(),
    };
    let pull = PullOptions { registry, ..PullOptions::default() };
    Ok(store.pull(&source, &pull, options.progress.clone()).await?)
}
