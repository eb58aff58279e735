//! The API's document, without a manager that runs.

use mimeo_engine::Engine;

use crate::App;
use crate::database::{Address, Database};
use crate::http::document;
use crate::routes;
use crate::serve::ServeError;
use crate::settings::Limits;

/// Returns the API's document (OpenAPI 3.1) as JSON.
///
/// # Errors
/// If a temporary database cannot be made.
pub async fn api_document(engine: Engine) -> Result<String, ServeError> {
    let dir = tempfile::tempdir().map_err(|source| ServeError::Io { step: "make a directory", source })?;
    let database = Database::open(&Address::Sqlite(dir.path().join("empty.db"))).await?;
    let app = App::new(engine, database, Vec::new(), &Limits::default(), |_| serde_json::Value::Null);
    // Strings, numbers and maps of them: serialization cannot fail.
    let text = document(routes::all(&app)).to_pretty_json().unwrap_or_default();
    app.database().close().await;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests;
