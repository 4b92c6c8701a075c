//! Candles and revisions.

use chrono::DateTime;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{Database, DatabaseError};
use crate::{
    candle::{Candle, check_all},
    interval::Interval,
};

/// Rows of one statement: eight values each, of the 32,766 that SQLite takes.
const ROWS_A_STATEMENT: usize = 1_000;

impl Database {
    /// The newest `count` candles, the oldest first; fewer if there are not as many, none for a symbol without candles.
    ///
    /// # Errors
    /// SQLite fails, or a row is not a candle.
    pub async fn latest_candles(
        &self,
        symbol: &str,
        interval: Interval,
        count: usize,
    ) -> Result<Vec<Candle>, DatabaseError> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.count();
        let rows = sqlx::query(
            "SELECT time, open, high, low, close, volume FROM candles
             WHERE symbol = ? AND interval = ? ORDER BY time DESC LIMIT ?",
        )
        .bind(symbol)
        .bind(interval.as_str())
        .bind(count)
        .fetch_all(&self.pool)
        .await
        .map_err(DatabaseError::during("read candles"))?;
        rows.iter().rev().map(candle).collect()
    }

    /// Stores candles, in place of those of the same time, and moves the symbol's revision on by one, both or neither.
    /// Returns the new revision.
    ///
    /// # Errors
    /// A candle is not sound or they are not in order, and nothing is stored; or SQLite fails.
    pub async fn upsert_candles(
        &self,
        symbol: &str,
        interval: Interval,
        candles: &[Candle],
    ) -> Result<u64, DatabaseError> {
        let mut transaction = self.begin("store candles").await?;
        self.store_candles(&mut transaction, symbol, interval, candles).await?;
        self.count();
        let revision: i64 = sqlx::query_scalar(
            "INSERT INTO revisions (symbol, revision) VALUES (?, 1)
             ON CONFLICT (symbol) DO UPDATE SET revision = revision + 1 RETURNING revision",
        )
        .bind(symbol)
        .fetch_one(&mut *transaction)
        .await
        .map_err(DatabaseError::during("move a revision"))?;
        transaction.commit().await.map_err(DatabaseError::during("store candles"))?;
        unsigned("revisions.revision", revision)
    }

    /// How often candles of the symbol were stored since it was seeded; 0 for a symbol without candles.
    ///
    /// # Errors
    /// SQLite fails.
    pub async fn revision(&self, symbol: &str) -> Result<u64, DatabaseError> {
        self.count();
        let revision: Option<i64> = sqlx::query_scalar("SELECT revision FROM revisions WHERE symbol = ?")
            .bind(symbol)
            .fetch_optional(&self.pool)
            .await
            .map_err(DatabaseError::during("read a revision"))?;
        unsigned("revisions.revision", revision.unwrap_or(0))
    }

    pub(super) async fn store_candles(
        &self,
        connection: &mut SqliteConnection,
        symbol: &str,
        interval: Interval,
        candles: &[Candle],
    ) -> Result<(), DatabaseError> {
        check_all(candles).map_err(|(index, fault)| DatabaseError::BadCandle { index, fault })?;
        for part in candles.chunks(ROWS_A_STATEMENT) {
            let mut statement: QueryBuilder<Sqlite> =
                QueryBuilder::new("INSERT INTO candles (symbol, interval, time, open, high, low, close, volume) ");
            statement.push_values(part, |mut row, candle| {
                row.push_bind(symbol)
                    .push_bind(interval.as_str())
                    .push_bind(candle.time.timestamp_millis())
                    .push_bind(candle.open)
                    .push_bind(candle.high)
                    .push_bind(candle.low)
                    .push_bind(candle.close)
                    .push_bind(candle.volume);
            });
            statement.push(
                " ON CONFLICT (symbol, interval, time) DO UPDATE SET open = excluded.open, high = excluded.high,
                  low = excluded.low, close = excluded.close, volume = excluded.volume",
            );
            self.count();
            statement.build().execute(&mut *connection).await.map_err(DatabaseError::during("store candles"))?;
        }
        Ok(())
    }
}

fn candle(row: &SqliteRow) -> Result<Candle, DatabaseError> {
    let number = |column: usize| row.try_get::<f64, _>(column).map_err(DatabaseError::during("read a candle"));
    let millis: i64 = row.try_get(0).map_err(DatabaseError::during("read a candle"))?;
    let out_of_range = || DatabaseError::BadRow { column: "candles.time", reason: format!("{millis} ms is no date") };
    Ok(Candle {
        time: DateTime::from_timestamp_millis(millis).ok_or_else(out_of_range)?,
        open: number(1)?,
        high: number(2)?,
        low: number(3)?,
        close: number(4)?,
        volume: number(5)?,
    })
}

pub(super) fn unsigned(column: &'static str, number: i64) -> Result<u64, DatabaseError> {
    u64::try_from(number).map_err(|_| DatabaseError::BadRow { column, reason: format!("{number} is negative") })
}

#[cfg(test)]
mod tests {
    use super::unsigned;
    use crate::database::signed;

    #[test]
    fn numbers_that_sqlite_cannot_hold_are_named() {
        let error = signed("user_id", u64::MAX).unwrap_err().to_string();
        assert_eq!(error, "user_id is 18446744073709551615; it must be at most 9223372036854775807");
        assert!(unsigned("revisions.revision", -1).is_err());
    }
}
