//! Exchange, database and service together, on free ports.

use std::{io, net::SocketAddr, sync::Arc, sync::OnceLock};

use larder::Cache;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::{Service, router};
use crate::{
    database::{Database, SeedPlan},
    exchange::{ClientOptions, Exchange, ExchangeClient, ExchangeOptions},
    market::Market,
};

/// What a stack is made of.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// The service's port on 127.0.0.1; 0 for a free one.
    pub port: u16,
    /// The exchange.
    pub exchange: ExchangeOptions,
    /// Its client.
    pub client: ClientOptions,
    /// What the database is filled with.
    pub plan: SeedPlan,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            port: 0,
            exchange: ExchangeOptions::default(),
            client: ClientOptions::default(),
            plan: SeedPlan::new(300, 200),
        }
    }
}

/// A running service with its exchange and its database.
#[derive(Debug)]
pub struct Stack {
    service: Service,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<io::Result<()>>,
}

impl Stack {
    /// Starts everything in this process.
    ///
    /// # Errors
    /// A port is taken, or the database cannot be filled.
    pub async fn start(
        market: Arc<Market>,
        cache: Cache,
        options: StackOptions,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let database = Database::in_memory().await?;
        database.seed(&market, options.plan).await?;
        let exchange = Arc::new(Exchange::start(Arc::clone(&market), options.exchange).await?);
        let client = ExchangeClient::new(&exchange.url(), options.client)?;
        let service = Service::new(cache, client, database, exchange);
        let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let app = router(service.clone(), metrics()?);
        let server = tokio::spawn(async move {
            axum::serve(listener, app)
                .with_graceful_shutdown(async move {
                    // A sender that was dropped ends the server too.
                    drop(stopped.await);
                })
                .await
        });
        Ok(Self { service, address, stop: Some(stop), server })
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops the service; requests that are under way are answered.
    ///
    /// # Errors
    /// The server had failed.
    pub async fn stop(mut self) -> Result<(), Box<dyn std::error::Error>> {
        if let Some(stop) = self.stop.take() {
            // A server that has ended by itself hears nothing; its result says why.
            if stop.send(()).is_err() {
                tracing::debug!("the server had ended already");
            }
        }
        self.server.await??;
        self.service.database().close().await;
        Ok(())
    }
}

/// The process has one recorder, however many services it runs.
fn metrics() -> Result<PrometheusHandle, Box<dyn std::error::Error>> {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = RECORDER.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = RECORDER.get_or_init(|| recorder.handle()).clone();
    // Another recorder of this process keeps its place; then these figures stay empty.
    drop(metrics::set_global_recorder(recorder));
    Ok(handle)
}
