//! Users, their preferences and positions.

use std::collections::BTreeMap;

use chrono::DateTime;
use serde_json::Value;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{Database, DatabaseError, candles::unsigned, signed};
use crate::model::{Position, Preferences, Side};

impl Database {
    /// What a user has set.
    ///
    /// # Errors
    /// There is no such user, SQLite fails, or a stored value is not JSON.
    pub async fn preferences(&self, user_id: u64) -> Result<Preferences, DatabaseError> {
        self.count();
        // One row without key for a user who has set nothing, no row for no user.
        let rows = sqlx::query(
            "SELECT preferences.key, preferences.value FROM users
             LEFT JOIN preferences ON preferences.user_id = users.id WHERE users.id = ?",
        )
        .bind(signed("user_id", user_id)?)
        .fetch_all(&self.pool)
        .await
        .map_err(DatabaseError::during("read preferences"))?;
        if rows.is_empty() {
            return Err(DatabaseError::UnknownUser { user_id });
        }
        let pairs: Result<Vec<_>, _> = rows.iter().map(preference).collect();
        Ok(Preferences { user_id, values: pairs?.into_iter().flatten().collect() })
    }

    /// Replaces all that a user has set.
    ///
    /// # Errors
    /// There is no such user, or SQLite fails; then nothing has changed.
    pub async fn put_preferences(
        &self,
        user_id: u64,
        values: &BTreeMap<String, Value>,
    ) -> Result<Preferences, DatabaseError> {
        let mut transaction = self.begin("store preferences").await?;
        self.count();
        let known: Option<i64> = sqlx::query_scalar("SELECT id FROM users WHERE id = ?")
            .bind(signed("user_id", user_id)?)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(DatabaseError::during("find a user"))?;
        if known.is_none() {
            return Err(DatabaseError::UnknownUser { user_id });
        }
        self.count();
        sqlx::query("DELETE FROM preferences WHERE user_id = ?")
            .bind(signed("user_id", user_id)?)
            .execute(&mut *transaction)
            .await
            .map_err(DatabaseError::during("store preferences"))?;
        self.insert_preferences(&mut transaction, user_id, values).await?;
        transaction.commit().await.map_err(DatabaseError::during("store preferences"))?;
        Ok(Preferences { user_id, values: values.clone() })
    }

    /// The open positions of a user, the oldest first; none for an unknown user.
    ///
    /// # Errors
    /// SQLite fails, or a row is not a position.
    pub async fn positions(&self, user_id: u64) -> Result<Vec<Position>, DatabaseError> {
        self.count();
        let rows = sqlx::query(
            "SELECT id, user_id, symbol, side, quantity, entry_price, opened FROM positions
             WHERE user_id = ? AND status = 'active' ORDER BY opened, id",
        )
        .bind(signed("user_id", user_id)?)
        .fetch_all(&self.pool)
        .await
        .map_err(DatabaseError::during("read positions"))?;
        rows.iter().map(position).collect()
    }

    /// How many users there are.
    ///
    /// # Errors
    /// SQLite fails.
    pub async fn users(&self) -> Result<u64, DatabaseError> {
        self.count();
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM users")
            .fetch_one(&self.pool)
            .await
            .map_err(DatabaseError::during("count users"))?;
        unsigned("users", count)
    }

    pub(super) async fn insert_preferences(
        &self,
        connection: &mut SqliteConnection,
        user_id: u64,
        values: &BTreeMap<String, Value>,
    ) -> Result<(), DatabaseError> {
        for (key, value) in values {
            self.count();
            sqlx::query("INSERT INTO preferences (user_id, key, value) VALUES (?, ?, ?)")
                .bind(signed("user_id", user_id)?)
                .bind(key)
                .bind(value.to_string())
                .execute(&mut *connection)
                .await
                .map_err(DatabaseError::during("store preferences"))?;
        }
        Ok(())
    }

    /// Stores a position as open or closed.
    pub(super) async fn insert_position(
        &self,
        connection: &mut SqliteConnection,
        position: &Position,
        open: bool,
    ) -> Result<(), DatabaseError> {
        self.count();
        sqlx::query(
            "INSERT INTO positions (id, user_id, symbol, side, quantity, entry_price, opened, status)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(signed("id", position.id)?)
        .bind(signed("user_id", position.user_id)?)
        .bind(&position.symbol)
        .bind(name_of(position.side))
        .bind(position.quantity)
        .bind(position.entry_price)
        .bind(position.opened.timestamp_millis())
        .bind(if open { "active" } else { "closed" })
        .execute(connection)
        .await
        .map_err(DatabaseError::during("store a position"))?;
        Ok(())
    }
}

fn preference(row: &SqliteRow) -> Result<Option<(String, Value)>, DatabaseError> {
    let key: Option<String> = row.try_get(0).map_err(DatabaseError::during("read preferences"))?;
    let value: Option<String> = row.try_get(1).map_err(DatabaseError::during("read preferences"))?;
    let (Some(key), Some(value)) = (key, value) else { return Ok(None) };
    let value = serde_json::from_str(&value)
        .map_err(|error| DatabaseError::BadRow { column: "preferences.value", reason: format!("{key}: {error}") })?;
    Ok(Some((key, value)))
}

fn position(row: &SqliteRow) -> Result<Position, DatabaseError> {
    let failed = || DatabaseError::during("read a position");
    let opened: i64 = row.try_get(6).map_err(failed())?;
    let side: String = row.try_get(3).map_err(failed())?;
    Ok(Position {
        id: unsigned("positions.id", row.try_get(0).map_err(failed())?)?,
        user_id: unsigned("positions.user_id", row.try_get(1).map_err(failed())?)?,
        symbol: row.try_get(2).map_err(failed())?,
        side: side_of(&side)?,
        quantity: row.try_get(4).map_err(failed())?,
        entry_price: row.try_get(5).map_err(failed())?,
        opened: DateTime::from_timestamp_millis(opened).ok_or_else(|| DatabaseError::BadRow {
            column: "positions.opened",
            reason: format!("{opened} ms is no date"),
        })?,
    })
}

const fn name_of(side: Side) -> &'static str {
    match side {
        Side::Long => "long",
        Side::Short => "short",
    }
}

fn side_of(name: &str) -> Result<Side, DatabaseError> {
    match name {
        "long" => Ok(Side::Long),
        "short" => Ok(Side::Short),
        _ => Err(DatabaseError::BadRow { column: "positions.side", reason: format!("{name:?} is not long or short") }),
    }
}
