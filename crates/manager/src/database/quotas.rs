//! Quotas: what the machines of a user may use in all.

use mimeo_manager_api::{Machine, Quota, Usage};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Database, DatabaseError, Write};

const SELECT_QUOTA: &str = "SELECT machines, cpus, memory_mib, disk_bytes FROM quotas WHERE owner = $1";
// Machines that could not be created use nothing. The casts are for PostgreSQL, where sums of integers are decimals.
const SELECT_USAGE: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(cpus), 0) AS BIGINT), \
     CAST(COALESCE(SUM(memory_mib), 0) AS BIGINT), CAST(COALESCE(SUM(disk_bytes), 0) AS BIGINT) \
     FROM machines WHERE owner = $1 AND ended_at IS NULL AND state <> 'failed'";

/// A limit that a new machine would exceed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the quota of the user {owner:?} allows {limit} {what}, and {used} are used: {needed} more are needed"
)]
pub(crate) struct QuotaExceeded {
    owner: String,
    what: &'static str,
    limit: u64,
    used: u64,
    needed: u64,
}

impl Database {
    /// Reads a user's quota, and what is used of it.
    pub(crate) async fn quota(&self, owner: &str) -> Result<(Quota, Usage), DatabaseError> {
        let quota = sqlx::query(SELECT_QUOTA).bind(owner.to_owned()).fetch_optional(&self.pool).await?;
        let usage = sqlx::query(SELECT_USAGE).bind(owner.to_owned()).fetch_one(&self.pool).await?;
        Ok((quota_from_row(quota.as_ref())?, usage_from_row(&usage)?))
    }
}

impl Write<'_> {
    /// Sets a user's quota.
    pub(crate) async fn set_quota(&mut self, owner: &str, quota: &Quota) -> Result<(), DatabaseError> {
        let signed = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        sqlx::query(
            "INSERT INTO quotas (owner, machines, cpus, memory_mib, disk_bytes) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (owner) DO UPDATE SET machines = excluded.machines, cpus = excluded.cpus, \
             memory_mib = excluded.memory_mib, disk_bytes = excluded.disk_bytes",
        )
        .bind(owner.to_owned())
        .bind(quota.machines.map(i64::from))
        .bind(quota.cpus.map(i64::from))
        .bind(signed(quota.memory_mib))
        .bind(signed(quota.disk_bytes))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Refuses a new machine that would exceed its owner's quota. Nothing else writes meanwhile, so what is admitted is
    /// used at once.
    pub(super) async fn check_quota(&mut self, item: &Machine) -> Result<(), DatabaseError> {
        let quota =
            sqlx::query(SELECT_QUOTA).bind(item.owner.clone()).fetch_optional(self.connection()).await?;
        let Some(quota) = quota else { return Ok(()) };
        let quota = quota_from_row(Some(&quota))?;
        let usage = sqlx::query(SELECT_USAGE).bind(item.owner.clone()).fetch_one(self.connection()).await?;
        check(item, &quota, &usage_from_row(&usage)?).map_err(DatabaseError::Quota)
    }
}

fn check(item: &Machine, quota: &Quota, usage: &Usage) -> Result<(), QuotaExceeded> {
    let limits = [
        ("machines", quota.machines.map(u64::from), usage.machines, 1),
        ("vCPUs", quota.cpus.map(u64::from), usage.cpus, item.cpus.into()),
        ("MiB of memory", quota.memory_mib, usage.memory_mib, item.memory_mib.into()),
        ("bytes of disk", quota.disk_bytes, usage.disk_bytes, item.disk_bytes),
    ];
    for (what, limit, used, needed) in limits {
        if let Some(limit) = limit.filter(|limit| used.saturating_add(needed) > *limit) {
            return Err(QuotaExceeded { owner: item.owner.clone(), what, limit, used, needed });
        }
    }
    Ok(())
}

fn quota_from_row(row: Option<&AnyRow>) -> Result<Quota, DatabaseError> {
    let Some(row) = row else { return Ok(Quota::default()) };
    let value = |index: usize| -> Result<Option<u64>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(index)?.map(|value| u64::try_from(value).unwrap_or(0)))
    };
    let small = |value: Option<u64>| value.map(|value| u32::try_from(value).unwrap_or(u32::MAX));
    Ok(Quota {
        machines: small(value(0)?),
        cpus: small(value(1)?),
        memory_mib: value(2)?,
        disk_bytes: value(3)?,
    })
}

fn usage_from_row(row: &AnyRow) -> Result<Usage, DatabaseError> {
    let value = |index: usize| -> Result<u64, sqlx::Error> {
        Ok(u64::try_from(row.try_get::<i64, _>(index)?).unwrap_or(0))
    };
    Ok(Usage { machines: value(0)?, cpus: value(1)?, memory_mib: value(2)?, disk_bytes: value(3)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_limit_that_is_exceeded_is_named() {
        let mut item = crate::item::requested("1".to_owned(), "web".to_owned(), "alice".to_owned());
        (item.cpus, item.memory_mib) = (2, 512);
        let usage = Usage { machines: 3, cpus: 4, memory_mib: 1024, disk_bytes: 0 };
        let quota = Quota { machines: Some(4), cpus: Some(6), memory_mib: Some(1536), disk_bytes: None };
        assert_eq!(check(&item, &quota, &usage), Ok(()));
        let tight = Quota { memory_mib: Some(1535), ..quota };
        let refused = check(&item, &tight, &usage).expect_err("refused").to_string();
        assert!(refused.contains("1535 MiB of memory, and 1024 are used: 512 more"), "{refused}");
    }
}
