//! What a fresh database holds: candles of a market, users, preferences, positions.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_pcg::Pcg64Mcg;
use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::{Database, DatabaseError, signed};
use crate::{
    market::Market,
    model::{Position, Side},
    seeded,
};

/// 2024-01-01 00:00 UTC, in seconds: positions are opened in the year after it.
const FIRST_OPENED: i64 = 1_704_067_200;
const MOST_POSITIONS: u64 = 6;

/// How much to put into a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeedPlan {
    /// Candles of each symbol and interval, up to 1,000.
    pub candles: usize,
    /// Users, numbered from 1.
    pub users: u64,
}

impl SeedPlan {
    /// So many candles of each symbol and interval, and so many users.
    #[must_use]
    pub const fn new(candles: usize, users: u64) -> Self {
        Self { candles, users }
    }
}

impl Database {
    /// Fills an empty database with the market's candles and with users who have preferences and positions, all or
    /// nothing. The market's seed determines everything; all revisions are 0.
    ///
    /// # Errors
    /// The database has users already, or SQLite fails.
    pub async fn seed(&self, market: &Market, plan: SeedPlan) -> Result<(), DatabaseError> {
        let mut transaction = self.begin("seed").await?;
        self.count();
        let users: i64 = sqlx::query_scalar("SELECT count(*) FROM users")
            .fetch_one(&mut *transaction)
            .await
            .map_err(DatabaseError::during("count users"))?;
        if users > 0 {
            return Err(DatabaseError::NotEmpty { users: users.unsigned_abs() });
        }
        for symbol in market.symbols() {
            // The market offers what it lists, so neither look-up can miss.
            for interval in market.intervals(symbol).unwrap_or_default() {
                let candles = market.candles(symbol, interval, plan.candles, 0).unwrap_or_default();
                self.store_candles(&mut transaction, symbol, interval, &candles).await?;
            }
        }
        for user in 1..=plan.users {
            self.seed_user(&mut transaction, market, user).await?;
        }
        transaction.commit().await.map_err(DatabaseError::during("seed"))
    }

    async fn seed_user(
        &self,
        connection: &mut SqliteConnection,
        market: &Market,
        user: u64,
    ) -> Result<(), DatabaseError> {
        let mut rng = seeded::rng(market.seed(), &["user", &user.to_string()]);
        self.count();
        sqlx::query("INSERT INTO users (id, name) VALUES (?, ?)")
            .bind(signed("user_id", user)?)
            .bind(format!("trader-{user}"))
            .execute(&mut *connection)
            .await
            .map_err(DatabaseError::during("store a user"))?;
        self.insert_preferences(connection, user, &preferences(&mut rng, market)).await?;
        for number in 0..rng.random_range(1..=MOST_POSITIONS) {
            let id = (user - 1) * MOST_POSITIONS + number + 1;
            let position = position(&mut rng, market, user, id);
            self.insert_position(connection, &position, rng.random_bool(0.75)).await?;
        }
        Ok(())
    }
}

fn preferences(rng: &mut Pcg64Mcg, market: &Market) -> BTreeMap<String, Value> {
    let mut pick = |choices: &[&str]| choices.choose(rng).map_or(Value::Null, |choice| json!(choice));
    let (theme, language, interval) =
        (pick(&["dark", "light"]), pick(&["en", "de", "fr", "ja"]), pick(&["1m", "1h", "1d"]));
    let watched: Vec<&String> = market.symbols().sample(rng, 3).collect();
    let pairs = [
        ("theme", theme),
        ("language", language),
        ("chart_interval", interval),
        ("watchlist", json!(watched)),
        ("confirm_orders", json!(rng.random_bool(0.8))),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn position(rng: &mut Pcg64Mcg, market: &Market, user_id: u64, id: u64) -> Position {
    let symbol = market.symbols().choose(rng).cloned().unwrap_or_default();
    let last = market.ticker(&symbol, 0).map_or(1.0, |ticker| ticker.last);
    let start: DateTime<Utc> = DateTime::from_timestamp(FIRST_OPENED, 0).expect("a date in 2024 is in range");
    Position {
        id,
        user_id,
        side: if rng.random_bool(0.6) { Side::Long } else { Side::Short },
        quantity: f64::from(rng.random_range(1..=1_000_u32)) / 100.0,
        entry_price: (last * rng.random_range(0.8..1.2) * 100.0).round() / 100.0,
        opened: start + TimeDelta::minutes(rng.random_range(0..366 * 24 * 60)),
        symbol,
    }
}
