//! Events: a chain in which each event has the digest of the one before it.

use jiff::Timestamp;
use mimeo_manager_api::{Event, Resource, ResourceKind};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{AnyConnection, Row};

use super::in_time::InTime as _;
use super::{Database, DatabaseError, Write};

/// The event of a removal of the events before it.
const PRUNED: &str = "events.pruned";

/// The actor of events that no user caused.
pub(crate) const MANAGER: &str = "manager";

/// An event that is about to be recorded.
#[derive(Debug)]
pub(crate) struct EventDraft<'a> {
    /// What happened.
    pub(crate) kind: &'a str,
    /// Who caused it.
    pub(crate) actor: &'a str,
    /// The owner of the resource.
    pub(crate) owner: &'a str,
    /// The resource.
    pub(crate) resource: Resource,
    /// Details.
    pub(crate) data: Value,
}

impl<'a> EventDraft<'a> {
    /// An event that the manager itself caused.
    pub(crate) fn of_manager(kind: &'a str, owner: &'a str, resource: Resource, data: Value) -> Self {
        Self { kind, actor: MANAGER, owner, resource, data }
    }
}

/// The last event of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainEnd {
    pub(super) seq: i64,
    pub(super) digest: String,
}

impl ChainEnd {
    pub(super) async fn read(connection: &mut AnyConnection) -> Result<Self, DatabaseError> {
        let query = sqlx::query("SELECT item FROM events ORDER BY seq DESC LIMIT 1");
        let last = query.fetch_optional(connection).in_time().await?;
        let Some(row) = last else { return Ok(Self { seq: 0, digest: String::new() }) };
        let event = parse(&row.try_get::<String, _>(0)?)?;
        Ok(Self { seq: event.seq, digest: event.digest })
    }

    /// Makes the event that follows this one.
    pub(super) fn follow(&self, draft: EventDraft<'_>) -> Event {
        let mut event = Event {
            seq: self.seq + 1,
            time: Timestamp::now(),
            kind: draft.kind.to_owned(),
            actor: draft.actor.to_owned(),
            owner: draft.owner.to_owned(),
            resource: draft.resource,
            data: draft.data,
            digest: String::new(),
        };
        event.digest = digest(&self.digest, &event);
        event
    }
}

/// The digest of an event: SHA-256 of the previous digest, a line feed, and the event's JSON without its own digest.
fn digest(previous: &str, event: &Event) -> String {
    let unsigned = Event { digest: String::new(), ..event.clone() };
    let mut hasher = Sha256::new();
    hasher.update(previous);
    hasher.update(b"\n");
    // An event consists of strings, numbers and maps of them: serialization cannot fail.
    hasher.update(serde_json::to_vec(&unsigned).unwrap_or_default());
    hex(&hasher.finalize())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn insert(connection: &mut AnyConnection, event: &Event) -> Result<(), DatabaseError> {
    sqlx::query(
        "INSERT INTO events (seq, time, kind, owner, resource_kind, resource_id, item) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(event.seq)
    .bind(event.time.as_microsecond())
    .bind(event.kind.clone())
    .bind(event.owner.clone())
    .bind(super::name_of(&event.resource.kind))
    .bind(event.resource.id.clone())
    .bind(super::json(event))
    .execute(connection)
    .in_time()
    .await?;
    Ok(())
}

/// Which events are read.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventFilter {
    /// Only those of this owner.
    pub(crate) owner: Option<String>,
    /// Only those of this resource.
    pub(crate) resource: Option<String>,
    /// Only those whose kind begins with this word.
    pub(crate) kind: Option<String>,
}

impl Database {
    /// Reads events after `after`, in order.
    pub(crate) async fn events(
        &self,
        after: i64,
        limit: i64,
        filter: &EventFilter,
    ) -> Result<Vec<Event>, DatabaseError> {
        let rows = sqlx::query(
            "SELECT item FROM events WHERE seq > $1 AND ($2 = '' OR owner = $2) AND ($3 = '' OR resource_id = $3) \
             AND ($4 = '' OR kind = $4 OR kind LIKE $5) ORDER BY seq LIMIT $6",
        )
        .bind(after)
        .bind(filter.owner.clone().unwrap_or_default())
        .bind(filter.resource.clone().unwrap_or_default())
        .bind(filter.kind.clone().unwrap_or_default())
        .bind(format!("{}.%", filter.kind.as_deref().unwrap_or_default()))
        .bind(limit)
        .fetch_all(&self.pool)
        .in_time()
        .await?;
        rows.iter().map(|row| parse(&row.try_get::<String, _>(0)?)).collect()
    }

    /// Reads all events and returns the number of the first one that does not follow from the one before it.
    pub(crate) async fn first_broken_event(&self) -> Result<Option<i64>, DatabaseError> {
        const PAGE: i64 = 1000;
        let mut end = self.chain_start().await?;
        loop {
            let page = self.events(end.seq, PAGE, &EventFilter::default()).await?;
            if page.is_empty() {
                let is_whole = *self.last_event.borrow() <= end.seq;
                return Ok((!is_whole).then_some(end.seq + 1));
            }
            for event in &page {
                if event.seq != end.seq + 1 || event.digest != digest(&end.digest, event) {
                    return Ok(Some(end.seq + 1));
                }
                end = ChainEnd { seq: event.seq, digest: event.digest.clone() };
            }
        }
    }

    /// Reads where the chain begins: after the events that were removed for their age. The event of their removal, which
    /// belongs to the chain, has their last digest.
    async fn chain_start(&self) -> Result<ChainEnd, DatabaseError> {
        let query = sqlx::query("SELECT item FROM events WHERE kind = $1 ORDER BY seq DESC LIMIT 1");
        let Some(row) = query.bind(PRUNED).fetch_optional(&self.pool).in_time().await? else {
            return Ok(ChainEnd { seq: 0, digest: String::new() });
        };
        let event = parse(&row.try_get::<String, _>(0)?)?;
        let seq = event.data["through"].as_i64().unwrap_or_default();
        Ok(ChainEnd { seq, digest: event.data["digest"].as_str().unwrap_or_default().to_owned() })
    }

    /// Reads the number of the first event that is kept.
    pub(crate) async fn first_event(&self) -> Result<Option<i64>, DatabaseError> {
        let row = sqlx::query("SELECT MIN(seq) FROM events").fetch_one(&self.pool).in_time().await?;
        Ok(row.try_get::<Option<i64>, _>(0)?)
    }
}

impl Write<'_> {
    /// Removes the oldest events before this time, in microseconds since 1970, so many at most, and records that. Returns whether
    /// there are more.
    pub(crate) async fn prune_events(&mut self, before: i64, at_once: i64) -> Result<bool, DatabaseError> {
        // The clock may have been set back: what follows an event that is kept, is kept.
        let query = sqlx::query("SELECT MIN(seq) FROM events WHERE time >= $1").bind(before);
        let row = query.fetch_one(self.connection()).in_time().await?;
        let first_kept = match row.try_get::<Option<i64>, _>(0)? {
            Some(seq) => seq,
            None => ChainEnd::read(self.connection()).await?.seq + 1,
        };
        let oldest =
            sqlx::query("SELECT MIN(seq) FROM events").fetch_one(self.connection()).in_time().await?;
        let oldest = oldest.try_get::<Option<i64>, _>(0)?.unwrap_or(first_kept);
        let end = first_kept.min(oldest.saturating_add(at_once));
        let query = sqlx::query("SELECT item FROM events WHERE seq < $1 ORDER BY seq DESC LIMIT 1");
        let Some(row) = query.bind(end).fetch_optional(self.connection()).in_time().await? else {
            return Ok(false);
        };
        let last = parse(&row.try_get::<String, _>(0)?)?;
        let delete = sqlx::query("DELETE FROM events WHERE seq <= $1").bind(last.seq);
        delete.execute(self.connection()).in_time().await?;
        let data = serde_json::json!({ "through": last.seq, "digest": last.digest });
        let resource = resource(ResourceKind::Manager, MANAGER);
        self.event(EventDraft::of_manager(PRUNED, MANAGER, resource, data)).await?;
        Ok(end < first_kept)
    }
}

fn parse(text: &str) -> Result<Event, DatabaseError> {
    super::parse(text, "event", "")
}

/// A resource of this kind.
pub(crate) fn resource(kind: ResourceKind, id: impl Into<String>) -> Resource {
    Resource { kind, id: id.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(kind: &str) -> EventDraft<'_> {
        EventDraft::of_manager(kind, "alice", resource(ResourceKind::Machine, "1"), Value::Null)
    }

    #[test]
    fn a_changed_event_breaks_the_chain() {
        let start = ChainEnd { seq: 0, digest: String::new() };
        let first = start.follow(draft("machine.running"));
        assert_eq!((first.seq, first.digest.len()), (1, 64));
        assert_eq!(digest("", &first), first.digest);
        let changed = Event { actor: "bob".to_owned(), ..first.clone() };
        assert_ne!(digest("", &changed), first.digest);
        let second = ChainEnd { seq: 1, digest: first.digest }.follow(draft("machine.exited"));
        assert_ne!(digest("", &second), second.digest);
    }

    async fn database(dir: &std::path::Path) -> Database {
        let address = super::super::Address::Sqlite(dir.join("test.db"));
        let database = Database::open(&address).await.expect("opened");
        for kind in ["a", "b", "c", "d"] {
            let mut write = database.write().await.expect("begun");
            write.event(draft(kind)).await.expect("recorded");
            write.commit().await.expect("committed");
        }
        database
    }

    async fn execute(database: &Database, statement: &'static str) {
        sqlx::query(statement).execute(&database.pool).await.expect("executed");
    }

    async fn prune(database: &Database, before: i64) {
        let mut write = database.write().await.expect("begun");
        assert!(!write.prune_events(before, 1000).await.expect("pruned"));
        write.commit().await.expect("committed");
    }

    #[tokio::test]
    async fn many_events_are_removed_in_parts() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = database(dir.path()).await;
        execute(&database, "UPDATE events SET time = seq").await;
        for (first, has_more) in [(3, true), (4, false), (4, false)] {
            let mut write = database.write().await.expect("begun");
            assert_eq!(write.prune_events(4, 2).await.expect("pruned"), has_more);
            write.commit().await.expect("committed");
            assert_eq!(database.first_event().await.expect("read"), Some(first));
            assert_eq!(database.first_broken_event().await.expect("read"), None);
        }
    }

    #[tokio::test]
    async fn a_commit_that_happens_late_breaks_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = database(dir.path()).await;
        // As if its last event had become visible after the end was read.
        *database.chain_end.lock().await = Some(ChainEnd { seq: 3, digest: String::new() });
        let mut write = database.write().await.expect("begun");
        let refused = write.event(draft("e")).await;
        assert!(matches!(refused, Err(DatabaseError::Sql(_))), "{refused:?}");
        drop(write);
        let mut write = database.write().await.expect("begun");
        write.event(draft("e")).await.expect("recorded");
        write.commit().await.expect("committed");
        assert_eq!(database.first_broken_event().await.expect("read"), None);
    }

    #[tokio::test]
    async fn removed_events_leave_a_whole_chain() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = database(dir.path()).await;
        execute(&database, "UPDATE events SET time = seq").await;
        prune(&database, 3).await;
        assert_eq!(database.first_event().await.expect("read"), Some(3));
        assert_eq!(database.first_broken_event().await.expect("read"), None);
        execute(&database, "DELETE FROM events WHERE seq = 3").await;
        assert_eq!(database.first_broken_event().await.expect("read"), Some(3));
    }

    #[tokio::test]
    async fn all_events_may_be_too_old() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = database(dir.path()).await;
        prune(&database, i64::MAX).await;
        assert_eq!(database.first_event().await.expect("read"), Some(5));
        prune(&database, 0).await;
        assert_eq!(database.first_event().await.expect("read"), Some(5));
        assert_eq!(database.first_broken_event().await.expect("read"), None);
    }

    #[tokio::test]
    async fn missing_events_show() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = database(dir.path()).await;
        assert_eq!(database.first_broken_event().await.expect("read"), None);
        execute(&database, "DELETE FROM events WHERE seq = 4").await;
        assert_eq!(database.first_broken_event().await.expect("read"), Some(4), "at the end");
        execute(&database, "DELETE FROM events WHERE seq = 1").await;
        assert_eq!(database.first_broken_event().await.expect("read"), Some(1), "at the beginning");
    }

    #[tokio::test]
    async fn the_chain_goes_on_after_a_commit_whose_outcome_is_unknown() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = database(dir.path()).await;
        *database.chain_end.lock().await = None;
        let mut write = database.write().await.expect("begun");
        write.event(draft("e")).await.expect("recorded");
        write.commit().await.expect("committed");
        assert_eq!(database.first_broken_event().await.expect("read"), None);
        assert_eq!(*database.last_event().borrow(), 5);
    }
}
