//! Why the database gave no answer.

use std::{error::Error, fmt, sync::Arc};

use crate::candle::CandleFault;

/// Why the database gave no answer. Clones share the cause.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DatabaseError {
    /// SQLite failed.
    Sqlite {
        /// What was being done.
        operation: &'static str,
        /// SQLite's or the pool's error.
        cause: Arc<sqlx::Error>,
    },
    /// There is no such user.
    UnknownUser {
        /// The number that was asked for.
        user_id: u64,
    },
    /// A number does not fit into SQLite's signed 64 bits.
    TooLarge {
        /// Name of the field.
        field: &'static str,
        /// The number.
        number: u64,
    },
    /// A candle to be stored is not sound.
    BadCandle {
        /// Which of those given, counted from 0.
        index: usize,
        /// What is wrong with it.
        fault: CandleFault,
    },
    /// What is stored cannot be read back.
    BadRow {
        /// Table and column.
        column: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A database to be seeded holds users already.
    NotEmpty {
        /// How many.
        users: u64,
    },
}

impl DatabaseError {
    pub(super) fn during(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |cause| Self::Sqlite { operation, cause: Arc::new(cause) }
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { operation, cause } => write!(f, "the database failed to {operation}: {cause}"),
            Self::UnknownUser { user_id } => write!(f, "there is no user {user_id}"),
            Self::TooLarge { field, number } => write!(f, "{field} is {number}; it must be at most {}", i64::MAX),
            Self::BadCandle { index, fault } => write!(f, "candle {index}: {fault}"),
            Self::BadRow { column, reason } => write!(f, "{column} holds what it cannot: {reason}"),
            Self::NotEmpty { users } => write!(f, "the database has {users} users already; seed an empty one"),
        }
    }
}

impl Error for DatabaseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Sqlite { cause, .. } => Some(cause.as_ref()),
            Self::BadCandle { fault, .. } => Some(fault),
            _ => None,
        }
    }
}
