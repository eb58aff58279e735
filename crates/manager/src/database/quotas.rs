//! Quotas: what a user may keep in all.

use mimeo_manager_api::{Machine, Quota, Snapshot, Usage};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use super::in_time::InTime as _;
use super::{Database, DatabaseError, Write, parse};

const SELECT_QUOTA: &str = "SELECT machines, cpus, memory_mib, disk_bytes, snapshots, snapshot_bytes, volumes, volume_bytes \
     FROM quotas WHERE owner = $1";
// Machines that could not be created use nothing. The casts are for PostgreSQL, where sums of integers are decimals.
const SELECT_MACHINES: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(cpus), 0) AS BIGINT), \
     CAST(COALESCE(SUM(memory_mib), 0) AS BIGINT), CAST(COALESCE(SUM(disk_bytes), 0) AS BIGINT) \
     FROM machines WHERE owner = $1 AND ended_at IS NULL AND state <> 'failed'";
const SELECT_SNAPSHOTS: &str =
    "SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM snapshots WHERE owner = $1";
const SELECT_VOLUMES: &str =
    "SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM volumes WHERE owner = $1";
const SELECT_POOLS: &str =
    "SELECT p.size, s.item FROM pools p JOIN snapshots s ON s.id = p.snapshot WHERE s.owner = $1";

/// A limit that would be exceeded.
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
        let mut connection = self.pool.acquire().await?;
        let quota = read_quota(&mut connection, owner).await?.unwrap_or_default();
        Ok((quota, read_usage(&mut connection, owner).await?))
    }
}

impl Write<'_> {
    /// Sets a user's quota.
    pub(crate) async fn set_quota(&mut self, owner: &str, quota: &Quota) -> Result<(), DatabaseError> {
        let signed = |value: Option<u64>| value.map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        sqlx::query(
            "INSERT INTO quotas (owner, machines, cpus, memory_mib, disk_bytes, snapshots, snapshot_bytes, volumes, volume_bytes) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             ON CONFLICT (owner) DO UPDATE SET machines = excluded.machines, cpus = excluded.cpus, \
             memory_mib = excluded.memory_mib, disk_bytes = excluded.disk_bytes, snapshots = excluded.snapshots, \
             snapshot_bytes = excluded.snapshot_bytes, volumes = excluded.volumes, volume_bytes = excluded.volume_bytes",
        )
        .bind(owner.to_owned())
        .bind(quota.machines.map(i64::from))
        .bind(quota.cpus.map(i64::from))
        .bind(signed(quota.memory_mib))
        .bind(signed(quota.disk_bytes))
        .bind(quota.snapshots.map(i64::from))
        .bind(signed(quota.snapshot_bytes))
        .bind(quota.volumes.map(i64::from))
        .bind(signed(quota.volume_bytes))
        .execute(self.connection())
        .in_time()
        .await?;
        Ok(())
    }

    /// Refuses what would exceed the owner's quota. Nothing else writes meanwhile, so what is admitted is used at once.
    pub(super) async fn check_quota(&mut self, owner: &str, needed: &Usage) -> Result<(), DatabaseError> {
        let Some(quota) = read_quota(self.connection(), owner).await? else { return Ok(()) };
        let usage = read_usage(self.connection(), owner).await?;
        check(owner, &quota, &usage, needed).map_err(DatabaseError::Quota)
    }
}

/// What a machine uses.
pub(super) fn usage_of_machine(item: &Machine) -> Usage {
    Usage {
        machines: 1,
        cpus: item.cpus.into(),
        memory_mib: item.memory_mib.into(),
        disk_bytes: item.disk_bytes,
        ..Usage::default()
    }
}

/// What clones of a snapshot use that are kept ready.
pub(super) fn usage_of_clones(item: &Snapshot, count: u32) -> Usage {
    let count = u64::from(count);
    Usage {
        machines: count,
        cpus: u64::from(item.cpus) * count,
        memory_mib: u64::from(item.memory_mib) * count,
        disk_bytes: item.disk_bytes.saturating_mul(count),
        ..Usage::default()
    }
}

fn check(owner: &str, quota: &Quota, usage: &Usage, needed: &Usage) -> Result<(), QuotaExceeded> {
    let limits = [
        ("machines", quota.machines.map(u64::from), usage.machines, needed.machines),
        ("vCPUs", quota.cpus.map(u64::from), usage.cpus, needed.cpus),
        ("MiB of memory", quota.memory_mib, usage.memory_mib, needed.memory_mib),
        ("bytes of disk", quota.disk_bytes, usage.disk_bytes, needed.disk_bytes),
        ("snapshots", quota.snapshots.map(u64::from), usage.snapshots, needed.snapshots),
        ("bytes of snapshots", quota.snapshot_bytes, usage.snapshot_bytes, needed.snapshot_bytes),
        ("volumes", quota.volumes.map(u64::from), usage.volumes, needed.volumes),
        ("bytes of volumes", quota.volume_bytes, usage.volume_bytes, needed.volume_bytes),
    ];
    for (what, limit, used, needed) in limits {
        let exceeded = |limit: &u64| needed > 0 && used.saturating_add(needed) > *limit;
        if let Some(limit) = limit.filter(exceeded) {
            return Err(QuotaExceeded { owner: owner.to_owned(), what, limit, used, needed });
        }
    }
    Ok(())
}

async fn read_quota(connection: &mut AnyConnection, owner: &str) -> Result<Option<Quota>, DatabaseError> {
    let row = sqlx::query(SELECT_QUOTA).bind(owner.to_owned()).fetch_optional(connection).in_time().await?;
    row.as_ref().map(quota_from_row).transpose()
}

fn quota_from_row(row: &AnyRow) -> Result<Quota, DatabaseError> {
    let value = |index: usize| -> Result<Option<u64>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(index)?.map(|value| u64::try_from(value).unwrap_or(0)))
    };
    let small = |value: Option<u64>| value.map(|value| u32::try_from(value).unwrap_or(u32::MAX));
    Ok(Quota {
        machines: small(value(0)?),
        cpus: small(value(1)?),
        memory_mib: value(2)?,
        disk_bytes: value(3)?,
        snapshots: small(value(4)?),
        snapshot_bytes: value(5)?,
        volumes: small(value(6)?),
        volume_bytes: value(7)?,
    })
}

async fn read_usage(connection: &mut AnyConnection, owner: &str) -> Result<Usage, DatabaseError> {
    let [machines, cpus, memory_mib, disk_bytes] = read_sums(connection, SELECT_MACHINES, owner).await?;
    let [snapshots, snapshot_bytes] = read_sums(connection, SELECT_SNAPSHOTS, owner).await?;
    let [volumes, volume_bytes] = read_sums(connection, SELECT_VOLUMES, owner).await?;
    let mut usage =
        Usage { machines, cpus, memory_mib, disk_bytes, snapshots, snapshot_bytes, volumes, volume_bytes };
    let pools = sqlx::query(SELECT_POOLS).bind(owner.to_owned()).fetch_all(connection).in_time().await?;
    for row in pools {
        let size = u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
        let clones = usage_of_clones(&parse(&row.try_get::<String, _>(1)?, "snapshot", "")?, size);
        usage.machines += clones.machines;
        usage.cpus += clones.cpus;
        usage.memory_mib += clones.memory_mib;
        usage.disk_bytes = usage.disk_bytes.saturating_add(clones.disk_bytes);
    }
    Ok(usage)
}

/// Reads one row of sums.
async fn read_sums<const COUNT: usize>(
    connection: &mut AnyConnection,
    query: &'static str,
    owner: &str,
) -> Result<[u64; COUNT], DatabaseError> {
    let row = sqlx::query(query).bind(owner.to_owned()).fetch_one(connection).in_time().await?;
    let mut sums = [0; COUNT];
    for (index, sum) in sums.iter_mut().enumerate() {
        *sum = u64::try_from(row.try_get::<i64, _>(index)?).unwrap_or(0);
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_limit_that_is_exceeded_is_named() {
        let needed = Usage { machines: 1, cpus: 2, memory_mib: 512, ..Usage::default() };
        let usage = Usage { machines: 3, cpus: 4, memory_mib: 1024, ..Usage::default() };
        let quota = Quota { machines: Some(4), cpus: Some(6), memory_mib: Some(1536), ..Quota::default() };
        assert_eq!(check("alice", &quota, &usage, &needed), Ok(()));
        let tight = Quota { memory_mib: Some(1535), ..quota };
        let refused = check("alice", &tight, &usage, &needed).expect_err("refused").to_string();
        assert!(refused.contains("1535 MiB of memory, and 1024 are used: 512 more"), "{refused}");
    }

    #[test]
    fn a_limit_that_is_exceeded_already_refuses_nothing_else() {
        let usage = Usage { machines: 3, ..Usage::default() };
        let quota = Quota { machines: Some(1), volumes: Some(1), ..Quota::default() };
        let volume = Usage { volumes: 1, volume_bytes: 1 << 30, ..Usage::default() };
        assert_eq!(check("alice", &quota, &usage, &volume), Ok(()));
        let refused = check("alice", &quota, &Usage { volumes: 1, ..usage }, &volume);
        assert!(
            refused.expect_err("refused").to_string().contains("allows 1 volumes, and 1 are used: 1 more")
        );
    }
}
