//! The client of the exchange.
//!
//! A refusal (429) is honoured: the client waits as long as the exchange asks, and a little longer each time so that
//! many refused callers do not return at once. Failures to connect and 5xx answers are tried again too, since all requests
//! are reads. The number of tries and the wait for one of them are bounded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::{Response, StatusCode, Url, header::RETRY_AFTER};
use serde::{Deserialize, de::DeserializeOwned};

use super::{ExchangeError, routes::RETRY_AFTER_MS};
use crate::{
    candle::Candle,
    interval::Interval,
    model::{ExchangeInfo, OrderBook, Ticker},
    pace::Pace,
};

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 8 << 20;
/// The longest text of an unexpected answer that goes into an error, in characters.
const LONGEST_QUOTE: usize = 200;

/// How the client behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Time for one try, from connecting to the last byte; 5 s by default.
    pub timeout: Duration,
    /// How often a request is sent at most; 20 by default, at least 1.
    pub tries: u32,
    /// The first pause between tries, doubled each time and varied; 25 ms by default.
    pub backoff: Duration,
    /// The longest wait that the exchange may ask for; if it asks for more, the client gives up at once. 10 s by
    /// default.
    pub longest_wait: Duration,
    /// The time that pauses go by.
    pub pace: Pace,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            tries: 20,
            backoff: Duration::from_millis(25),
            longest_wait: Duration::from_secs(10),
            pace: Pace::real(),
        }
    }
}

impl ClientOptions {
    /// Sets the time for one try.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how often a request is sent at most; 0 counts as 1.
    #[must_use]
    pub fn with_tries(mut self, tries: u32) -> Self {
        self.tries = tries;
        self
    }

    /// Sets the first pause between tries.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the longest wait that the exchange may ask for.
    #[must_use]
    pub fn with_longest_wait(mut self, longest_wait: Duration) -> Self {
        self.longest_wait = longest_wait;
        self
    }

    /// Sets the time to go by.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }
}

/// A client of the exchange. Clones share its connections and counters.
///
/// Dropping the future of a call stops it, with the tries that were still to come; concurrent calls are independent.
#[derive(Clone, Debug)]
pub struct ExchangeClient {
    http: reqwest::Client,
    base: Url,
    options: ClientOptions,
    sent: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl ExchangeClient {
    /// A client of the exchange at `base`, e.g. `http://127.0.0.1:4000`. Connects with the first call.
    ///
    /// # Errors
    /// `base` is not an http address.
    pub fn new(base: &str, options: ClientOptions) -> Result<Self, ExchangeError> {
        let bad = |reason: String| ExchangeError::BadRequest { reason: format!("base address {base:?}: {reason}") };
        let url = Url::parse(base).map_err(|error| bad(error.to_string()))?;
        if url.scheme() != "http" || url.cannot_be_a_base() {
            return Err(bad("it must be of the form http://host:port".to_owned()));
        }
        let http = reqwest::Client::builder().no_proxy().timeout(options.timeout).build();
        let http = http.map_err(|error| bad(error.to_string()))?;
        Ok(Self { http, base: url, options, sent: Arc::default(), refused: Arc::default() })
    }

    /// The newest prices of a symbol.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn ticker(&self, symbol: &str) -> Result<Ticker, ExchangeError> {
        self.get(self.url(&["ticker", symbol], &[])).await
    }

    /// Open orders of a symbol, `depth` levels a side, from 1 to 100.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn order_book(&self, symbol: &str, depth: usize) -> Result<OrderBook, ExchangeError> {
        self.get(self.url(&["orderbook", symbol], &[("depth", &depth.to_string())])).await
    }

    /// What can be traded.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn exchange_info(&self) -> Result<ExchangeInfo, ExchangeError> {
        self.get(self.url(&["exchange-info"], &[])).await
    }

    /// The newest candles of a symbol, the oldest first; `limit` from 1 to 1,000.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub async fn candles(&self, symbol: &str, interval: Interval, limit: usize) -> Result<Vec<Candle>, ExchangeError> {
        let query = [("interval", interval.as_str()), ("limit", &limit.to_string())];
        self.get(self.url(&["candles", symbol], &query)).await
    }

    /// Requests sent, tries included.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Refusals (429) received.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn url(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("checked in new: the base can hold a path").pop_if_empty().extend(segments);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, ExchangeError> {
        let options = &self.options;
        let retries = usize::try_from(options.tries.saturating_sub(1)).unwrap_or(usize::MAX);
        let backoff = ExponentialBuilder::new()
            .with_min_delay(options.backoff)
            .with_max_delay(Duration::from_secs(1))
            .with_max_times(retries)
            .with_jitter();
        let tries = AtomicU32::new(0);
        let pace = options.pace.clone();
        let body = (|| async {
            tries.fetch_add(1, Ordering::Relaxed);
            self.once(url.clone()).await
        })
        .retry(backoff)
        .sleep(move |pause| {
            let pace = pace.clone();
            async move { pace.sleep(pause).await }
        })
        .when(ExchangeError::is_transient)
        .adjust(|error, pause| wait(error, pause, options.longest_wait))
        .notify(|error, pause| tracing::debug!(%error, ?pause, "the exchange is asked again"))
        .await
        .map_err(|error| error.after(tries.load(Ordering::Relaxed)))?;
        serde_json::from_slice(&body)
            .map_err(|error| ExchangeError::BadAnswer { reason: format!("{}: {error}", url.path()) })
    }

    /// Sends the request once and reads a successful answer.
    async fn once(&self, url: Url) -> Result<Vec<u8>, ExchangeError> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let response = self.http.get(url).send().await.map_err(|error| unavailable(&error))?;
        let status = response.status();
        if status.is_success() {
            return read(response).await;
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(ExchangeError::RateLimited { retry_after: retry_after(&response), tries: 1 });
        }
        let reason = message(&read(response).await?);
        Err(match status {
            StatusCode::NOT_FOUND => ExchangeError::NotFound { reason },
            _ if status.is_client_error() => ExchangeError::BadRequest { reason },
            _ if status.is_server_error() => {
                ExchangeError::Unavailable { reason: format!("{status}: {reason}"), tries: 1 }
            }
            _ => ExchangeError::BadAnswer { reason: format!("unexpected status {status}") },
        })
    }
}

/// The pause before the next try; `None` if there is to be none.
fn wait(error: &ExchangeError, pause: Option<Duration>, longest: Duration) -> Option<Duration> {
    let pause = pause?;
    match error {
        ExchangeError::RateLimited { retry_after, .. } if *retry_after > longest => None,
        ExchangeError::RateLimited { retry_after, .. } => Some(*retry_after + pause),
        _ => Some(pause),
    }
}

/// What the exchange asks to wait; one second if it does not say.
fn retry_after(response: &Response) -> Duration {
    let number = |name: &str| response.headers().get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    number(RETRY_AFTER_MS)
        .map(Duration::from_millis)
        .or_else(|| number(RETRY_AFTER.as_str()).map(Duration::from_secs))
        .unwrap_or(Duration::from_secs(1))
}

async fn read(mut response: Response) -> Result<Vec<u8>, ExchangeError> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| unavailable(&error))? {
        if body.len() + part.len() > LONGEST_ANSWER {
            return Err(ExchangeError::BadAnswer { reason: format!("it is longer than {LONGEST_ANSWER} bytes") });
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn unavailable(error: &reqwest::Error) -> ExchangeError {
    let cause = std::iter::successors(std::error::Error::source(error), |cause| cause.source()).last();
    let reason = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    ExchangeError::Unavailable { reason, tries: 1 }
}

#[derive(Deserialize)]
struct Failure {
    error: FailureText,
}

#[derive(Deserialize)]
struct FailureText {
    message: String,
}

/// The exchange's words, or the start of what it sent instead.
fn message(body: &[u8]) -> String {
    match serde_json::from_slice::<Failure>(body) {
        Ok(failure) => failure.error.message,
        Err(_) => String::from_utf8_lossy(body).chars().take(LONGEST_QUOTE).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ClientOptions, ExchangeClient, message, wait};
    use crate::exchange::ExchangeError;

    #[test]
    fn the_exchanges_wish_is_added_to_the_pause_unless_it_is_too_long() {
        let limited = |seconds| ExchangeError::RateLimited { retry_after: Duration::from_secs(seconds), tries: 1 };
        let pause = Some(Duration::from_millis(5));
        assert_eq!(wait(&limited(2), pause, Duration::from_secs(10)), Some(Duration::from_millis(2_005)));
        assert_eq!(wait(&limited(11), pause, Duration::from_secs(10)), None);
        assert_eq!(wait(&limited(2), None, Duration::from_secs(10)), None);
    }

    #[test]
    fn symbols_are_escaped_in_paths() {
        let client = ExchangeClient::new("http://127.0.0.1:1/base/", ClientOptions::default()).unwrap();
        let url = client.url(&["ticker", "a/b?c"], &[("depth", "5")]);
        assert_eq!(url.as_str(), "http://127.0.0.1:1/base/ticker/a%2Fb%3Fc?depth=5");
    }

    #[test]
    fn a_base_that_is_no_http_address_is_refused() {
        for bad in ["", "127.0.0.1:80", "mailto:a@b", "ftp://host"] {
            let error = ExchangeClient::new(bad, ClientOptions::default()).unwrap_err();
            assert!(error.to_string().contains(&format!("base address {bad:?}")), "{error}");
        }
    }

    #[test]
    fn a_message_that_is_not_json_is_quoted_in_part() {
        assert_eq!(message(br#"{"error":{"code":"x","message":"words"}}"#), "words");
        assert_eq!(message("ä".repeat(500).as_bytes()).chars().count(), 200);
    }
}
