//! Lists machines.

use axum::extract::State;
use mimeo_manager_api::{Items, Machine, MachineState};

use crate::App;
use crate::database::{MachineFilter, Sort};
use crate::http::query::Query;
use crate::http::{ApiError, Caller, Json, Result, page};

/// Lists machines, a page at a time. Machines that were removed are listed only if `state` names `deleted`.
#[utoipa::path(get, path = "/", tag = "machines", operation_id = "list",
    params(
        ("limit" = Option<i64>, Query, description = "The size of the page; 100 by default", minimum = 1, maximum = 1000),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("state" = Option<String>, Query, description = "States, separated by commas"),
        ("label" = Option<Vec<String>>, Query, description = "`KEY` or `KEY=VALUE`; can be repeated"),
        ("name" = Option<String>, Query, description = "Only the machine of this name"),
        ("owner" = Option<String>, Query, description = "Only machines of this user"),
        ("sort" = Option<String>, Query, description = "`created`, `-created`, `name` or `-name`; `created` by default"),
    ),
    responses((status = 200, description = "A page of machines.", body = Items<Machine>)))]
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    mut query: Query,
) -> Result<Json<Items<Machine>>> {
    let limit = page::limit(&mut query)?;
    let sort = sort(&mut query)?;
    let filter = MachineFilter {
        owner: owner(&mut query, &caller)?,
        name: query.take("name")?,
        states: states(&mut query)?,
        labels: labels(&mut query)?,
        sort,
        after: page::cursor(&mut query)?,
        limit: limit + 1,
    };
    query.finish()?;
    let rows = app.database().machines(&filter).await?;
    Ok(Json(page::page(rows, limit, |row| row.place(sort), |row| row.item)))
}

/// Takes `state`.
pub(super) fn states(query: &mut Query) -> Result<Vec<MachineState>> {
    let Some(text) = query.take("state")? else { return Ok(Vec::new()) };
    let parse =
        |word: &str| word.trim().parse().map_err(|error| ApiError::invalid(format!("state: {error}")));
    text.split(',').map(parse).collect()
}

/// Takes `owner`. A user sees only the user's own resources.
pub(crate) fn owner(query: &mut Query, caller: &Caller) -> Result<Option<String>> {
    let requested = query.take("owner")?;
    Ok(caller.only_owner().or(requested))
}

/// Takes `label`.
pub(crate) fn labels(query: &mut Query) -> Result<Vec<(String, Option<String>)>> {
    let parse = |text: String| match text.split_once('=') {
        Some(("", _)) => {
            Err(ApiError::invalid(format!("cannot read the label {text:?}: write KEY or KEY=VALUE")))
        }
        Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()))),
        None => Ok((text, None)),
    };
    query.take_all("label").into_iter().map(parse).collect()
}

fn sort(query: &mut Query) -> Result<Sort> {
    let Some(text) = query.take("sort")? else { return Ok(Sort::default()) };
    let (descending, key) = text.strip_prefix('-').map_or((false, text.as_str()), |key| (true, key));
    match key {
        "created" => Ok(Sort { by_name: false, descending }),
        "name" => Ok(Sort { by_name: true, descending }),
        _ => {
            Err(ApiError::invalid(format!("cannot sort by {text:?}: write created, -created, name or -name")))
        }
    }
}
