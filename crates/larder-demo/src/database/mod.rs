//! The service's database: candles, users, preferences and positions in SQLite.
//!
//! In memory the database has one connection in its pool and one outside it that is never used. SQLite drops an in-memory
//! database with its last connection, and a pool may replace its own at any time; the one outside keeps the data. In a file
//! the pool has several connections, and the write-ahead log lets them read while one writes.
//!
//! Every statement is counted, so that a run can say how many a cache has saved.

mod candles;
mod error;
mod seed;
mod users;

use std::{
    fmt,
    path::Path,
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{
    Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::Mutex;

pub use self::{error::DatabaseError, seed::SeedPlan};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS candles (
        symbol TEXT NOT NULL, interval TEXT NOT NULL, time INTEGER NOT NULL,
        open REAL NOT NULL, high REAL NOT NULL, low REAL NOT NULL, close REAL NOT NULL, volume REAL NOT NULL,
        PRIMARY KEY (symbol, interval, time)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS revisions (
        symbol TEXT NOT NULL PRIMARY KEY, revision INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS users (
        id INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS preferences (
        user_id INTEGER NOT NULL REFERENCES users (id), key TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (user_id, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS positions (
        id INTEGER NOT NULL PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id), symbol TEXT NOT NULL,
        side TEXT NOT NULL, quantity REAL NOT NULL, entry_price REAL NOT NULL, opened INTEGER NOT NULL,
        status TEXT NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS positions_of_user ON positions (user_id, status, opened);
";

/// How long a call waits for a free connection, or for another's write.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections to a database in a file.
const CONNECTIONS: u32 = 4;

/// The database. Clones share it.
///
/// A call whose future is dropped has been carried out as a whole or not at all; concurrent writers wait for one another.
#[derive(Clone)]
pub struct Database {
    pool: SqlitePool,
    queries: Arc<AtomicU64>,
    /// Held, never used: see the module's documentation.
    keeper: Option<Arc<Mutex<SqliteConnection>>>,
}

impl Database {
    /// An empty database in memory, gone with its last clone.
    ///
    /// # Errors
    /// SQLite refuses.
    pub async fn in_memory() -> Result<Self, DatabaseError> {
        let options = SqliteConnectOptions::from_str("sqlite::memory:").map_err(DatabaseError::during("open"))?;
        // Nothing is gained by replacing or testing a connection that runs in this process.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .acquire_timeout(PATIENCE)
            .connect_with(options.clone())
            .await
            .map_err(DatabaseError::during("open"))?;
        let keeper = sqlx::ConnectOptions::connect(&options).await.map_err(DatabaseError::during("open"))?;
        Self::with_schema(pool, Some(Arc::new(Mutex::new(keeper)))).await
    }

    /// The database in a file, made if it is not there.
    ///
    /// # Errors
    /// The file cannot be made or opened, or is not a database.
    pub async fn in_file(path: impl AsRef<Path>) -> Result<Self, DatabaseError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(PATIENCE);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .connect_with(options)
            .await
            .map_err(DatabaseError::during("open"))?;
        Self::with_schema(pool, None).await
    }

    async fn with_schema(
        pool: SqlitePool,
        keeper: Option<Arc<Mutex<SqliteConnection>>>,
    ) -> Result<Self, DatabaseError> {
        sqlx::raw_sql(SCHEMA).execute(&pool).await.map_err(DatabaseError::during("make the tables"))?;
        Ok(Self { pool, queries: Arc::default(), keeper })
    }

    /// Statements sent so far by all clones, those of seeding included; begin and commit do not count.
    #[must_use]
    pub fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    /// Closes the connections after the calls under way. Later calls fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn count(&self) {
        self.queries.fetch_add(1, Ordering::Relaxed);
    }

    /// A transaction that writes. It takes the write lock at once: one that read first and wrote later could find that
    /// another has written in between, and fail.
    async fn begin(&self, operation: &'static str) -> Result<Transaction<'static, Sqlite>, DatabaseError> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(DatabaseError::during(operation))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("in_memory", &self.keeper.is_some())
            .field("queries", &self.queries())
            .finish_non_exhaustive()
    }
}

/// SQLite's integers are signed; numbers beyond them cannot be stored.
fn signed(field: &'static str, number: u64) -> Result<i64, DatabaseError> {
    i64::try_from(number).map_err(|_| DatabaseError::TooLarge { field, number })
}

#[cfg(test)]
mod tests {
    use super::Database;

    #[tokio::test]
    async fn data_in_memory_outlives_the_pools_connection() {
        let database = Database::in_memory().await.unwrap();
        sqlx::query("INSERT INTO users (id, name) VALUES (1, 'one')").execute(&database.pool).await.unwrap();
        database.pool.acquire().await.unwrap().close().await.unwrap();
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&database.pool).await.unwrap();
        assert_eq!(count, 1);
    }

    #[tokio::test]
    async fn databases_in_memory_are_separate() {
        let (one, two) = (Database::in_memory().await.unwrap(), Database::in_memory().await.unwrap());
        sqlx::query("INSERT INTO users (id, name) VALUES (1, 'one')").execute(&one.pool).await.unwrap();
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&two.pool).await.unwrap();
        assert_eq!(count, 0);
    }
}
