//! Users.

use jiff::Timestamp;
use mimeo_manager_api::{Role, User};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::in_time::InTime as _;
use super::{Database, DatabaseError, Write, name_of, parse};

impl Database {
    /// Lists all users, by name.
    pub(crate) async fn users(&self) -> Result<Vec<User>, DatabaseError> {
        let rows = sqlx::query("SELECT id, name, role, disabled, created_at FROM users ORDER BY name");
        rows.fetch_all(&self.pool).in_time().await?.iter().map(from_row).collect()
    }

    /// Reads one user by name or id.
    pub(crate) async fn user(&self, word: &str) -> Result<Option<User>, DatabaseError> {
        let query = "SELECT id, name, role, disabled, created_at FROM users WHERE id = $1 OR name = $1";
        let row = sqlx::query(query).bind(word.to_owned()).fetch_optional(&self.pool).in_time().await?;
        row.map(|row| from_row(&row)).transpose()
    }
}

pub(super) fn from_row(row: &AnyRow) -> Result<User, DatabaseError> {
    let id: String = row.try_get(0)?;
    Ok(User {
        name: row.try_get(1)?,
        role: role(&row.try_get::<String, _>(2)?, &id)?,
        disabled: row.try_get::<i64, _>(3)? != 0,
        created_at: timestamp(row.try_get(4)?),
        id,
    })
}

fn role(text: &str, id: &str) -> Result<Role, DatabaseError> {
    parse(&format!("\"{text}\""), "the role of user", id)
}

/// A time that this program has stored; another one would be out of jiff's range.
pub(super) fn timestamp(microseconds: i64) -> Timestamp {
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Write<'_> {
    /// Adds a user.
    ///
    /// # Errors
    /// [`DatabaseError::Duplicate`] if the name is taken.
    pub(crate) async fn add_user(&mut self, user: &User) -> Result<(), DatabaseError> {
        sqlx::query("INSERT INTO users (id, name, role, disabled, created_at) VALUES ($1, $2, $3, $4, $5)")
            .bind(user.id.clone())
            .bind(user.name.clone())
            .bind(name_of(&user.role))
            .bind(i64::from(user.disabled))
            .bind(user.created_at.as_microsecond())
            .execute(self.connection())
            .in_time()
            .await?;
        Ok(())
    }

    /// Stores a user that was changed.
    pub(crate) async fn store_user(&mut self, user: &User) -> Result<(), DatabaseError> {
        self.change_rights();
        sqlx::query("UPDATE users SET role = $2, disabled = $3 WHERE id = $1")
            .bind(user.id.clone())
            .bind(name_of(&user.role))
            .bind(i64::from(user.disabled))
            .execute(self.connection())
            .in_time()
            .await?;
        Ok(())
    }

    /// Removes a user and the user's tokens.
    pub(crate) async fn remove_user(&mut self, id: &str) -> Result<(), DatabaseError> {
        self.change_rights();
        for delete in ["DELETE FROM tokens WHERE user_id = $1", "DELETE FROM users WHERE id = $1"] {
            sqlx::query(delete).bind(id.to_owned()).execute(self.connection()).in_time().await?;
        }
        Ok(())
    }

    /// Counts the users who are admins and not disabled.
    pub(crate) async fn count_admins(&mut self) -> Result<i64, DatabaseError> {
        let query = sqlx::query("SELECT COUNT(*) FROM users WHERE role = 'admin' AND disabled = 0");
        Ok(query.fetch_one(self.connection()).in_time().await?.try_get(0)?)
    }

    /// Returns whether events, machines or users have this owner.
    pub(crate) async fn is_owner_known(&mut self, name: &str) -> Result<bool, DatabaseError> {
        let query = sqlx::query(
            "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM users WHERE name = $1) \
             OR EXISTS (SELECT 1 FROM machines WHERE owner = $1) \
             OR EXISTS (SELECT 1 FROM events WHERE owner = $1) THEN 1 ELSE 0 END AS BIGINT)",
        );
        let row = query.bind(name.to_owned()).fetch_one(self.connection()).in_time().await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    }
}
