//! The demo's command line: serves, or makes a smoke run.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use larder::Cache;
use larder_demo::{
    candles,
    market::Market,
    service::{Stack, StackOptions},
    smoke::{self, SmokeOptions},
};
#[cfg(unix)]
use larder_demo::{
    smoke::Outage,
    topology::{Servers, Topology},
};

type Failure = Box<dyn std::error::Error>;

#[cfg(unix)]
type OwnServers = Outage;
/// Nowhere but on Unix can servers be started.
#[cfg(not(unix))]
type OwnServers = std::convert::Infallible;

/// A small trading service with the Larder cache in front of its exchange and its database.
///
/// Without options it serves on a port of 127.0.0.1 until Ctrl-C. Nothing needs to be installed: the cache lives in the
/// process unless --redis names a server.
#[derive(Debug, Parser)]
#[command(name = "larder-demo", version)]
#[command(group = clap::ArgGroup::new("driven").args(DRIVEN).multiple(true))]
struct Arguments {
    /// Port of the service on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// What prices, users and requests are drawn from
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Candles of a CSV file (date, open, high, low, close, volume) for the first symbol
    #[arg(long, value_name = "FILE")]
    candles: Option<PathBuf>,
    /// A remote tier, such as `redis://127.0.0.1:6379`
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Start Redis servers laid out like this for the remote tier, and stop them at the end; with --smoke, let them fail in
    /// the middle
    #[cfg(unix)]
    #[arg(long, value_name = "TOPOLOGY", value_enum, conflicts_with = "redis")]
    topology: Option<Topology>,
    /// Make a smoke run on a Redis server of its own, which is killed and started again in the middle: no request may fail
    #[cfg(unix)]
    #[arg(long, conflicts_with_all = ["redis", "topology"])]
    chaos: bool,
    /// Drive a mix of requests with the cache off and on, compare the answers, print a table, and end
    #[arg(long)]
    smoke: bool,
    /// Length of each of the two phases of the smoke run
    #[arg(long, default_value_t = 4, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Print the smoke run's report as JSON
    #[arg(long, requires = "driven")]
    json: bool,
    /// Serve without the cache
    #[arg(long, conflicts_with_all = NEEDS_CACHE)]
    no_cache: bool,
}

/// What asks for a smoke run.
#[cfg(unix)]
const DRIVEN: [&str; 2] = ["smoke", "chaos"];
#[cfg(not(unix))]
const DRIVEN: [&str; 1] = ["smoke"];

/// What makes no sense without the cache.
#[cfg(unix)]
const NEEDS_CACHE: [&str; 4] = ["smoke", "chaos", "redis", "topology"];
#[cfg(not(unix))]
const NEEDS_CACHE: [&str; 2] = ["smoke", "redis"];

impl Arguments {
    /// Whether requests are driven through the service, rather than waited for.
    fn is_driven(&self) -> bool {
        #[cfg(unix)]
        let chaos = self.chaos;
        #[cfg(not(unix))]
        let chaos = false;
        self.smoke || chaos
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "larder=warn".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say_error(&format!("larder-demo: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let market = Arc::new(market(arguments)?);
    let servers = servers(arguments).await?;
    if arguments.is_driven() {
        return smoke(arguments, market, servers).await;
    }
    serve(arguments, market, remote(arguments, servers.as_ref())).await.map(|()| true)
}

/// The demo's own Redis servers, where they were asked for.
#[cfg(unix)]
async fn servers(arguments: &Arguments) -> Result<Option<OwnServers>, Failure> {
    let topology = if arguments.chaos { Some(Topology::Standalone) } else { arguments.topology };
    let Some(topology) = topology else { return Ok(None) };
    if !arguments.json {
        say_error(&format!("starting Redis servers: {topology}"));
    }
    let servers = tokio::task::spawn_blocking(move || Servers::start(topology)).await??;
    Ok(Some(Outage::new(topology, servers)))
}

#[cfg(not(unix))]
async fn servers(_: &Arguments) -> Result<Option<OwnServers>, Failure> {
    Ok(None)
}

/// The URL of the remote tier.
#[cfg(unix)]
fn remote(arguments: &Arguments, servers: Option<&OwnServers>) -> Option<String> {
    servers.map(Outage::url).or_else(|| arguments.redis.clone())
}

#[cfg(not(unix))]
fn remote(arguments: &Arguments, _: Option<&OwnServers>) -> Option<String> {
    arguments.redis.clone()
}

/// The generated market, with the file's candles in first place.
fn market(arguments: &Arguments) -> Result<Market, Failure> {
    let market = Market::generated(arguments.seed);
    let Some(file) = &arguments.candles else { return Ok(market) };
    let candles = candles::load(file)?;
    Ok(market.with_candles(symbol_of(file), &candles)?)
}

/// A symbol is made of capital letters and digits.
fn symbol_of(file: &std::path::Path) -> String {
    let name = file.file_stem().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
    let symbol: String = name.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    if symbol.is_empty() { "FILE".to_owned() } else { symbol }
}

async fn cache(arguments: &Arguments, namespace: &str, remote: Option<&str>) -> Result<Cache, Failure> {
    if arguments.no_cache {
        return Ok(Cache::disabled());
    }
    let mut builder =
        Cache::builder().namespace(namespace).near_bytes(128 << 20).warn_below_hit_rate(smoke::NEEDED_HIT_RATE);
    if let Some(url) = remote {
        builder = builder.redis(url);
    }
    Ok(builder.build().await?)
}

async fn serve(arguments: &Arguments, market: Arc<Market>, remote: Option<String>) -> Result<(), Failure> {
    let namespace = format!("larder-demo:{}", arguments.seed);
    let cache = cache(arguments, &namespace, remote.as_deref()).await?;
    let options = StackOptions { port: arguments.port, ..StackOptions::default() };
    let stack = Stack::start(market, cache, options).await.map_err(|error| {
        format!("the service cannot start on port {}: {error}; choose another with --port", arguments.port)
    })?;
    say(&format!("the service listens on {0}/ , the exchange on {1}/", stack.url(), stack.service().exchange().url()));
    let tier = remote.as_deref().map_or("in this process", |_| "in this process and in Redis");
    say(&format!("the cache lives {}; Ctrl-C ends", if arguments.no_cache { "nowhere (--no-cache)" } else { tier }));
    tokio::signal::ctrl_c().await?;
    say("finishing what is under way");
    stack.stop().await
}

async fn smoke(arguments: &Arguments, market: Arc<Market>, servers: Option<OwnServers>) -> Result<bool, Failure> {
    // A namespace of its own: what an earlier run with other candles left behind must not be found.
    let namespace = format!("larder-smoke:{:x}", std::process::id());
    let remote = remote(arguments, servers.as_ref());
    let cache = cache(arguments, &namespace, remote.as_deref()).await?;
    let mut options = SmokeOptions::new(arguments.seed, Duration::from_secs(arguments.seconds));
    options.progress = !arguments.json;
    #[cfg(unix)]
    {
        options.outage = servers;
    }
    let report = smoke::run(market, cache.clone(), &options).await;
    let report = report?;
    if arguments.redis.is_some() {
        cache.clear().await?;
    }
    if arguments.json {
        say(&serde_json::to_string_pretty(&report.to_json())?);
    } else {
        say(&report.to_string());
    }
    Ok(report.is_passed())
}

#[expect(clippy::print_stdout, reason = "this is what the program says")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "this is why the program ends")]
fn say_error(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[cfg(unix)]
    #[test]
    fn chaos_is_a_smoke_run_on_a_server_of_its_own() {
        let parse = |args: &[&str]| Arguments::try_parse_from(["larder-demo"].iter().chain(args));
        let arguments = parse(&["--chaos", "--json"]).unwrap();
        assert!(arguments.is_driven() && arguments.json);
        assert!(!parse(&[]).unwrap().is_driven());
        for wrong in [&["--chaos", "--no-cache"][..], &["--chaos", "--redis", "redis://h"], &["--json"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
