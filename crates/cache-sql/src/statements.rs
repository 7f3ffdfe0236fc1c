//! Statements that both databases understand.

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe};

use crate::SqlError;

/// Most values of one statement: SQLite takes 32,766, PostgreSQL 65,535.
const VALUES_MAX: usize = 8_000;
/// Statements for more rows than this are not kept prepared: there would be one for each number.
const ROWS_PREPARED_MAX: usize = 4;

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `BIGINT`.
    Int(i64),
    /// `TEXT`.
    Text(String),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u64> for Value {
    /// Beyond what the column holds it is the largest it does.
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}

impl From<&str> for Value {
    /// PostgreSQL refuses NUL in texts; it becomes another control character, so that a search finds nothing.
    fn from(value: &str) -> Self {
        Self::Text(if value.contains('\0') { value.replace('\0', "\u{1}") } else { value.to_owned() })
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        value.as_str().into()
    }
}

/// A statement with its values in the place of `$1`, `$2` …
///
/// The statement itself must be text of the program, never of a user.
pub fn query<V: Into<Value>>(
    statement: impl Into<String>,
    values: impl IntoIterator<Item = V>,
) -> Query<'static, Any, AnyArguments> {
    let query = sqlx::query(AssertSqlSafe(statement.into()));
    values.into_iter().fold(query, |query, value| match value.into() {
        Value::Int(int) => query.bind(int),
        Value::Text(text) => query.bind(text),
    })
}

/// A table, as far as storing rows needs to know it.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// How many of the columns, from the first on, tell one row from the others.
    pub key: usize,
    /// Its columns, those of the key first.
    pub columns: &'static [&'static str],
}

/// Stores rows, each instead of the one with its key, if there is one.
///
/// # Errors
/// [`SqlError`].
pub async fn upsert(
    connection: &mut AnyConnection,
    table: &Table,
    rows: Vec<Vec<Value>>,
) -> Result<(), SqlError> {
    let (key, rest) = table.columns.split_at(table.key);
    let set: Vec<String> = rest.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        let part: Vec<Vec<Value>> = rows.by_ref().take(VALUES_MAX / table.columns.len()).collect();
        let tuples: Vec<String> =
            (0..part.len()).map(|row| placeholders(row * table.columns.len(), table.columns.len())).collect();
        let statement = format!(
            "INSERT INTO {} ({}) VALUES {} ON CONFLICT ({}) DO UPDATE SET {}",
            table.name,
            table.columns.join(", "),
            tuples.join(", "),
            key.join(", "),
            set.join(", ")
        );
        let prepared = part.len() <= ROWS_PREPARED_MAX;
        query(statement, part.into_iter().flatten()).persistent(prepared).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Deletes the rows whose column has one of these values; returns how many.
///
/// # Errors
/// [`SqlError`].
pub async fn delete_where_in(
    connection: &mut AnyConnection,
    table: &str,
    column: &str,
    values: Vec<Value>,
) -> Result<u64, SqlError> {
    let mut deleted = 0;
    for part in values.chunks(VALUES_MAX) {
        let statement = format!("DELETE FROM {table} WHERE {column} IN {}", placeholders(0, part.len()));
        let prepared = part.len() <= ROWS_PREPARED_MAX;
        let query = query(statement, part.iter().cloned()).persistent(prepared);
        deleted += query.execute(&mut *connection).await?.rows_affected();
    }
    Ok(deleted)
}

/// `($1, $2, …)`, counted on from a number.
fn placeholders(after: usize, count: usize) -> String {
    let numbers: Vec<String> = (after + 1..=after + count).map(|number| format!("${number}")).collect();
    format!("({})", numbers.join(", "))
}
