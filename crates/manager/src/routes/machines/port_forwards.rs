//! `…/port-forwards`: the published ports of a machine.

use std::net::Ipv4Addr;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mimeo_engine::act;
use mimeo_manager_api::{Item, Items, Port, Protocol, PublishedPort, ResourceKind};
use mimeo_net::PortMapping;
use serde_json::json;

use crate::App;
use crate::audit::audit;
use crate::database::{MachineRow, resource};
use crate::find_machine::{find, in_engine};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result};
use crate::item;
use crate::observe;
use crate::problems;

/// Lists the published ports of a machine.
#[utoipa::path(get, path = "/{id}/port-forwards", tag = "machines", operation_id = "list_port_forwards",
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 200, description = "The ports.", body = Items<PublishedPort>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Items<PublishedPort>>> {
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    let ports = row.item.network.map(|network| network.ports).unwrap_or_default();
    Ok(Json(Items { items: ports, next_cursor: None }))
}

/// Publishes one more port of a running machine, also from its next start on.
#[utoipa::path(post, path = "/{id}/port-forwards", tag = "machines", operation_id = "add_port_forward",
    request_body = Port,
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 201, description = "The port.", body = Item<PublishedPort>)))]
pub(super) async fn add(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
    Json(request): Json<Port>,
) -> Result<Response> {
    query.finish()?;
    let mapping = mapping(&request)?;
    let row = find(&app, &caller, &word).await?;
    let found = in_engine(&app, &row)?;
    record(&app, &caller, &row, "machine.publish_requested", &mapping).await?;
    let published = act::publish(app.engine(), &found, mapping).await;
    let published = published.map_err(|error| problems::act_problem(&error))?;
    observe::refresh(&app, &found.record.id).await?;
    Ok((StatusCode::CREATED, Json(Item { item: item::port(&published) })).into_response())
}

fn mapping(request: &Port) -> Result<PortMapping> {
    let invalid = |detail: &str| Err(ApiError::new(422, "invalid-field", detail));
    if request.range.is_some_and(|range| range != 1) {
        return invalid("range: publish the ports of a running machine one by one");
    }
    if request.container_port == 0 || request.host_port == Some(0) {
        return invalid("container_port and host_port: 0 is not a port");
    }
    let Ok(host_ip) = request.host_ip.as_deref().map_or(Ok(Ipv4Addr::UNSPECIFIED), str::parse) else {
        return invalid("host_ip: it is not an IPv4 address");
    };
    let protocol = protocol(request.protocol);
    Ok(PortMapping { host_ip, host_port: request.host_port, guest_port: request.container_port, protocol })
}

fn protocol(protocol: Protocol) -> mimeo_net::Protocol {
    match protocol {
        Protocol::Tcp => mimeo_net::Protocol::Tcp,
        Protocol::Udp => mimeo_net::Protocol::Udp,
    }
}

/// Withdraws a published port of a running machine. Connections that exist continue.
#[utoipa::path(delete, path = "/{id}/port-forwards", tag = "machines", operation_id = "remove_port_forward",
    params(
        ("id" = String, Path, description = "The machine: its name, its id or the start of its id"),
        ("host_port" = u16, Query, description = "The port of the host", minimum = 1),
        ("host_ip" = Option<String>, Query, description = "The address of the host; 0.0.0.0 by default"),
        ("protocol" = Option<Protocol>, Query, description = "`tcp` or `udp`; `tcp` by default"),
    ),
    responses((status = 204, description = "It was withdrawn.")))]
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    mut query: Query,
) -> Result<StatusCode> {
    let mapping = take_mapping(&mut query)?;
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    let found = in_engine(&app, &row)?;
    let ports = found.record.network.as_ref().map(|network| network.ports.clone()).unwrap_or_default();
    let is_it = |port: &PortMapping| {
        (port.host_ip, port.host_port, port.protocol)
            == (mapping.host_ip, mapping.host_port, mapping.protocol)
    };
    if found.supervised && !ports.iter().any(is_it) {
        let host_port = mapping.host_port.unwrap_or_default();
        let detail = format!(
            "machine {} does not publish {}:{host_port}/{}",
            row.item.name, mapping.host_ip, mapping.protocol
        );
        return Err(ApiError::new(404, "port-not-published", detail));
    }
    record(&app, &caller, &row, "machine.unpublish_requested", &mapping).await?;
    let withdrawn = act::unpublish(app.engine(), &found, mapping).await;
    withdrawn.map_err(|error| problems::act_problem(&error))?;
    observe::refresh(&app, &found.record.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Records what was asked for.
async fn record(
    app: &App,
    caller: &Caller,
    row: &MachineRow,
    kind: &str,
    mapping: &PortMapping,
) -> Result<()> {
    let PortMapping { host_ip, host_port, guest_port, protocol } = mapping;
    let container_port = Some(guest_port).filter(|port| **port != 0);
    let data = json!({
        "host_ip": host_ip, "host_port": host_port, "container_port": container_port, "protocol": protocol.to_string(),
    });
    let machine = resource(ResourceKind::Machine, &*row.item.id);
    Ok(audit(app, caller, kind, &row.item.owner, machine, data).await?)
}

fn take_mapping(query: &mut Query) -> Result<PortMapping> {
    let host_port = query.take_parsed::<std::num::NonZeroU16>("host_port")?;
    let host_port = host_port.ok_or_else(|| ApiError::invalid("the parameter \"host_port\" is missing"))?;
    let host_ip = query.take_parsed("host_ip")?.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let protocol = match query.take("protocol")?.as_deref() {
        None | Some("tcp") => mimeo_net::Protocol::Tcp,
        Some("udp") => mimeo_net::Protocol::Udp,
        Some(other) => return Err(ApiError::invalid(format!("protocol {other:?} is neither tcp nor udp"))),
    };
    Ok(PortMapping { host_ip, host_port: Some(host_port.get()), guest_port: 0, protocol })
}
