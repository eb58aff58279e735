//! The owners of volumes.

use std::collections::HashMap;

use mimeo_manager_api::Usage;
use sqlx::Row;

use super::in_time::InTime as _;
use super::{Database, DatabaseError, Write};

/// The owners of volumes, by name, with the volumes' time of creation in microseconds since 1970.
pub(crate) type VolumeOwners = HashMap<String, (String, i64)>;

/// A volume, which may not be made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeRow {
    /// Its name.
    pub(crate) name: String,
    /// The user who owns it.
    pub(crate) owner: String,
    /// Its time of creation in microseconds since 1970: a volume of another time is another one of the same name.
    pub(crate) created_at: i64,
    /// The size of its filesystem; `None` if an earlier version has recorded it.
    pub(crate) bytes: Option<u64>,
}

impl Database {
    /// Reads the owners of all volumes.
    pub(crate) async fn volume_owners(&self) -> Result<VolumeOwners, DatabaseError> {
        let rows = self.volumes().await?;
        Ok(rows.into_iter().map(|row| (row.name, (row.owner, row.created_at))).collect())
    }

    /// Reads all volumes.
    pub(crate) async fn volumes(&self) -> Result<Vec<VolumeRow>, DatabaseError> {
        let query = sqlx::query("SELECT name, owner, created_at, bytes FROM volumes");
        let rows = query.fetch_all(&self.pool).in_time().await?;
        let row = |row: &sqlx::any::AnyRow| {
            let bytes: Option<i64> = row.try_get(3)?;
            Ok(VolumeRow {
                name: row.try_get(0)?,
                owner: row.try_get(1)?,
                created_at: row.try_get(2)?,
                bytes: bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
            })
        };
        rows.iter().map(row).collect()
    }
}

impl Write<'_> {
    /// Adds a volume, instead of an earlier one of the same name, which does not exist any more.
    ///
    /// # Errors
    /// [`DatabaseError::Quota`] if the owner's quota is exceeded.
    pub(crate) async fn add_volume(&mut self, row: &VolumeRow) -> Result<(), DatabaseError> {
        let delete = sqlx::query("DELETE FROM volumes WHERE name = $1").bind(row.name.clone());
        delete.execute(self.connection()).in_time().await?;
        let volume_bytes = row.bytes.unwrap_or(0);
        self.check_quota(&row.owner, &Usage { volumes: 1, volume_bytes, ..Usage::default() }).await?;
        sqlx::query("INSERT INTO volumes (name, owner, created_at, bytes) VALUES ($1, $2, $3, $4)")
            .bind(row.name.clone())
            .bind(row.owner.clone())
            .bind(row.created_at)
            .bind(i64::try_from(volume_bytes).unwrap_or(i64::MAX))
            .execute(self.connection())
            .in_time()
            .await?;
        Ok(())
    }

    /// Stores the size of a volume that an earlier version has recorded.
    pub(crate) async fn set_volume_bytes(&mut self, name: &str, bytes: u64) -> Result<(), DatabaseError> {
        let update = sqlx::query("UPDATE volumes SET bytes = $2 WHERE name = $1").bind(name.to_owned());
        update.bind(i64::try_from(bytes).unwrap_or(i64::MAX)).execute(self.connection()).in_time().await?;
        Ok(())
    }

    /// Lists the names of the volumes of this owner.
    pub(crate) async fn volumes_of(&mut self, owner: &str) -> Result<Vec<String>, DatabaseError> {
        let query = sqlx::query("SELECT name FROM volumes WHERE owner = $1 ORDER BY name");
        let rows = query.bind(owner.to_owned()).fetch_all(self.connection()).in_time().await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Makes another user the owner of all volumes of this owner.
    pub(crate) async fn hand_over_volumes(&mut self, from: &str, to: &str) -> Result<(), DatabaseError> {
        let update = sqlx::query("UPDATE volumes SET owner = $2 WHERE owner = $1");
        update.bind(from.to_owned()).bind(to.to_owned()).execute(self.connection()).in_time().await?;
        Ok(())
    }

    /// Forgets a volume that was removed, or could not be made. Returns whether there was a record of it.
    pub(crate) async fn remove_volume(&mut self, name: &str, created_at: i64) -> Result<bool, DatabaseError> {
        let delete = sqlx::query("DELETE FROM volumes WHERE name = $1 AND created_at = $2");
        let delete = delete.bind(name.to_owned()).bind(created_at);
        Ok(delete.execute(self.connection()).in_time().await?.rows_affected() > 0)
    }
}
