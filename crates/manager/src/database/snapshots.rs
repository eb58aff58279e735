//! Snapshots: their owners, their labels, and the item that the API shows.

use mimeo_manager_api::{Snapshot, SnapshotState, Usage};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::in_time::InTime as _;
use super::list::{After, List, Sort, end_of_ids};
use super::quotas::usage_of_clones;
use super::{Database, DatabaseError, QueryBuilder, Write, json, name_of, parse};

const LIST: List = List { table: "s", name: "tag", resource: "snapshot" };

/// Which snapshots are listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct SnapshotFilter {
    /// Only those of this owner.
    pub(crate) owner: Option<String>,
    /// Only the one with this tag.
    pub(crate) tag: Option<String>,
    /// Only those of the machine with this id.
    pub(crate) machine: Option<String>,
    /// Only those that have these labels, with this value if there is one.
    pub(crate) labels: Vec<(String, Option<String>)>,
    /// The order: by tag instead of by name.
    pub(crate) sort: Sort,
    /// Where the page begins.
    pub(crate) after: Option<After>,
    /// The size of the page.
    pub(crate) limit: i64,
}

impl Database {
    /// Reads the snapshots that a word names: by tag, by id or by the start of the id.
    pub(crate) async fn snapshots_named(
        &self,
        word: &str,
        owner: Option<&str>,
    ) -> Result<Vec<Snapshot>, DatabaseError> {
        let rows = sqlx::query(
            "SELECT s.item FROM snapshots s \
             WHERE ((s.tag = $1 AND s.tag <> '') OR (s.id >= $1 AND s.id < $2)) AND ($3 = '' OR s.owner = $3) \
             ORDER BY CASE WHEN s.tag = $1 THEN 0 ELSE 1 END, s.id LIMIT 3",
        )
        .bind(word.to_owned())
        .bind(end_of_ids(word))
        .bind(owner.unwrap_or_default().to_owned())
        .fetch_all(&self.pool)
        .in_time()
        .await?;
        rows.iter().map(from_row).collect()
    }

    /// Lists a page of snapshots.
    pub(crate) async fn snapshots(&self, filter: &SnapshotFilter) -> Result<Vec<Snapshot>, DatabaseError> {
        list_query(filter).fetch_all(&self.pool).in_time().await?.iter().map(from_row).collect()
    }

    /// Reads all snapshots.
    pub(crate) async fn all_snapshots(&self) -> Result<Vec<Snapshot>, DatabaseError> {
        let rows = sqlx::query("SELECT s.item FROM snapshots s").fetch_all(&self.pool).in_time().await?;
        rows.iter().map(from_row).collect()
    }

    /// Lists the ids of the snapshots whose bytes on the disk are unknown: an earlier version has recorded them.
    pub(crate) async fn snapshots_of_unknown_size(&self) -> Result<Vec<String>, DatabaseError> {
        let rows = sqlx::query("SELECT id FROM snapshots WHERE bytes IS NULL")
            .fetch_all(&self.pool)
            .in_time()
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Lists the pools that are to be kept: the snapshot's id, and how many clones are to be ready; 0 if it is to be ended.
    pub(crate) async fn pools(&self) -> Result<Vec<(String, u32)>, DatabaseError> {
        let rows = sqlx::query("SELECT snapshot, size FROM pools ORDER BY snapshot");
        let rows = rows.fetch_all(&self.pool).in_time().await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, size(row.try_get(1)?)))).collect()
    }

    /// Reads the size of a snapshot's pool; `None` if it has none.
    pub(crate) async fn pool_size(&self, snapshot: &str) -> Result<Option<u32>, DatabaseError> {
        let query = sqlx::query("SELECT size FROM pools WHERE snapshot = $1 AND size > 0");
        let row = query.bind(snapshot.to_owned()).fetch_optional(&self.pool).in_time().await?;
        row.map(|row| Ok(size(row.try_get(0)?))).transpose()
    }
}

fn size(size: i64) -> u32 {
    u32::try_from(size).unwrap_or_default()
}

fn from_row(row: &AnyRow) -> Result<Snapshot, DatabaseError> {
    parse(&row.try_get::<String, _>(0)?, "snapshot", "")
}

fn list_query(filter: &SnapshotFilter) -> QueryBuilder {
    let mut query = QueryBuilder::new("SELECT s.item FROM snapshots s WHERE 1 = 1");
    if let Some(owner) = &filter.owner {
        query.push(" AND s.owner = ").push_bind(owner.clone());
    }
    if let Some(tag) = &filter.tag {
        query.push(" AND s.tag = ").push_bind(tag.clone());
    }
    if let Some(machine) = &filter.machine {
        query.push(" AND s.machine = ").push_bind(machine.clone());
    }
    LIST.push_labels(&mut query, &filter.labels);
    LIST.push_page(&mut query, filter.sort, filter.after.as_ref(), filter.limit);
    query
}

/// The place of a snapshot in a list of this order.
pub(crate) fn place_of_snapshot(snapshot: &Snapshot, sort: Sort) -> After {
    After::new(sort, snapshot.tag.as_deref().unwrap_or_default(), snapshot.created_at, &snapshot.id)
}

impl Write<'_> {
    /// Reads one snapshot in order to change it.
    pub(crate) async fn snapshot(&mut self, id: &str) -> Result<Option<Snapshot>, DatabaseError> {
        let query = sqlx::query("SELECT s.item FROM snapshots s WHERE s.id = $1").bind(id.to_owned());
        query.fetch_optional(self.connection()).in_time().await?.map(|row| from_row(&row)).transpose()
    }

    /// Adds a snapshot that occupies so many bytes of the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Duplicate`] if its tag is taken, [`DatabaseError::Quota`] if its owner's quota is exceeded.
    pub(crate) async fn add_snapshot(&mut self, item: &Snapshot, bytes: u64) -> Result<(), DatabaseError> {
        let needed = Usage { snapshots: 1, snapshot_bytes: bytes, ..Usage::default() };
        self.check_quota(&item.owner, &needed).await?;
        sqlx::query(
            "INSERT INTO snapshots (id, owner, tag, machine, state, created_at, item, bytes) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(item.id.clone())
        .bind(item.owner.clone())
        .bind(item.tag.clone().unwrap_or_default())
        .bind(item.machine.clone())
        .bind(name_of(&item.state))
        .bind(item.created_at.as_microsecond())
        .bind(json(item))
        .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
        .execute(self.connection())
        .in_time()
        .await?;
        for (key, value) in &item.labels {
            sqlx::query("INSERT INTO snapshot_labels (snapshot, key, value) VALUES ($1, $2, $3)")
                .bind(item.id.clone())
                .bind(key.clone())
                .bind(value.clone())
                .execute(self.connection())
                .in_time()
                .await?;
        }
        Ok(())
    }

    /// Stores a snapshot that has been taken, as the next version, and the bytes of the disk that it occupies.
    pub(crate) async fn store_snapshot(
        &mut self,
        item: &mut Snapshot,
        bytes: u64,
    ) -> Result<(), DatabaseError> {
        (item.version, item.state) = (item.version + 1, SnapshotState::Ready);
        let update = sqlx::query("UPDATE snapshots SET state = $2, created_at = $3, item = $4 WHERE id = $1");
        let update = update.bind(item.id.clone()).bind(name_of(&item.state));
        let update = update.bind(item.created_at.as_microsecond()).bind(json(item));
        update.execute(self.connection()).in_time().await?;
        self.set_snapshot_bytes(&item.id, bytes).await
    }

    /// Stores the bytes of the disk that a snapshot occupies.
    pub(crate) async fn set_snapshot_bytes(&mut self, id: &str, bytes: u64) -> Result<(), DatabaseError> {
        let update = sqlx::query("UPDATE snapshots SET bytes = $2 WHERE id = $1").bind(id.to_owned());
        update.bind(i64::try_from(bytes).unwrap_or(i64::MAX)).execute(self.connection()).in_time().await?;
        Ok(())
    }

    /// Reads the snapshots of this owner.
    pub(crate) async fn snapshots_of(&mut self, owner: &str) -> Result<Vec<Snapshot>, DatabaseError> {
        let query = sqlx::query("SELECT s.item FROM snapshots s WHERE s.owner = $1 ORDER BY s.created_at");
        let rows = query.bind(owner.to_owned()).fetch_all(self.connection()).in_time().await?;
        rows.iter().map(from_row).collect()
    }

    /// Makes another user the owner of a snapshot, in its next version.
    pub(crate) async fn hand_over_snapshot(
        &mut self,
        mut item: Snapshot,
        owner: &str,
    ) -> Result<(), DatabaseError> {
        owner.clone_into(&mut item.owner);
        item.version += 1;
        let update = sqlx::query("UPDATE snapshots SET owner = $2, item = $3 WHERE id = $1");
        let update = update.bind(item.id.clone()).bind(item.owner.clone()).bind(json(&item));
        update.execute(self.connection()).in_time().await?;
        Ok(())
    }

    /// Removes a snapshot's record. Returns whether there was one.
    pub(crate) async fn remove_snapshot(&mut self, id: &str) -> Result<bool, DatabaseError> {
        let delete = sqlx::query("DELETE FROM snapshots WHERE id = $1").bind(id.to_owned());
        Ok(delete.execute(self.connection()).in_time().await?.rows_affected() > 0)
    }

    /// Records the size of a snapshot's pool; 0 if it is to be ended.
    ///
    /// # Errors
    /// [`DatabaseError::Quota`] if the quota of the snapshot's owner is exceeded.
    pub(crate) async fn set_pool(&mut self, snapshot: &Snapshot, size: u32) -> Result<(), DatabaseError> {
        let more = size.saturating_sub(self.pool_size(&snapshot.id).await?);
        self.check_quota(&snapshot.owner, &usage_of_clones(snapshot, more)).await?;
        sqlx::query(
            "INSERT INTO pools (snapshot, size) VALUES ($1, $2) ON CONFLICT (snapshot) DO UPDATE SET size = excluded.size",
        )
        .bind(snapshot.id.clone())
        .bind(i64::from(size))
        .execute(self.connection())
        .in_time()
        .await?;
        Ok(())
    }

    async fn pool_size(&mut self, snapshot: &str) -> Result<u32, DatabaseError> {
        let query = sqlx::query("SELECT size FROM pools WHERE snapshot = $1").bind(snapshot.to_owned());
        let row = query.fetch_optional(self.connection()).in_time().await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.map_or(0, size))
    }

    /// Forgets a pool that has ended.
    pub(crate) async fn remove_pool(&mut self, snapshot: &str) -> Result<(), DatabaseError> {
        let delete = sqlx::query("DELETE FROM pools WHERE snapshot = $1 AND size = 0");
        delete.bind(snapshot.to_owned()).execute(self.connection()).in_time().await?;
        Ok(())
    }
}
