//! `POST /v1/containers`: a new machine.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use mimeo_engine::launch_request::RegistryLogin;
use mimeo_engine::{MachineId, MachineName, MachineSpec};
use mimeo_manager_api::{Accepted, CreateMachine, Machine, Role};

use crate::App;
use crate::convert;
use crate::database::{Desired, MachineRow};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, wait};
use crate::item;
use crate::operations;
use crate::problems;
use crate::routes::accepted::answer;
use crate::routes::snapshots::create_clone;
use crate::secrets::Secrets;
use crate::volumes;

/// The longest time to live, ten years: a longer one is an error in the request.
const MAX_TTL_SECONDS: u64 = 10 * 365 * 24 * 3600;

/// Creates a machine, and starts it unless the request says otherwise.
#[utoipa::path(post, path = "/", tag = "machines", operation_id = "create", request_body = CreateMachine,
    params(("wait" = Option<f64>, Query, description = "Seconds to wait until the machine runs; 0 by default", minimum = 0, maximum = 300)),
    responses(
        (status = 201, description = "The machine was created.", body = Accepted<Machine>),
        (status = 202, description = "The machine is being created.", body = Accepted<Machine>),
    ))]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    mut query: Query,
    Json(request): Json<CreateMachine>,
) -> Result<Response> {
    let wait = wait::seconds(&mut query, "wait", 0.0)?;
    query.finish()?;
    check_host_access(&caller, &request)?;
    if request.snapshot.is_some() {
        return create_clone(&app, &caller, request, wait).await;
    }
    let spec = convert::machine_spec(&request).map_err(|error| problems::invalid_field(&error))?;
    let secrets = secrets(&request)?;
    volumes::claim(&app, &caller, &request).await?;
    let start = request.start.unwrap_or(true);
    let row = new_row(&caller, request, &spec)?;
    let begun = operations::begin_create(&app, &caller.name, row, start, secrets).await?;
    answer(begun, wait, 201).await
}

/// Only an administrator may use the files of the host.
fn check_host_access(caller: &Caller, request: &CreateMachine) -> Result<()> {
    match convert::needs_host_access(request) {
        Some(field) if caller.role != Role::Admin => {
            let detail = format!("cannot use the host's files: {field}: only administrators may");
            Err(ApiError::new(403, "host-files-forbidden", detail)
                .with_hint("use an image of a registry, and volumes"))
        }
        _ => Ok(()),
    }
}

fn secrets(request: &CreateMachine) -> Result<Secrets> {
    let credentials =
        convert::registry_credentials(request).map_err(|error| problems::invalid_field(&error))?;
    let login = |credentials: mimeo_image::Credentials| RegistryLogin {
        username: credentials.user,
        password: credentials.password,
    };
    Ok(Secrets { registry_login: credentials.map(login), ..Secrets::default() })
}

fn new_row(caller: &Caller, mut request: CreateMachine, spec: &MachineSpec) -> Result<MachineRow> {
    let name = spec.name.clone().unwrap_or_else(MachineName::random).to_string();
    let mut item = item::requested(MachineId::random().to_string(), name.clone(), caller.name.clone());
    item.labels.clone_from(&request.labels);
    item::describe_spec(&mut item, spec);
    item.expires_at = request.ttl_seconds.map(expiry).transpose()?;
    request.name = Some(name);
    if let Some(registry) = &mut request.registry {
        registry.auth = None;
    }
    Ok(MachineRow { item, desired: Desired::Present, spec: Some(request) })
}

/// When a machine with this time to live is removed.
pub(crate) fn expiry(seconds: u64) -> Result<jiff::Timestamp> {
    if !(1..=MAX_TTL_SECONDS).contains(&seconds) {
        let detail = format!("ttl_seconds {seconds} is not between 1 and {MAX_TTL_SECONDS}");
        return Err(ApiError::new(422, "invalid-field", detail));
    }
    Ok(jiff::Timestamp::now() + Duration::from_secs(seconds))
}
