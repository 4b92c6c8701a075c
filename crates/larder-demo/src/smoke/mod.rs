//! The smoke run: the same requests with the cache off and on, over real HTTP, and what they show.

mod drive;
#[cfg(unix)]
mod outage;
mod report;
mod stampede;

use std::{collections::HashMap, sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use larder::Cache;
use larder_warming::{Warmed, Warmer};
use serde_json::Value;

use self::drive::{Driven, Watch, drive, fetch};
#[cfg(unix)]
pub use self::outage::{Outage, OutageReport};
pub use self::{
    report::{FunctionRate, Phase, Report},
    stampede::StampedeReport,
};
use crate::{
    database::SeedPlan,
    exchange::{ExchangeOptions, RequestLimit},
    market::Market,
    service::{Stack, StackOptions},
    workload::{Request, Workload, WorkloadOptions},
};

/// The hit rate that a run must reach.
pub const NEEDED_HIT_RATE: f64 = 0.8;

/// Users in the database and in the mix.
const USERS: u64 = 100;

/// Requests drawn at most; more than can be sent in any phase.
const DRAWN: usize = 400_000;

type Failure = Box<dyn std::error::Error>;

/// How a run is made.
#[derive(Debug, Clone)]
pub struct SmokeOptions {
    /// What everything is drawn from.
    pub seed: u64,
    /// How long each of the two phases takes.
    pub phase: Duration,
    /// Clients that send requests side by side.
    pub clients: usize,
    /// The exchange; its limit is kept by both phases.
    pub exchange: ExchangeOptions,
    /// Whether progress is shown on standard error.
    pub progress: bool,
    /// What is done to the servers in the phase with the cache on, which lasts until that is over.
    #[cfg(unix)]
    pub outage: Option<Outage>,
}

impl SmokeOptions {
    /// A run of two phases of this length.
    ///
    /// # Panics
    /// Never: the limits are not zero.
    #[must_use]
    pub fn new(seed: u64, phase: Duration) -> Self {
        let per_second = |number| std::num::NonZeroU32::new(number).expect("the limits are not zero");
        let limit = RequestLimit::new(per_second(300), per_second(60));
        let exchange = ExchangeOptions::default().with_limit(limit);
        Self {
            seed,
            phase,
            clients: 24,
            exchange,
            progress: true,
            #[cfg(unix)]
            outage: None,
        }
    }
}

/// Runs both phases; `cache` is the cache that is on in the second.
///
/// # Errors
/// Something could not be started, or a request failed.
pub async fn run(market: Arc<Market>, cache: Cache, options: &SmokeOptions) -> Result<Report, Failure> {
    let workload = workload(&market, options.seed)?;
    let catalogue = workload.catalogue();
    let requests: Arc<Vec<Request>> = Arc::new(workload.take(DRAWN).collect());

    let without = Stack::start(Arc::clone(&market), Cache::disabled(), stack_options(options)).await?;
    let off = phase("cache off", &without, &requests, options, &watch(true)).await?;
    let off_calls = calls(&without);

    let with = Stack::start(market, cache, stack_options(options)).await?;
    let warmed = warm(&with, catalogue, options).await?;
    with.service().cache().clear_stats();
    let warm_calls = calls(&with);
    #[cfg(unix)]
    let (on, outage) = phase_with_outage(&with, &requests, options).await?;
    #[cfg(not(unix))]
    let on = phase("cache on ", &with, &requests, options, &watch(true)).await?;
    let on_calls = calls(&with);
    let functions = functions(&with);
    let stats = with.service().cache().stats();

    let new_value_seen = invalidation(&with).await?;
    let stampede = StampedeReport::of(&with).await?;
    let (compared, differing) = compare(&off.bodies, &on.bodies);
    without.stop().await?;
    with.stop().await?;
    Ok(Report {
        compared,
        differing,
        hit_rate: stats.hit_rate().unwrap_or(0.0),
        functions,
        warmed,
        new_value_seen,
        stampede,
        off: Phase::new(&off, off_calls),
        on: Phase::new(&on, (on_calls.0 - warm_calls.0, on_calls.1 - warm_calls.1)),
        #[cfg(unix)]
        outage,
    })
}

fn workload(market: &Market, seed: u64) -> Result<Workload, Failure> {
    let symbols = market.symbols().iter().map(|symbol| Ok((symbol.clone(), market.intervals(symbol)?)));
    let symbols = symbols.collect::<Result<Vec<_>, crate::market::NotOffered>>()?;
    Ok(Workload::new(seed, WorkloadOptions::new(symbols, USERS))?)
}

fn stack_options(options: &SmokeOptions) -> StackOptions {
    let usual = StackOptions::default();
    StackOptions { exchange: options.exchange.clone(), plan: SeedPlan::new(usual.plan.candles, USERS), ..usual }
}

/// Requests that the exchange has served, statements that the database has run.
fn calls(stack: &Stack) -> (u64, u64) {
    (stack.service().exchange().served(), stack.service().database().queries())
}

fn watch(is_over: bool) -> Arc<Watch> {
    Arc::new(Watch { is_over: is_over.into(), ..Watch::default() })
}

/// The phase with the cache on, with the outage, if there is one, after its first quarter.
#[cfg(unix)]
async fn phase_with_outage(
    stack: &Stack,
    requests: &Arc<Vec<Request>>,
    options: &SmokeOptions,
) -> Result<(Driven, Option<OutageReport>), Failure> {
    let watch = watch(options.outage.is_none());
    let outage = options.outage.clone().map(|outage| {
        let cache = stack.service().cache().clone();
        tokio::spawn(outage.run(options.phase / 4, cache, Arc::clone(&watch)))
    });
    let driven = phase("cache on ", stack, requests, options, &watch).await?;
    let outage = match outage {
        Some(outage) => Some(outage.await?),
        None => None,
    };
    Ok((driven, outage))
}

async fn phase(
    name: &str,
    stack: &Stack,
    requests: &Arc<Vec<Request>>,
    options: &SmokeOptions,
    watch: &Arc<Watch>,
) -> Result<Driven, Failure> {
    let bar = bar(name, options.progress);
    let driven = drive(&stack.url(), requests, options.phase, options.clients, &bar, watch).await;
    bar.finish_and_clear();
    driven
}

fn bar(name: &str, shown: bool) -> ProgressBar {
    let bar = ProgressBar::new(1000);
    if !shown {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{prefix} [{bar:40}] {msg}").expect("the template is constant and valid");
    bar.set_style(style.progress_chars("=> "));
    bar.set_prefix(name.to_owned());
    bar
}

/// Warms everything that can be asked for, through the service itself.
async fn warm(
    stack: &Stack,
    catalogue: Vec<Request>,
    options: &SmokeOptions,
) -> Result<larder_warming::Report, Failure> {
    let bar = bar("warming  ", options.progress);
    let (shown, total) = (bar.clone(), catalogue.len().max(1) as u64);
    let warmer = Warmer::builder()
        .concurrency(options.clients)
        .attempts(3)
        .on_progress(move |progress| {
            shown.set_position(progress.done as u64 * 1000 / total);
            shown.set_message(format!("{} of {total}", progress.done));
        })
        .build()?;
    let (client, base) = (reqwest::Client::new(), stack.url());
    let report = warmer
        .run("everything", catalogue.into_iter().map(|request| request.path()), move |path: String| {
            let (client, base) = (client.clone(), base.clone());
            async move {
                let answer = fetch(&client, &base, &path).await?;
                Ok::<_, String>(if answer.x_cache == "miss" { Warmed::Loaded } else { Warmed::AlreadyWarm })
            }
        })
        .await;
    bar.finish_and_clear();
    Ok(report)
}

fn functions(stack: &Stack) -> Vec<FunctionRate> {
    let infos = stack.service().cache().regions();
    let used = infos.into_iter().filter(|info| info.stats.requests() > 0);
    used.map(|info| FunctionRate {
        name: info.name.rsplit("::").next().unwrap_or(&info.name).to_owned(),
        requests: info.stats.requests(),
        hit_rate: info.hit_rate().unwrap_or(0.0),
    })
    .collect()
}

/// How many answers were there in both phases, and the paths of those that differ.
fn compare(off: &HashMap<String, u64>, on: &HashMap<String, u64>) -> (usize, Vec<String>) {
    let both = off.iter().filter_map(|(path, hash)| on.get(path).map(|other| (path, hash == other)));
    let (mut compared, mut differing) = (0, Vec::new());
    for (path, same) in both {
        compared += 1;
        if !same {
            differing.push(path.clone());
        }
    }
    differing.sort_unstable();
    (compared, differing)
}

/// Writes a candle and looks whether candles, an indicator and the ticker show it at once.
async fn invalidation(stack: &Stack) -> Result<bool, Failure> {
    let (client, base) = (reqwest::Client::new(), stack.url());
    let symbol = stack.service().exchange().first_symbol();
    let interval = stack.service().exchange().shortest_interval(&symbol).ok_or("the first symbol has no interval")?;
    let paths = [
        format!("/candles/{symbol}?interval={interval}&limit=100"),
        format!("/indicators/{symbol}/rsi?interval={interval}"),
        format!("/ticker/{symbol}"),
    ];
    let mut before = Vec::new();
    for path in &paths {
        before.push(fetch(&client, &base, path).await?.body);
    }
    let candles: Vec<Value> = serde_json::from_str(&before[0])?;
    let mut newest = candles.last().cloned().ok_or("there are no candles")?;
    let price = newest["close"].as_f64().ok_or("a candle has no close")? * 1.01;
    newest["close"] = price.into();
    newest["high"] = newest["high"].as_f64().unwrap_or(price).max(price).into();
    let body = serde_json::json!({ "interval": interval, "candles": [newest] });
    let put = client.put(format!("{base}/candles/{symbol}")).json(&body).send().await?;
    put.error_for_status()?;
    for (path, old) in paths.iter().zip(&before) {
        let answer = fetch(&client, &base, path).await?;
        if answer.x_cache != "miss" || &answer.body == old {
            return Ok(false);
        }
    }
    let again = fetch(&client, &base, &paths[0]).await?;
    Ok(again.x_cache == "near" || again.x_cache == "remote")
}
