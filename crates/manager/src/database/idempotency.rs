//! Answers that are kept for requests with an `Idempotency-Key`.

use sqlx::Row;

use super::in_time::InTime as _;
use super::{DatabaseError, Write};

/// A request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    /// The digest of the request.
    pub(crate) request_digest: String,
    /// The answer; none while it is unknown.
    pub(crate) answer: Option<KeptAnswer>,
}

/// An answer that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptAnswer {
    /// The status code.
    pub(crate) status: i64,
    /// The headers, as JSON.
    pub(crate) headers: String,
    /// The body, as base64; none if it was not kept.
    pub(crate) body: Option<String>,
}

impl Write<'_> {
    /// Reads the request of this user with this key.
    pub(crate) async fn idempotency_key(
        &mut self,
        user: &str,
        key: &str,
    ) -> Result<Option<KeyRow>, DatabaseError> {
        let query = sqlx::query(
            "SELECT request_digest, status, headers, body FROM idempotency_keys WHERE user_id = $1 AND key = $2",
        );
        let query = query.bind(user.to_owned()).bind(key.to_owned());
        let Some(row) = query.fetch_optional(self.connection()).in_time().await? else { return Ok(None) };
        let answer = match row.try_get::<Option<i64>, _>(1)? {
            None => None,
            Some(status) => {
                let headers = row.try_get::<Option<String>, _>(2)?.unwrap_or_default();
                Some(KeptAnswer { status, headers, body: row.try_get(3)? })
            }
        };
        Ok(Some(KeyRow { request_digest: row.try_get(0)?, answer }))
    }

    /// Adds a request, whose answer is unknown.
    pub(crate) async fn add_idempotency_key(
        &mut self,
        user: &str,
        key: &str,
        request_digest: &str,
        now: i64,
    ) -> Result<(), DatabaseError> {
        sqlx::query(
            "INSERT INTO idempotency_keys (user_id, key, request_digest, created_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(user.to_owned())
        .bind(key.to_owned())
        .bind(request_digest.to_owned())
        .bind(now)
        .execute(self.connection())
        .in_time()
        .await?;
        Ok(())
    }

    /// Keeps an answer.
    pub(crate) async fn keep_answer(
        &mut self,
        user: &str,
        key: &str,
        answer: &KeptAnswer,
    ) -> Result<(), DatabaseError> {
        sqlx::query(
            "UPDATE idempotency_keys SET status = $3, headers = $4, body = $5 WHERE user_id = $1 AND key = $2",
        )
        .bind(user.to_owned())
        .bind(key.to_owned())
        .bind(answer.status)
        .bind(answer.headers.clone())
        .bind(answer.body.clone())
        .execute(self.connection())
        .in_time()
        .await?;
        Ok(())
    }

    /// Forgets a request, which may be repeated then.
    pub(crate) async fn forget_idempotency_key(
        &mut self,
        user: &str,
        key: &str,
    ) -> Result<(), DatabaseError> {
        let delete = sqlx::query("DELETE FROM idempotency_keys WHERE user_id = $1 AND key = $2");
        delete.bind(user.to_owned()).bind(key.to_owned()).execute(self.connection()).in_time().await?;
        Ok(())
    }

    /// Forgets requests from before this time, in microseconds since 1970.
    pub(crate) async fn forget_idempotency_keys(&mut self, before: i64) -> Result<u64, DatabaseError> {
        let delete = sqlx::query("DELETE FROM idempotency_keys WHERE created_at < $1").bind(before);
        Ok(delete.execute(self.connection()).in_time().await?.rows_affected())
    }
}
