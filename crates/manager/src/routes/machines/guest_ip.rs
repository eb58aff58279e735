//! `…/guest-ip`: the address of a guest, and `POST …/token`: the machine's own token, with which it reports it.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use mimeo_engine::machine::Record;
use mimeo_manager_api::{
    CreatedToken, GuestIp, GuestIpSource, Item, ReportGuestIp, ResourceKind, Role, Token, User,
};
use serde_json::json;

use crate::App;
use crate::database::{EventDraft, MachineRow, TokenRow, resource};
use crate::find_machine::{find, running_in_engine};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result};

/// Reads the address of a running machine's guest: the one that the guest has reported since its start, or else the one
/// that the machine was created with, which is known as soon as it runs.
#[utoipa::path(get, path = "/{id}/guest-ip", tag = "machines", operation_id = "guest_ip",
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 200, description = "The address.", body = Item<GuestIp>)))]
pub(super) async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Json<Item<GuestIp>>> {
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    let found = running_in_engine(&app, &row)?;
    let record = &found.record;
    let begin = record.times.started.unwrap_or(record.times.created);
    let reported = app.database().guest_address(&row.item.id).await?;
    // An earlier run's guest may have had another one.
    let reported = reported.filter(|reported| reported.since >= begin);
    let item = reported.or_else(|| assigned(record, begin)).ok_or_else(|| no_network(&row))?;
    Ok(Json(Item { item }))
}

/// The address that the machine was created with.
fn assigned(record: &Record, since: Timestamp) -> Option<GuestIp> {
    let network = record.network.as_ref()?;
    let ip6 = network.outer.and_then(|outer| outer.ip6);
    let (ip, ip6) = (Some(network.address().to_string()), ip6.map(|ip| ip.to_string()));
    Some(GuestIp { ip, ip6, source: GuestIpSource::Network, since })
}

fn no_network(row: &MachineRow) -> ApiError {
    ApiError::new(409, "no-network", format!("the machine {:?} has no network", row.item.name))
}

/// Reports the address of a guest, with its machine's own token only.
#[utoipa::path(post, path = "/{id}/guest-ip", tag = "machines", operation_id = "report_guest_ip",
    request_body = ReportGuestIp,
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 200, description = "The address.", body = Item<GuestIp>)))]
pub(super) async fn report(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
    Json(request): Json<ReportGuestIp>,
) -> Result<Json<Item<GuestIp>>> {
    query.finish()?;
    let item = reported(&request)?;
    let row = find(&app, &caller, &word).await?;
    // Other machines do not exist for this one.
    if caller.machine.as_ref() != Some(&row.item.id) || row.item.ended_at.is_some() {
        return Err(ApiError::not_found("machine", &word));
    }
    let mut write = app.database().write().await?;
    write.store_guest_address(&row.item.id, &item).await?;
    let (owner, resource) = (&row.item.owner, resource(ResourceKind::Machine, &*row.item.id));
    let actor = format!("machine {}", row.item.name);
    let data = json!({ "name": row.item.name, "ip": item.ip, "ip6": item.ip6 });
    write
        .event(EventDraft { kind: "machine.address_reported", actor: &actor, owner, resource, data })
        .await?;
    write.commit().await?;
    Ok(Json(Item { item }))
}

fn reported(request: &ReportGuestIp) -> Result<GuestIp> {
    let invalid = |detail| ApiError::new(422, "invalid-field", detail);
    let ip = request.ip.as_deref().map(str::parse::<Ipv4Addr>).transpose();
    let ip6 = request.ip6.as_deref().map(str::parse::<Ipv6Addr>).transpose();
    let ip = ip.map_err(|_| invalid("ip: it is not an IPv4 address"))?;
    let ip6 = ip6.map_err(|_| invalid("ip6: it is not an IPv6 address"))?;
    if ip.is_none() && ip6.is_none() {
        return Err(invalid("ip and ip6: give at least one of them"));
    }
    Ok(GuestIp {
        ip: ip.map(|ip| ip.to_string()),
        ip6: ip6.map(|ip| ip.to_string()),
        source: GuestIpSource::Guest,
        since: Timestamp::now(),
    })
}

/// Makes a token that may only be used by the machine itself, to report its address. It dies with the machine.
#[utoipa::path(post, path = "/{id}/token", tag = "machines", operation_id = "create_machine_token",
    params(("id" = String, Path, description = "The machine: its name, its id or the start of its id")),
    responses((status = 201, description = "The token, with its secret, which is shown only now.", body = CreatedToken)))]
pub(super) async fn token(
    State(app): State<App>,
    caller: Caller,
    Path(word): Path<String>,
    query: Query,
) -> Result<Response> {
    query.finish()?;
    let row = find(&app, &caller, &word).await?;
    if row.item.ended_at.is_some() {
        return Err(ApiError::new(
            410,
            "machine-deleted",
            format!("the machine {:?} was removed", row.item.name),
        ));
    }
    let user = user(&app, &caller, &row).await?;
    let item = Token {
        id: crate::routes::new_id(),
        name: format!("machine {}", row.item.name),
        user: user.name.clone(),
        scopes: Vec::new(),
        machine: Some(row.item.id.clone()),
        created_at: Timestamp::now(),
        expires_at: None,
        last_used_at: None,
    };
    let secret = crate::routes::new_secret();
    let mut write = app.database().write().await?;
    write.add_token(&TokenRow { item: item.clone(), user }, &secret).await?;
    let (owner, resource) = (&row.item.owner, resource(ResourceKind::Machine, &*row.item.id));
    let data = json!({ "name": row.item.name, "token": item.id });
    let actor = &caller.name;
    write.event(EventDraft { kind: "machine.token_created", actor, owner, resource, data }).await?;
    write.commit().await?;
    // Caches must not store this answer.
    let headers = [(header::CACHE_CONTROL, "no-store")];
    let mut response = (headers, Json(CreatedToken { item, secret })).into_response();
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// The user whose token it is: the machine's owner. A machine that was made without the manager has none.
async fn user(app: &App, caller: &Caller, row: &MachineRow) -> Result<User> {
    for name in [&row.item.owner, &caller.id] {
        if let Some(user) = app.database().user(name).await? {
            return Ok(user);
        }
    }
    let admin =
        app.database().users().await?.into_iter().find(|user| user.role == Role::Admin && !user.disabled);
    admin.ok_or_else(|| ApiError::new(409, "no-user", "there is no user whose token it could be"))
}
