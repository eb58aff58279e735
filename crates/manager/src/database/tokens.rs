//! Tokens. Their secrets are random, so a plain digest protects them.

use mimeo_manager_api::{Scope, Token, User};
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::in_time::InTime as _;
use super::users::timestamp;
use super::{Database, DatabaseError, Write, events, json, parse};

/// A token and its user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenRow {
    /// What the API shows.
    pub(crate) item: Token,
    /// The user.
    pub(crate) user: User,
}

/// The digest by which a token is found.
fn hash_of_secret(secret: &str) -> String {
    events::hex(&Sha256::digest(secret))
}

const SELECT: &str = "SELECT u.id, u.name, u.role, u.disabled, u.created_at, t.id, t.name, t.scopes, t.machine, t.created_at, \
     t.expires_at, t.last_used_at FROM tokens t JOIN users u ON u.id = t.user_id";

impl Database {
    /// Finds the token with this secret, also an expired one.
    pub(crate) async fn token_by_secret(&self, secret: &str) -> Result<Option<TokenRow>, DatabaseError> {
        let hash = hash_of_secret(secret);
        if let Some(row) = self.token_cache.get(&hash) {
            return Ok(Some(row));
        }
        let changes = self.token_cache.changes();
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} WHERE t.hash = $1")));
        let row = query.bind(hash.clone()).fetch_optional(&self.pool).in_time().await?;
        let row = row.map(|row| from_row(&row)).transpose()?;
        if let Some(row) = &row {
            self.token_cache.insert(hash, row.clone(), changes);
        }
        Ok(row)
    }

    /// Reads one token.
    pub(crate) async fn token(&self, id: &str) -> Result<Option<TokenRow>, DatabaseError> {
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("{SELECT} WHERE t.id = $1")));
        let row = query.bind(id.to_owned()).fetch_optional(&self.pool).in_time().await?;
        row.map(|row| from_row(&row)).transpose()
    }

    /// Lists the tokens of a user, or all, by age.
    pub(crate) async fn tokens(&self, user: Option<&str>) -> Result<Vec<TokenRow>, DatabaseError> {
        let text = format!("{SELECT} WHERE $1 = '' OR u.id = $1 ORDER BY t.created_at, t.id");
        let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(user.unwrap_or_default().to_owned());
        query.fetch_all(&self.pool).in_time().await?.iter().map(from_row).collect()
    }
}

fn from_row(row: &AnyRow) -> Result<TokenRow, DatabaseError> {
    let user = super::users::from_row(row)?;
    let id: String = row.try_get(5)?;
    let scopes: String = row.try_get(7)?;
    let scopes: Vec<Scope> = parse(&scopes, "the scopes of token", &id)?;
    let item = Token {
        name: row.try_get(6)?,
        user: user.name.clone(),
        scopes,
        machine: row.try_get(8)?,
        created_at: timestamp(row.try_get(9)?),
        expires_at: row.try_get::<Option<i64>, _>(10)?.map(timestamp),
        last_used_at: row.try_get::<Option<i64>, _>(11)?.map(timestamp),
        id,
    };
    Ok(TokenRow { item, user })
}

impl Write<'_> {
    /// Adds a token with this secret.
    pub(crate) async fn add_token(&mut self, row: &TokenRow, secret: &str) -> Result<(), DatabaseError> {
        let item = &row.item;
        sqlx::query(
            "INSERT INTO tokens (id, user_id, name, hash, scopes, machine, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(item.id.clone())
        .bind(row.user.id.clone())
        .bind(item.name.clone())
        .bind(hash_of_secret(secret))
        .bind(json(&item.scopes))
        .bind(item.machine.clone())
        .bind(item.created_at.as_microsecond())
        .bind(item.expires_at.map(|time| time.as_microsecond()))
        .execute(self.connection())
        .in_time()
        .await?;
        Ok(())
    }

    /// Records that a token was used.
    pub(crate) async fn mark_token_used(&mut self, id: &str, microseconds: i64) -> Result<(), DatabaseError> {
        let update = sqlx::query("UPDATE tokens SET last_used_at = $2 WHERE id = $1");
        update.bind(id.to_owned()).bind(microseconds).execute(self.connection()).in_time().await?;
        Ok(())
    }

    /// Removes a token.
    pub(crate) async fn remove_token(&mut self, id: &str) -> Result<(), DatabaseError> {
        self.change_rights();
        let delete = sqlx::query("DELETE FROM tokens WHERE id = $1").bind(id.to_owned());
        delete.execute(self.connection()).in_time().await?;
        Ok(())
    }

    /// Removes the tokens that may be used only for this machine: no request with one goes on for long.
    pub(crate) async fn remove_tokens_of_machine(&mut self, machine: &str) -> Result<(), DatabaseError> {
        self.change_tokens();
        let delete = sqlx::query("DELETE FROM tokens WHERE machine = $1").bind(machine.to_owned());
        delete.execute(self.connection()).in_time().await?;
        Ok(())
    }
}
