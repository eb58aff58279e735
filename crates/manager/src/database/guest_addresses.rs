//! Addresses that guests have reported.

use mimeo_manager_api::{GuestIp, GuestIpSource};
use sqlx::Row;

use super::in_time::InTime as _;
use super::users::timestamp;
use super::{Database, DatabaseError, Write};

impl Database {
    /// Reads the address that a machine's guest has reported last.
    pub(crate) async fn guest_address(&self, machine: &str) -> Result<Option<GuestIp>, DatabaseError> {
        let query = sqlx::query("SELECT ip, ip6, reported_at FROM guest_addresses WHERE machine = $1");
        let row = query.bind(machine.to_owned()).fetch_optional(&self.pool).in_time().await?;
        let parse = |row: &sqlx::any::AnyRow| {
            Ok(GuestIp {
                ip: row.try_get(0)?,
                ip6: row.try_get(1)?,
                source: GuestIpSource::Guest,
                since: timestamp(row.try_get(2)?),
            })
        };
        row.as_ref().map(parse).transpose()
    }
}

impl Write<'_> {
    /// Records the address that a machine's guest reports.
    pub(crate) async fn store_guest_address(
        &mut self,
        machine: &str,
        address: &GuestIp,
    ) -> Result<(), DatabaseError> {
        sqlx::query(
            "INSERT INTO guest_addresses (machine, ip, ip6, reported_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (machine) DO UPDATE SET ip = excluded.ip, ip6 = excluded.ip6, reported_at = excluded.reported_at",
        )
        .bind(machine.to_owned())
        .bind(address.ip.clone())
        .bind(address.ip6.clone())
        .bind(address.since.as_microsecond())
        .execute(self.connection())
        .in_time()
        .await?;
        Ok(())
    }
}
