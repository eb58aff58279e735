//! Statements that are made of parts. sqlx's own builder writes `?` for parameters, which PostgreSQL does not understand.

use std::fmt::Display;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::error::BoxDynError;
use sqlx::{Any, AnyPool, Arguments, AssertSqlSafe, Encode, Type};

/// A statement that is made of parts.
pub(crate) struct QueryBuilder {
    text: String,
    arguments: AnyArguments,
    count: usize,
    error: Option<BoxDynError>,
}

impl QueryBuilder {
    /// A statement that begins with this.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), arguments: AnyArguments::default(), count: 0, error: None }
    }

    /// Adds text, which no client has chosen.
    pub(crate) fn push(&mut self, text: impl Display) -> &mut Self {
        self.text.push_str(&text.to_string());
        self
    }

    /// Adds a parameter with this value.
    pub(crate) fn push_bind<'t, T: Encode<'t, Any> + Type<Any>>(&mut self, value: T) -> &mut Self {
        self.count += 1;
        self.text.push_str(&format!("${}", self.count));
        if let Err(error) = self.arguments.add(value) {
            self.error = Some(error);
        }
        self
    }

    /// Adds parameters with commas between them.
    pub(crate) fn push_list<'t, T: Encode<'t, Any> + Type<Any>>(
        &mut self,
        values: impl IntoIterator<Item = T>,
    ) -> &mut Self {
        for (index, value) in values.into_iter().enumerate() {
            self.push(if index > 0 { ", " } else { "" }).push_bind(value);
        }
        self
    }

    /// Executes it, and returns all rows.
    pub(crate) async fn fetch_all(self, pool: &AnyPool) -> Result<Vec<AnyRow>, sqlx::Error> {
        match self.error {
            Some(error) => Err(sqlx::Error::Encode(error)),
            None => sqlx::query_with(AssertSqlSafe(self.text), self.arguments).fetch_all(pool).await,
        }
    }
}
