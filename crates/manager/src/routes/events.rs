//! Events: pages of them, or a stream.

mod stream;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use mimeo_manager_api::{Event, EventChain, EventList, Item};
use utoipa_axum::routes;

use crate::App;
use crate::database::EventFilter;
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Policy, Result, Rights, Routes, page};

/// The header by which a client resumes a stream.
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) fn routes(app: &App) -> Routes {
    Routes::new(app).add(Policy::Read, routes!(list)).add(Policy::Admin, routes!(verify))
}

/// Lists events in order. With `Accept: text/event-stream` they are streamed, also those to come: the id of each
/// server-sent event is its number, its name is its kind. A stream begins with the next event unless `after` or
/// `Last-Event-ID` says otherwise, and drops none. If the rights of the client end, the last event has the name `error`, no id,
/// and the problem as its data.
#[utoipa::path(get, path = "/", tag = "events", operation_id = "list_events",
    params(
        ("after" = Option<i64>, Query, description = "Only events after the one with this number", minimum = 0),
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("resource" = Option<String>, Query, description = "Only events of the resource with this id"),
        ("kind" = Option<String>, Query, description = "Only events of this kind, such as `machine` or `machine.running`"),
        ("owner" = Option<String>, Query, description = "Only events of resources of this user"),
        ("Last-Event-ID" = Option<String>, Header, description = "As `after`, for a stream that is resumed"),
    ),
    responses((status = 200, description = "A page of events, or a stream.", content(
        (EventList = "application/json"), (String = "text/event-stream")))))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    rights: Rights,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response> {
    let limit = page::limit(&mut query)?;
    let after = after(&mut query, &headers)?;
    let filter = EventFilter {
        owner: super::machines::owner(&mut query, &caller)?,
        resource: query.take("resource")?,
        kind: query.take("kind")?,
    };
    query.finish()?;
    if let Some(after) = after {
        check_not_ahead(&app, after)?;
        check_kept(&app, after).await?;
    }
    if wants_stream(&headers) {
        return Ok(stream::stream(app, rights, filter, after).into_response());
    }
    let mut items = app.database().events(after.unwrap_or_default(), limit + 1, &filter).await?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = items.len() > size;
    items.truncate(size);
    let next_cursor = items.last().filter(|_| has_more).map(|event: &Event| event.seq.to_string());
    Ok(Json(EventList { items, next_cursor }).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|text| text.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

/// Takes `after`, which the header of a resumed stream overrides.
fn after(query: &mut Query, headers: &HeaderMap) -> Result<Option<i64>> {
    let mut after = query.take_parsed::<i64>("after")?;
    if let Some(value) = headers.get(LAST_EVENT_ID) {
        let parsed = value.to_str().ok().and_then(|text| text.trim().parse().ok());
        after = Some(parsed.ok_or_else(|| ApiError::invalid("Last-Event-ID is not the number of an event"))?);
    }
    match after {
        Some(after) if after < 0 => Err(ApiError::invalid(format!("after {after} is less than 0"))),
        after => Ok(after),
    }
}

/// Numbers that were not given out yet would be skipped silently: the database is not the one that the client has read.
fn check_not_ahead(app: &App, after: i64) -> Result<()> {
    let last = *app.database().last_event().borrow();
    if after <= last {
        return Ok(());
    }
    let detail = format!("there is no event {after} yet: the last one is {last}");
    Err(ApiError::new(409, "events-ahead", detail).with_hint(
        "the manager's database was replaced or restored: read the resources again, and events with after=0",
    ))
}

/// Events are not dropped silently: a client that has not seen all of those that were removed is told.
async fn check_kept(app: &App, after: i64) -> Result<()> {
    match app.database().first_event().await? {
        Some(first) if after > 0 && after + 1 < first => {
            let detail =
                format!("the events after {after} were removed for their age: the first one is {first}");
            Err(ApiError::new(410, "events-removed", detail)
                .with_hint("read the resources again, and events with after=0"))
        }
        _ => Ok(()),
    }
}

/// Checks whether the events form a whole chain: whether one was changed, added or removed in the database.
#[utoipa::path(get, path = "/verify", tag = "events", operation_id = "verify_events",
    responses((status = 200, description = "The result.", body = Item<EventChain>)))]
async fn verify(State(app): State<App>, query: Query) -> Result<Json<Item<EventChain>>> {
    query.finish()?;
    let last = *app.database().last_event().borrow();
    let first_broken = app.database().first_broken_event().await?;
    Ok(Json(Item { item: EventChain { is_whole: first_broken.is_none(), first_broken, last } }))
}
