//! Many records in the manager's database.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;

/// Copies a machine's record until there are this many. The copies are of machines that could not be created: they are listed
/// like all others, and nothing has to exist for them.
pub(super) fn fill(database: &Path, records: usize) -> Result<()> {
    let mut connection = Connection::open(database)?;
    let count: i64 =
        connection.query_row("SELECT COUNT(*) FROM machines WHERE ended_at IS NULL", [], |row| row.get(0))?;
    let item: String = connection
        .query_row("SELECT item FROM machines WHERE name = 'source'", [], |row| row.get(0))
        .context("no machine to copy")?;
    let transaction = connection.transaction()?;
    let records = i64::try_from(records)?;
    for number in count..records {
        insert(&transaction, &item, number)?;
    }
    transaction.commit()?;
    let count: i64 =
        connection.query_row("SELECT COUNT(*) FROM machines WHERE ended_at IS NULL", [], |row| row.get(0))?;
    ensure!(count >= records, "{count} records");
    Ok(())
}

fn insert(connection: &Connection, item: &str, number: i64) -> Result<()> {
    let mut item: serde_json::Value = serde_json::from_str(item)?;
    let (id, name) = (format!("{number:064x}"), format!("record-{number}"));
    item["id"] = id.clone().into();
    item["name"] = name.clone().into();
    item["state"] = "failed".into();
    item["labels"] = serde_json::json!({ "group": (number % 100).to_string() });
    item["failure"] =
        serde_json::json!({ "stage": null, "code": "start-failed", "message": "a copy", "console": [] });
    connection.execute(
        "INSERT INTO machines (id, owner, name, state, desired, version, cpus, memory_mib, disk_bytes, created_at, item) \
         VALUES (?1, 'admin', ?2, 'failed', 'present', 1, 1, 512, 0, ?3, ?4)",
        (&id, &name, number, item.to_string()),
    )?;
    connection.execute(
        "INSERT INTO machine_labels (machine, key, value) VALUES (?1, 'group', ?2)",
        (&id, (number % 100).to_string()),
    )?;
    Ok(())
}
