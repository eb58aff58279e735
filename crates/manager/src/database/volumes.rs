//! The owners of volumes.

use std::collections::HashMap;

use sqlx::Row;

use super::{Database, DatabaseError, Write};

/// The owners of volumes, by name, with the volumes' time of creation in microseconds since 1970.
pub(crate) type VolumeOwners = HashMap<String, (String, i64)>;

impl Database {
    /// Reads the owners of all volumes.
    pub(crate) async fn volume_owners(&self) -> Result<VolumeOwners, DatabaseError> {
        let rows = sqlx::query("SELECT name, owner, created_at FROM volumes").fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))).collect()
    }
}

impl Write<'_> {
    /// Records the owner of a volume, instead of that of an earlier volume of the same name.
    pub(crate) async fn set_volume_owner(
        &mut self,
        name: &str,
        owner: &str,
        created_at: i64,
    ) -> Result<(), DatabaseError> {
        sqlx::query(
            "INSERT INTO volumes (name, owner, created_at) VALUES ($1, $2, $3) \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, created_at = excluded.created_at",
        )
        .bind(name.to_owned())
        .bind(owner.to_owned())
        .bind(created_at)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Lists the names of the volumes of this owner.
    pub(crate) async fn volumes_of(&mut self, owner: &str) -> Result<Vec<String>, DatabaseError> {
        let query = sqlx::query("SELECT name FROM volumes WHERE owner = $1 ORDER BY name");
        let rows = query.bind(owner.to_owned()).fetch_all(self.connection()).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Makes another user the owner of all volumes of this owner.
    pub(crate) async fn hand_over_volumes(&mut self, from: &str, to: &str) -> Result<(), DatabaseError> {
        let update = sqlx::query("UPDATE volumes SET owner = $2 WHERE owner = $1");
        update.bind(from.to_owned()).bind(to.to_owned()).execute(self.connection()).await?;
        Ok(())
    }

    /// Forgets a volume that was removed.
    pub(crate) async fn remove_volume(&mut self, name: &str) -> Result<(), DatabaseError> {
        let delete = sqlx::query("DELETE FROM volumes WHERE name = $1").bind(name.to_owned());
        delete.execute(self.connection()).await?;
        Ok(())
    }
}
