//! Machines: what was asked for, and the item that the API shows.

use std::collections::{BTreeMap, HashMap};

use mimeo_manager_api::{CreateMachine, Machine, MachineState};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::in_time::InTime as _;
use super::list::{After, List, Sort, end_of_ids};
use super::quotas::usage_of_machine;
use super::{Database, DatabaseError, QueryBuilder, Write, json, parse};

/// The state that a machine is meant to be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Desired {
    /// It exists; whether it runs is up to its users and its restart policy.
    Present,
    /// It is to be removed.
    Absent,
}

/// A machine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MachineRow {
    /// What the API shows, with the id, the owner, the name and the version.
    pub(crate) item: Machine,
    /// The state that it is meant to be in.
    pub(crate) desired: Desired,
    /// The request that it was created by, without secrets; a machine that was made without the manager has none.
    pub(crate) spec: Option<CreateMachine>,
}

const LIST: List = List { table: "m", name: "name", resource: "machine" };

/// Which machines are listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct MachineFilter {
    /// Only those of this owner.
    pub(crate) owner: Option<String>,
    /// Only those of this name.
    pub(crate) name: Option<String>,
    /// Only those in one of these states; if empty, all but removed ones.
    pub(crate) states: Vec<MachineState>,
    /// Only those that have these labels, with this value if there is one.
    pub(crate) labels: Vec<(String, Option<String>)>,
    /// The order.
    pub(crate) sort: Sort,
    /// Where the page begins.
    pub(crate) after: Option<After>,
    /// The size of the page.
    pub(crate) limit: i64,
}

impl Database {
    /// Reads one machine by its full id, also one that was removed.
    pub(crate) async fn machine(&self, id: &str) -> Result<Option<MachineRow>, DatabaseError> {
        let row = sqlx::query("SELECT m.item, m.desired, m.spec FROM machines m WHERE m.id = $1");
        row.bind(id.to_owned())
            .fetch_optional(&self.pool)
            .in_time()
            .await?
            .map(|row| from_row(&row))
            .transpose()
    }

    /// Reads machines that a word names: the one with this name first, then those whose ids begin with it, of which two are
    /// enough to be ambiguous. Removed ones are named only by the id. `owner` is the only one whose machines count.
    pub(crate) async fn machines_named(
        &self,
        word: &str,
        owner: Option<&str>,
    ) -> Result<Vec<MachineRow>, DatabaseError> {
        let rows = sqlx::query(
            "SELECT m.item, m.desired, m.spec FROM machines m \
             WHERE ((m.name = $1 AND m.ended_at IS NULL) OR (m.id >= $1 AND m.id < $2)) AND ($3 = '' OR m.owner = $3) \
             ORDER BY CASE WHEN m.name = $1 AND m.ended_at IS NULL THEN 0 ELSE 1 END, m.id LIMIT 3",
        )
        .bind(word.to_owned())
        .bind(end_of_ids(word))
        .bind(owner.unwrap_or_default().to_owned())
        .fetch_all(&self.pool)
        .in_time()
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Lists a page of machines.
    pub(crate) async fn machines(&self, filter: &MachineFilter) -> Result<Vec<MachineRow>, DatabaseError> {
        let rows = list_query(filter).fetch_all(&self.pool).in_time().await?;
        rows.iter().map(from_row).collect()
    }

    /// Lists the ids of all machines that were not removed.
    pub(crate) async fn live_machine_ids(&self) -> Result<Vec<String>, DatabaseError> {
        let rows = sqlx::query("SELECT id FROM machines WHERE ended_at IS NULL")
            .fetch_all(&self.pool)
            .in_time()
            .await?;
        rows.iter().map(|row| Ok(row.try_get::<String, _>(0)?)).collect()
    }

    /// Reads the machines whose time to live is over at this time, in microseconds since 1970, the first to expire first.
    pub(crate) async fn machines_expired_at(&self, time: i64) -> Result<Vec<MachineRow>, DatabaseError> {
        let rows = sqlx::query(
            "SELECT m.item, m.desired, m.spec FROM machines m \
             WHERE m.expires_at <= $1 AND m.ended_at IS NULL AND m.desired = 'present' ORDER BY m.expires_at",
        );
        rows.bind(time).fetch_all(&self.pool).in_time().await?.iter().map(from_row).collect()
    }

    /// Returns when the first machine expires, in microseconds since 1970.
    pub(crate) async fn first_expiry(&self) -> Result<Option<i64>, DatabaseError> {
        let query = "SELECT MIN(expires_at) FROM machines WHERE ended_at IS NULL AND desired = 'present'";
        Ok(sqlx::query(query).fetch_one(&self.pool).in_time().await?.try_get(0)?)
    }

    /// Reads the machines that are to be removed, and that no operation changes.
    pub(crate) async fn machines_to_remove(&self) -> Result<Vec<MachineRow>, DatabaseError> {
        let rows = sqlx::query(
            "SELECT m.item, m.desired, m.spec FROM machines m WHERE m.desired = 'absent' AND m.ended_at IS NULL",
        );
        let rows: Result<Vec<MachineRow>, _> =
            rows.fetch_all(&self.pool).in_time().await?.iter().map(from_row).collect();
        Ok(rows?.into_iter().filter(|row| row.item.operation.is_none()).collect())
    }

    /// Reads the owners of all machines that were not removed, by the machines' ids.
    pub(crate) async fn machine_owners(&self) -> Result<HashMap<String, String>, DatabaseError> {
        let rows = sqlx::query("SELECT id, owner FROM machines WHERE ended_at IS NULL");
        let rows = rows.fetch_all(&self.pool).in_time().await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Counts the machines that were not removed, by state.
    pub(crate) async fn count_machines(&self) -> Result<BTreeMap<String, i64>, DatabaseError> {
        let rows = sqlx::query("SELECT state, COUNT(*) FROM machines WHERE ended_at IS NULL GROUP BY state");
        let rows = rows.fetch_all(&self.pool).in_time().await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

fn list_query(filter: &MachineFilter) -> QueryBuilder {
    let mut query = QueryBuilder::new("SELECT m.item, m.desired, m.spec FROM machines m WHERE 1 = 1");
    if let Some(owner) = &filter.owner {
        query.push(" AND m.owner = ").push_bind(owner.clone());
    }
    if let Some(name) = &filter.name {
        query.push(" AND m.name = ").push_bind(name.clone());
    }
    push_states(&mut query, &filter.states);
    LIST.push_labels(&mut query, &filter.labels);
    LIST.push_page(&mut query, filter.sort, filter.after.as_ref(), filter.limit);
    query
}

fn push_states(query: &mut QueryBuilder, states: &[MachineState]) {
    if states.is_empty() {
        query.push(" AND m.ended_at IS NULL");
        return;
    }
    query.push(" AND m.state IN (").push_list(states.iter().map(|state| state.name())).push(")");
}

fn from_row(row: &AnyRow) -> Result<MachineRow, DatabaseError> {
    let (item, desired): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let spec: Option<String> = row.try_get(2)?;
    Ok(MachineRow {
        item: parse(&item, "machine", "")?,
        desired: if desired == "absent" { Desired::Absent } else { Desired::Present },
        spec: spec.map(|spec| parse(&spec, "the request of machine", "")).transpose()?,
    })
}

impl MachineRow {
    /// The place of this machine in a list of this order.
    pub(crate) fn place(&self, sort: Sort) -> After {
        let Machine { id, name, created_at, .. } = &self.item;
        After::new(sort, name, *created_at, id)
    }
}

impl Write<'_> {
    /// Reads one machine in order to change it.
    pub(crate) async fn machine(&mut self, id: &str) -> Result<Option<MachineRow>, DatabaseError> {
        let query = sqlx::query("SELECT m.item, m.desired, m.spec FROM machines m WHERE m.id = $1");
        let row = query.bind(id.to_owned()).fetch_optional(self.connection()).in_time().await?;
        row.map(|row| from_row(&row)).transpose()
    }

    /// Reads the machine of this name that was not removed.
    pub(crate) async fn machine_of_name(&mut self, name: &str) -> Result<Option<MachineRow>, DatabaseError> {
        let query =
            "SELECT m.item, m.desired, m.spec FROM machines m WHERE m.name = $1 AND m.ended_at IS NULL";
        let row =
            sqlx::query(query).bind(name.to_owned()).fetch_optional(self.connection()).in_time().await?;
        row.map(|row| from_row(&row)).transpose()
    }

    /// Reads the machines of this owner that were not removed.
    pub(crate) async fn machines_of(&mut self, owner: &str) -> Result<Vec<MachineRow>, DatabaseError> {
        let query = sqlx::query(
            "SELECT m.item, m.desired, m.spec FROM machines m WHERE m.owner = $1 AND m.ended_at IS NULL ORDER BY m.name",
        );
        query
            .bind(owner.to_owned())
            .fetch_all(self.connection())
            .in_time()
            .await?
            .iter()
            .map(from_row)
            .collect()
    }

    /// Adds a machine.
    ///
    /// # Errors
    /// [`DatabaseError::Duplicate`] if its name is taken, [`DatabaseError::Quota`] if its owner's quota is exceeded.
    pub(crate) async fn add_machine(&mut self, row: &MachineRow) -> Result<(), DatabaseError> {
        let item = &row.item;
        self.check_quota(&item.owner, &usage_of_machine(item)).await?;
        sqlx::query(
            "INSERT INTO machines (id, owner, name, state, desired, version, cpus, memory_mib, disk_bytes, created_at, \
             expires_at, ended_at, spec, item) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(item.id.clone())
        .bind(item.owner.clone())
        .bind(item.name.clone())
        .bind(item.state.name())
        .bind(super::name_of(&row.desired))
        .bind(item.version)
        .bind(i64::from(item.cpus))
        .bind(i64::from(item.memory_mib))
        .bind(i64::try_from(item.disk_bytes).unwrap_or(i64::MAX))
        .bind(item.created_at.as_microsecond())
        .bind(item.expires_at.map(|time| time.as_microsecond()))
        .bind(item.ended_at.map(|time| time.as_microsecond()))
        .bind(row.spec.as_ref().map(json))
        .bind(json(item))
        .execute(self.connection())
        .in_time()
        .await?;
        if item.expires_at.is_some() {
            self.change_expiries();
        }
        self.add_labels(&item.id, &item.labels).await
    }

    /// Stores a machine that was changed, as the next version.
    ///
    /// # Errors
    /// [`DatabaseError::Duplicate`] if its new name is taken.
    pub(crate) async fn store_machine(
        &mut self,
        row: &mut MachineRow,
        before: &MachineRow,
    ) -> Result<(), DatabaseError> {
        row.item.version = before.item.version + 1;
        let item = &row.item;
        sqlx::query(
            "UPDATE machines SET owner = $2, name = $3, state = $4, desired = $5, version = $6, expires_at = $7, \
             ended_at = $8, item = $9, cpus = $10, memory_mib = $11, disk_bytes = $12 WHERE id = $1",
        )
        .bind(item.id.clone())
        .bind(item.owner.clone())
        .bind(item.name.clone())
        .bind(item.state.name())
        .bind(super::name_of(&row.desired))
        .bind(item.version)
        .bind(item.expires_at.map(|time| time.as_microsecond()))
        .bind(item.ended_at.map(|time| time.as_microsecond()))
        .bind(json(item))
        .bind(i64::from(item.cpus))
        .bind(i64::from(item.memory_mib))
        .bind(i64::try_from(item.disk_bytes).unwrap_or(i64::MAX))
        .execute(self.connection())
        .in_time()
        .await?;
        if item.expires_at != before.item.expires_at {
            self.change_expiries();
        }
        if item.labels == before.item.labels {
            return Ok(());
        }
        let delete = sqlx::query("DELETE FROM machine_labels WHERE machine = $1").bind(item.id.clone());
        delete.execute(self.connection()).in_time().await?;
        self.add_labels(&item.id, &item.labels).await
    }

    /// Forgets machines that were removed before this time, in microseconds since 1970.
    pub(crate) async fn forget_machines(&mut self, ended_before: i64) -> Result<u64, DatabaseError> {
        let delete = sqlx::query("DELETE FROM machines WHERE ended_at IS NOT NULL AND ended_at < $1");
        Ok(delete.bind(ended_before).execute(self.connection()).in_time().await?.rows_affected())
    }

    async fn add_labels(
        &mut self,
        machine: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), DatabaseError> {
        for (key, value) in labels {
            sqlx::query("INSERT INTO machine_labels (machine, key, value) VALUES ($1, $2, $3)")
                .bind(machine.to_owned())
                .bind(key.clone())
                .bind(value.clone())
                .execute(self.connection())
                .in_time()
                .await?;
        }
        Ok(())
    }
}
