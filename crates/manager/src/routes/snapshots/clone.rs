//! What requests for clones have in common.

use std::time::Duration;

use axum::response::Response;
use mimeo_engine::{MachineId, MachineName};
use mimeo_manager_api::{CloneRequest, CreateMachine, Machine, Snapshot};

use super::find::find_ready;
use crate::App;
use crate::convert;
use crate::database::{DatabaseError, Desired, MachineRow, Write};
use crate::http::{ApiError, Caller, Result};
use crate::item;
use crate::live::LiveOperation;
use crate::operations::{self, NewOperation};
use crate::problems::invalid_field;
use crate::routes::accepted::answer;
use crate::routes::machines::expiry;
use crate::secrets::Secrets;

/// The most clones of one request.
const MAX_CLONES: usize = 1000;

/// The machine that clones are made of, as far as their rows say.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The snapshot, unless it is one that a fork takes.
    snapshot: Option<String>,
    image: String,
    cpus: u32,
    memory_mib: u32,
    disk_bytes: u64,
    driver: String,
}

impl From<&Snapshot> for Source {
    fn from(item: &Snapshot) -> Self {
        Self {
            snapshot: Some(item.id.clone()),
            image: item.image.clone(),
            cpus: item.cpus,
            memory_mib: item.memory_mib,
            disk_bytes: item.disk_bytes,
            driver: item.driver.clone(),
        }
    }
}

impl From<&Machine> for Source {
    fn from(item: &Machine) -> Self {
        Self {
            snapshot: None,
            image: item.image.clone(),
            cpus: item.cpus,
            memory_mib: item.memory_mib,
            disk_bytes: item.disk_bytes,
            driver: item.driver.clone(),
        }
    }
}

/// The request of each clone.
pub(super) fn requests(request: &CloneRequest, source: &Source) -> Result<Vec<CreateMachine>> {
    let invalid = |field: &str, message: String| {
        ApiError::new(422, "invalid-field", format!("cannot use {field}: {message}"))
    };
    let count = match request.count {
        Some(count) => count as usize,
        None => request.names.len().max(1),
    };
    if !(1..=MAX_CLONES).contains(&count) {
        return Err(invalid("count", format!("{count} is not between 1 and {MAX_CLONES}")));
    }
    if !request.names.is_empty() && request.names.len() != count {
        let names = request.names.len();
        return Err(invalid("names", format!("there are {names} names for {count} machines")));
    }
    if count > 1 && request.ports.iter().any(|port| port.host_port.is_some()) {
        return Err(invalid("ports", "several machines cannot have the same port of the host".to_owned()));
    }
    let one = |index: usize| CreateMachine {
        name: request.names.get(index).cloned(),
        snapshot: source.snapshot.clone(),
        env: request.env.clone(),
        ports: request.ports.clone(),
        labels: request.labels.clone(),
        ttl_seconds: request.ttl_seconds,
        remove: request.remove,
        ..CreateMachine::default()
    };
    Ok((0..count).map(one).collect())
}

/// The rows of clones with these ids.
pub(super) fn new_rows(
    caller: &Caller,
    source: &Source,
    requests: Vec<CreateMachine>,
    ids: impl Iterator<Item = MachineId>,
) -> Result<Vec<MachineRow>> {
    let row = |(request, id): (_, MachineId)| new_row(caller, id.to_string(), request, source);
    requests.into_iter().zip(ids).map(row).collect()
}

/// The row of a clone with this id.
fn new_row(caller: &Caller, id: String, mut request: CreateMachine, source: &Source) -> Result<MachineRow> {
    convert::clone_overrides(&request).map_err(|error| invalid_field(&error))?;
    let name = request.name.get_or_insert_with(|| MachineName::random().to_string()).clone();
    let mut item = item::requested(id, name, caller.name.clone());
    item.labels.clone_from(&request.labels);
    (item.image, item.driver) = (source.image.clone(), source.driver.clone());
    (item.cpus, item.memory_mib, item.disk_bytes) = (source.cpus, source.memory_mib, source.disk_bytes);
    item.snapshot.clone_from(&source.snapshot);
    item.expires_at = request.ttl_seconds.map(expiry).transpose()?;
    Ok(MachineRow { item, desired: Desired::Present, spec: Some(request) })
}

/// Records the operation, and the rows of its clones, and begins it.
pub(super) async fn record_and_begin(
    app: &App,
    mut write: Write<'_>,
    operation: NewOperation,
    rows: Vec<MachineRow>,
    secrets: Secrets,
) -> Result<LiveOperation> {
    add_rows(&mut write, rows, operation.id()).await?;
    operation.commit(app, write, secrets).await
}

async fn add_rows(write: &mut Write<'_>, rows: Vec<MachineRow>, operation: &str) -> Result<()> {
    for mut row in rows {
        row.item.operation = Some(operation.to_owned());
        write.add_machine(&row).await.map_err(|error| match error {
            DatabaseError::Duplicate => operations::name_taken(&row.item.name),
            other => other.into(),
        })?;
    }
    Ok(())
}

/// `POST /v1/containers` with a snapshot: a machine that is a clone.
pub(crate) async fn create_clone(
    app: &App,
    caller: &Caller,
    mut request: CreateMachine,
    wait: Duration,
) -> Result<Response> {
    convert::clone_overrides(&request).map_err(|error| invalid_field(&error))?;
    if request.start == Some(false) {
        let detail = "cannot use start: a clone runs as soon as it is made";
        return Err(ApiError::new(422, "invalid-field", detail));
    }
    let word = request.snapshot.clone().unwrap_or_default();
    let item = find_ready(app, caller, &word).await?;
    request.snapshot = Some(item.id.clone());
    let reservation = app.pools().reserve(&item.id, 1).await;
    let id = reservation.as_ref().and_then(|reservation| reservation.ids.first().cloned());
    let id = id.unwrap_or_else(MachineId::random).to_string();
    let row = new_row(caller, id, request, &Source::from(&item))?;
    let secrets = Secrets { reservation, ..Secrets::default() };
    let begun = operations::begin_create(app, &caller.name, row, true, secrets).await?;
    answer(begun, wait, 201).await
}
