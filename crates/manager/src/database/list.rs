//! What lists of machines and of snapshots have in common: labels, the order and the pages.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::QueryBuilder;

/// The order of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sort {
    /// By name instead of by age.
    pub(crate) by_name: bool,
    /// The last first.
    pub(crate) descending: bool,
}

/// The place in a list after which the next page begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct After {
    /// The sort key: a name, or a time in microseconds.
    pub(crate) key: String,
    /// The id, which decides between equal keys.
    pub(crate) id: String,
}

impl After {
    /// The place of a resource in a list of this order.
    pub(super) fn new(sort: Sort, name: &str, created: Timestamp, id: &str) -> Self {
        let key = if sort.by_name { name.to_owned() } else { created.as_microsecond().to_string() };
        Self { key, id: id.to_owned() }
    }
}

/// A table that is listed.
pub(super) struct List {
    /// Its name in the statement.
    pub(super) table: &'static str,
    /// The column of the resource's name.
    pub(super) name: &'static str,
    /// The resource, as in the name of the table of its labels.
    pub(super) resource: &'static str,
}

impl List {
    /// Lists only resources with these labels, with this value if there is one.
    pub(super) fn push_labels(&self, query: &mut QueryBuilder, labels: &[(String, Option<String>)]) {
        let Self { table, resource, .. } = self;
        for (key, value) in labels {
            // An expression in place of the id makes SQLite read the label's resources once and walk the list in its
            // order. By the id's own index it would read and sort all resources that have the label.
            query.push(format!(
                " AND {table}.id || '' IN (SELECT l.{resource} FROM {resource}_labels l WHERE l.key = "
            ));
            query.push_bind(key.clone());
            if let Some(value) = value {
                query.push(" AND l.value = ").push_bind(value.clone());
            }
            query.push(")");
        }
    }

    /// Lists one page.
    pub(super) fn push_page(&self, query: &mut QueryBuilder, sort: Sort, after: Option<&After>, limit: i64) {
        let Self { table, name, .. } = self;
        let column = if sort.by_name { name } else { "created_at" };
        let (sign, order) = if sort.descending { ("<", "DESC") } else { (">", "ASC") };
        if let Some(After { key, id }) = after {
            query.push(format!(" AND ({table}.{column}, {table}.id) {sign} ("));
            match key.parse::<i64>() {
                Ok(time) if !sort.by_name => query.push_bind(time),
                _ => query.push_bind(key.clone()),
            };
            query.push(", ").push_bind(id.clone()).push(")");
        }
        query.push(format!(" ORDER BY {table}.{column} {order}, {table}.id {order} LIMIT ")).push_bind(limit);
    }
}

/// The end of the ids that begin with a word: the word with a letter after the last digit. Of digits and lower-case letters all
/// collations have the same order. No id begins with another word: the range is empty.
pub(super) fn end_of_ids(word: &str) -> String {
    let is_digits = word.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_digits { format!("{word}g") } else { word.to_owned() }
}
