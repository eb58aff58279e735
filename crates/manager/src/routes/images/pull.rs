//! Pulls an image.

use axum::extract::State;
use axum::response::Response;
use mimeo_engine::cause::chain;
use mimeo_engine::launch_request::RegistryLogin;
use mimeo_image::{Platform, Source};
use mimeo_manager_api::{Accepted, CreateMachine, ImagePull, PullImage, RegistryAuth, ResourceKind, Role};

use crate::App;
use crate::convert;
use crate::database::resource;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, wait};
use crate::live::LiveOperation;
use crate::operations::{NewOperation, OperationRequest};
use crate::problems;
use crate::routes::accepted::answer_with;
use crate::secrets::Secrets;

/// Pulls an image. The operation shows how many bytes and layers are done; cancelled, it leaves nothing behind.
#[utoipa::path(post, path = "/pull", tag = "images", operation_id = "pull_image", request_body = PullImage,
    params(("wait" = Option<f64>, Query, description = "Seconds to wait until the image is in the store; 0 by default", minimum = 0, maximum = 300)),
    responses(
        (status = 201, description = "The image is in the store.", body = Accepted<ImagePull>),
        (status = 202, description = "The image is being pulled.", body = Accepted<ImagePull>),
    ))]
pub(super) async fn pull(
    State(app): State<App>,
    caller: Caller,
    mut query: Query,
    Json(mut request): Json<PullImage>,
) -> Result<Response> {
    let wait = wait::seconds(&mut query, "wait", 0.0)?;
    query.finish()?;
    let login = take_login(&mut request)?;
    check(&caller, &request)?;
    let reference = request.reference.clone();
    let live = begin(&app, &caller, request, login).await?;
    let item = ImagePull { reference: reference.clone(), image: None };
    let reload = async {
        let image = live.snapshot().result.and_then(|result| serde_json::from_value(result).ok());
        Ok(Some(ImagePull { reference, image }))
    };
    answer_with(item, &live, wait, 201, reload).await
}

fn invalid(field: &str, reason: impl std::fmt::Display) -> ApiError {
    ApiError::new(422, "invalid-field", format!("cannot use {field}: {reason}"))
}

/// Takes the login out of the request, which is stored.
fn take_login(request: &mut PullImage) -> Result<Option<RegistryLogin>> {
    let own = request.auth.take();
    let nested = request.registry.as_mut().and_then(|registry| registry.auth.take());
    if own.is_some() && nested.is_some() {
        return Err(invalid("auth", "it excludes registry.auth"));
    }
    let Some(RegistryAuth { username, password }) = own.or(nested) else { return Ok(None) };
    if username.is_empty() || username.contains(':') {
        return Err(invalid("auth.username", "it is empty or contains a colon"));
    }
    Ok(Some(RegistryLogin { username, password }))
}

fn check(caller: &Caller, request: &PullImage) -> Result<()> {
    request.reference.parse::<Source>().map_err(|error| invalid("reference", chain(&error)))?;
    if let Some(text) = &request.platform {
        let (platform, host) = (text.parse::<Platform>(), Platform::host());
        if platform.map_err(|error| invalid("platform", error))? != host {
            return Err(invalid("platform", format!("machines on this host run images for {host}")));
        }
    }
    // As for machines: only an administrator may use the files of the host.
    let registry = request.registry.clone();
    let machine =
        CreateMachine { image: Some(request.reference.clone()), registry, ..CreateMachine::default() };
    if let Some(field) = convert::needs_host_access(&machine).filter(|_| caller.role != Role::Admin) {
        let detail = format!("cannot use the host's files: {field}: only administrators may");
        return Err(
            ApiError::new(403, "host-files-forbidden", detail).with_hint("use an image of a registry")
        );
    }
    // The path of the login file is checked with the rest of the request for a machine.
    let checked = convert::machine_spec(&machine);
    checked.map(drop).map_err(|error| problems::invalid_field(&error).into())
}

async fn begin(
    app: &App,
    caller: &Caller,
    request: PullImage,
    login: Option<RegistryLogin>,
) -> Result<LiveOperation> {
    let subject = resource(ResourceKind::Image, &*request.reference);
    let name = request.reference.clone();
    let request = OperationRequest::Pull { request: Box::new(request), has_login: login.is_some() };
    let operation = NewOperation::new(request, subject, &caller.name, &name, &caller.name);
    let write = app.database().write().await?;
    operation.commit(app, write, Secrets { registry_login: login, ..Secrets::default() }).await
}
