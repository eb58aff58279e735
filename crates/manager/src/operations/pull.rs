//! Pulls an image.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mimeo_engine::cause::chain;
use mimeo_engine::launch_request::{PullProgress, PullReporter, PullStep, RegistryLogin};
use mimeo_image::{
    Digest, Event, Image, Progress as Observer, PullError, PullOptions, RegistryOptions, Source, Stage, Store,
};
use mimeo_manager_api::{Problem, Progress, PullImage, PullLayers, PullPolicy};

use super::finish::Outcome;
use crate::App;
use crate::live::LiveOperation;
use crate::{images, problems};

/// Pulls the image, unless the policy says that the one in the store will do.
pub(super) async fn pull(
    app: &App,
    live: &LiveOperation,
    request: &PullImage,
    has_login: bool,
    login: Option<RegistryLogin>,
) -> Outcome {
    if has_login && login.is_none() {
        return Outcome::failed(login_lost());
    }
    let store = match app.engine().images() {
        Ok(store) => store,
        Err(error) => return Outcome::failed(Problem::new(500, "store-unreadable", chain(&error))),
    };
    let local = store.find(&request.reference).ok().flatten();
    let outcome = match (request.policy, local) {
        (Some(PullPolicy::Missing | PullPolicy::Never), Some(image)) => Pulled::Image(Box::new(image)),
        (Some(PullPolicy::Never), None) => Pulled::Failed(not_in_store(&request.reference)),
        (policy, local) => {
            match (transfer(app, live, &store, request, login, local.is_some()).await, local) {
                // The one in the store will do.
                (Pulled::Failed(_), Some(image)) if policy == Some(PullPolicy::Newer) => {
                    Pulled::Image(Box::new(image))
                }
                (pulled, _) => pulled,
            }
        }
    };
    match outcome {
        Pulled::Image(image) => finish(app, live, &image).await,
        Pulled::Failed(problem) => Outcome::failed(problem),
        Pulled::Cancelled => Outcome::Cancelled,
        Pulled::Interrupted => Outcome::Interrupted,
    }
}

/// How a pull ended.
enum Pulled {
    Image(Box<Image>),
    Failed(Problem),
    Cancelled,
    Interrupted,
}

/// Transfers what the store lacks, and builds the image's filesystem. A cancelled pull leaves nothing behind; if the store had
/// an image of that name before, a pull that has all layers already is completed all the same.
async fn transfer(
    app: &App,
    live: &LiveOperation,
    store: &Store,
    request: &PullImage,
    login: Option<RegistryLogin>,
    is_update: bool,
) -> Pulled {
    let source = match request.reference.parse::<Source>() {
        Ok(source) => source,
        Err(error) => return Pulled::Failed(Problem::new(422, "invalid-field", chain(&error))),
    };
    let observer = Arc::new(PullObserver::new(live, !matches!(source, Source::Registry(_))));
    let options = options(request, login);
    let mut pull = Box::pin(store.pull(&source, &options, observer.clone()));
    let stopped = tokio::select! {
        pulled = &mut pull => return result(pulled),
        () = live.cancel.cancelled() => Pulled::Cancelled,
        () = app.end().cancelled() => Pulled::Interrupted,
    };
    // The filesystem is built by a thread, which cannot be stopped: what it makes is removed again.
    let built = if observer.is_building() {
        pull.await.ok()
    } else {
        drop(pull);
        None
    };
    match (built, stopped) {
        (Some(image), _) if is_update => Pulled::Image(Box::new(image)),
        (built, Pulled::Cancelled) => {
            clean_up(store.clone(), built).await;
            Pulled::Cancelled
        }
        (_, stopped) => stopped,
    }
}

fn result(pulled: Result<Image, PullError>) -> Pulled {
    match pulled {
        Ok(image) => Pulled::Image(Box::new(image)),
        Err(error) => Pulled::Failed(problems::pull_problem(&error)),
    }
}

async fn clean_up(store: Store, built: Option<Image>) {
    let cleaned = tokio::task::spawn_blocking(move || {
        if let Some(image) = built
            && let Err(error) = store.remove(&image.id.to_string(), true, &|_| None)
        {
            tracing::warn!(component = "images", error = chain(&error), "cannot remove a cancelled image");
        }
        if let Err(error) = store.discard_unfinished() {
            tracing::warn!(
                component = "images",
                error = chain(&error),
                "cannot remove what a pull has stored"
            );
        }
    });
    if let Err(error) = cleaned.await {
        tracing::error!(component = "images", %error, "the removal of a cancelled pull failed");
    }
}

async fn finish(app: &App, live: &LiveOperation, image: &Image) -> Outcome {
    live.name_resource(&image.id.to_string());
    match images::item(app, None, image).await {
        Ok(item) => Outcome::Produced(serde_json::to_value(item).unwrap_or_default()),
        Err(error) => Outcome::failed(error.problem().clone()),
    }
}

fn options(request: &PullImage, login: Option<RegistryLogin>) -> PullOptions {
    let registry = request.registry.clone().unwrap_or_default();
    let registry = RegistryOptions {
        insecure_registries: registry.insecure,
        skip_tls_verification: !registry.tls_verify.unwrap_or(true),
        credentials: login.map(Into::into),
        auth_file: registry.auth_file.map(Into::into),
    };
    PullOptions { registry, ..PullOptions::default() }
}

/// An earlier manager has begun the pull, with a login.
pub(super) fn login_lost() -> Problem {
    Problem::new(409, "login-lost", "cannot pull the image: the manager was restarted, or lost its database meanwhile, and stores no logins")
        .with_hint("repeat the request")
}

fn not_in_store(reference: &str) -> Problem {
    let detail = format!("there is no image {reference:?} in the store, and the policy is never to pull it");
    Problem::new(422, "image-not-found", detail)
}

/// Shows how far a pull is.
struct PullObserver {
    live: LiveOperation,
    reporter: PullReporter<Box<dyn Fn(PullProgress) + Send + Sync>>,
    state: Mutex<PullState>,
}

#[derive(Debug, Default)]
struct PullState {
    layers: PullLayers,
    present: HashSet<Digest>,
    is_building: bool,
}

impl PullObserver {
    /// `is_local`: the image is a file, which a thread reads.
    fn new(live: &LiveOperation, is_local: bool) -> Self {
        let shown = live.clone();
        let report = move |progress: PullProgress| {
            let total = Some(progress.total).filter(|total| *total > 0);
            let stage = stage(progress.step);
            shown.progress(stage, Progress { done: progress.done, total, unit: "bytes".to_owned() });
        };
        let state = PullState { is_building: is_local, ..PullState::default() };
        Self { live: live.clone(), reporter: PullReporter::new(Box::new(report)), state: Mutex::new(state) }
    }

    fn is_building(&self) -> bool {
        self.state().is_building
    }

    fn state(&self) -> MutexGuard<'_, PullState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show_layers(&self, layers: PullLayers) {
        self.live.show_result(serde_json::to_value(layers).unwrap_or_default());
    }
}

fn stage(step: PullStep) -> &'static str {
    match step {
        PullStep::Downloading => "download",
        PullStep::Unpacking => "unpack",
        PullStep::Writing | PullStep::Stored => "write",
    }
}

impl Observer for PullObserver {
    fn event(&self, event: Event) {
        let mut state = self.state();
        match &event {
            Event::Resolved { layers, .. } => {
                state.layers.layers_total = u32::try_from(*layers).unwrap_or(u32::MAX);
                self.show_layers(state.layers);
            }
            Event::Layer { digest, stage: Stage::Present, .. } if state.present.insert(*digest) => {
                state.layers.layers_done += 1;
                self.show_layers(state.layers);
            }
            Event::Layer { stage: Stage::Unpacking, .. } | Event::Writing { .. } | Event::Stored => {
                state.is_building = true;
            }
            _ => {}
        }
        drop(state);
        self.reporter.event(event);
    }
}
