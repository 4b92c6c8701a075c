//! What can go wrong in a request, and what the client is told.

use std::fmt;

use axum::{
    Json,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use larder::LoadFault;

use crate::{database::DatabaseError, exchange::ExchangeError};

/// A request that failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ServiceError {
    /// The exchange refused or failed.
    Exchange(ExchangeError),
    /// The database refused or failed.
    Database(DatabaseError),
    /// A value could not be loaded in time.
    Load(LoadFault),
    /// The request itself is wrong: which parameter, and what would be right.
    BadRequest(String),
    /// There is no such thing.
    NotFound(String),
    /// An invalidation did not reach the remote tier.
    Cache(larder::Error),
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange(error) => error.fmt(f),
            Self::Database(error) => error.fmt(f),
            Self::Load(fault) => fault.fmt(f),
            Self::BadRequest(reason) | Self::NotFound(reason) => f.write_str(reason),
            Self::Cache(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ServiceError {}

impl From<ExchangeError> for ServiceError {
    fn from(error: ExchangeError) -> Self {
        Self::Exchange(error)
    }
}

impl From<DatabaseError> for ServiceError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<LoadFault> for ServiceError {
    fn from(fault: LoadFault) -> Self {
        Self::Load(fault)
    }
}

impl From<larder::Error> for ServiceError {
    fn from(error: larder::Error) -> Self {
        Self::Cache(error)
    }
}

impl ServiceError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Exchange(ExchangeError::NotFound { .. })
            | Self::Database(DatabaseError::UnknownUser { .. })
            | Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Exchange(ExchangeError::BadRequest { .. })
            | Self::BadRequest(_)
            | Self::Database(DatabaseError::BadCandle { .. } | DatabaseError::TooLarge { .. }) => {
                StatusCode::BAD_REQUEST
            }
            Self::Exchange(ExchangeError::RateLimited { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Exchange(_) => StatusCode::BAD_GATEWAY,
            Self::Load(LoadFault::TimedOut) => StatusCode::GATEWAY_TIMEOUT,
            Self::Cache(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Database(_) | Self::Load(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn retry_after(&self) -> Option<(HeaderName, String)> {
        match self {
            Self::Exchange(ExchangeError::RateLimited { retry_after, .. }) => {
                Some((header::RETRY_AFTER, retry_after.as_secs().max(1).to_string()))
            }
            _ => None,
        }
    }
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let body = Json(serde_json::json!({ "error": self.to_string() }));
        match self.retry_after() {
            Some(header) => (self.status(), [header], body).into_response(),
            None => (self.status(), body).into_response(),
        }
    }
}
