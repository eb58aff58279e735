//! Operations: what the API shows of them, and what is to be done.

use mimeo_manager_api::Operation;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::in_time::InTime as _;
use super::list::After;
use super::{Database, DatabaseError, QueryBuilder, Write, json, name_of, parse};

/// An operation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OperationRow {
    /// What the API shows.
    pub(crate) item: Operation,
    /// The owner of the resource.
    pub(crate) owner: String,
    /// What is to be done, as JSON, for a manager that starts while the operation is unfinished.
    pub(crate) request: String,
}

/// Which operations are listed, the newest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct OperationFilter {
    /// Only those on resources of this owner.
    pub(crate) owner: Option<String>,
    /// Only those with this status.
    pub(crate) status: Option<String>,
    /// Only those on this resource.
    pub(crate) resource: Option<String>,
    /// Where the page begins.
    pub(crate) after: Option<After>,
    /// The size of the page.
    pub(crate) limit: i64,
}

impl Database {
    /// Reads one operation.
    pub(crate) async fn operation(&self, id: &str) -> Result<Option<OperationRow>, DatabaseError> {
        let query = sqlx::query("SELECT item, owner, request FROM operations WHERE id = $1");
        query
            .bind(id.to_owned())
            .fetch_optional(&self.pool)
            .in_time()
            .await?
            .map(|row| from_row(&row))
            .transpose()
    }

    /// Lists a page of operations, the newest first.
    pub(crate) async fn operations(
        &self,
        filter: &OperationFilter,
    ) -> Result<Vec<OperationRow>, DatabaseError> {
        let mut query = QueryBuilder::new("SELECT item, owner, request FROM operations WHERE 1 = 1");
        let conditions =
            [("owner", &filter.owner), ("status", &filter.status), ("resource_id", &filter.resource)];
        for (column, value) in conditions {
            if let Some(value) = value {
                query.push(format!(" AND {column} = ")).push_bind(value.clone());
            }
        }
        if let Some(After { key, id }) = &filter.after {
            query.push(" AND (created_at, id) < (").push_bind(key.parse::<i64>().unwrap_or_default());
            query.push(", ").push_bind(id.clone()).push(")");
        }
        query.push(" ORDER BY created_at DESC, id DESC LIMIT ").push_bind(filter.limit);
        query.fetch_all(&self.pool).in_time().await?.iter().map(from_row).collect()
    }

    /// Lists the operations that are unfinished, the oldest first.
    pub(crate) async fn unfinished_operations(&self) -> Result<Vec<OperationRow>, DatabaseError> {
        let rows = sqlx::query(
            "SELECT item, owner, request FROM operations WHERE status = 'running' ORDER BY created_at, id",
        );
        rows.fetch_all(&self.pool).in_time().await?.iter().map(from_row).collect()
    }
}

fn from_row(row: &AnyRow) -> Result<OperationRow, DatabaseError> {
    let item: String = row.try_get(0)?;
    Ok(OperationRow {
        item: parse(&item, "operation", "")?,
        owner: row.try_get(1)?,
        request: row.try_get(2)?,
    })
}

impl OperationRow {
    /// The place of this operation in the list.
    pub(crate) fn place(&self) -> After {
        After { key: self.item.created_at.as_microsecond().to_string(), id: self.item.id.clone() }
    }
}

impl Write<'_> {
    /// Adds an operation.
    pub(crate) async fn add_operation(&mut self, row: &OperationRow) -> Result<(), DatabaseError> {
        let item = &row.item;
        sqlx::query(
            "INSERT INTO operations (id, owner, resource_kind, resource_id, kind, status, created_at, finished_at, request, item) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(item.id.clone())
        .bind(row.owner.clone())
        .bind(name_of(&item.resource.kind))
        .bind(item.resource.id.clone())
        .bind(name_of(&item.kind))
        .bind(name_of(&item.status))
        .bind(item.created_at.as_microsecond())
        .bind(item.finished_at.map(|time| time.as_microsecond()))
        .bind(row.request.clone())
        .bind(json(item))
        .execute(self.connection())
        .in_time()
        .await?;
        Ok(())
    }

    /// Stores an operation that was changed.
    pub(crate) async fn store_operation(&mut self, item: &Operation) -> Result<(), DatabaseError> {
        sqlx::query("UPDATE operations SET status = $2, finished_at = $3, item = $4 WHERE id = $1")
            .bind(item.id.clone())
            .bind(name_of(&item.status))
            .bind(item.finished_at.map(|time| time.as_microsecond()))
            .bind(json(item))
            .execute(self.connection())
            .in_time()
            .await?;
        Ok(())
    }

    /// Forgets operations that finished before this time, in microseconds since 1970.
    pub(crate) async fn forget_operations(&mut self, finished_before: i64) -> Result<u64, DatabaseError> {
        let delete = sqlx::query("DELETE FROM operations WHERE finished_at IS NOT NULL AND finished_at < $1");
        Ok(delete.bind(finished_before).execute(self.connection()).in_time().await?.rows_affected())
    }
}
