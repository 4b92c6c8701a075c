//! Hits in the near tier, beside the maps that it could stand on.

use std::{hint::black_box, sync::Barrier, thread, time::Instant};

use anyhow::Result;

#[cfg(feature = "rivals")]
use crate::rivals::contestants as rivals;
use crate::{
    caches::Caches,
    contest::{Contestant, Series, compete},
    effort::Effort,
    row::{Budget, Row},
    workload::Reads,
};

/// How many times as long as `quick_cache`'s own `get` a hit may take.
const BY_KEY: Budget = Budget::RatioAtMost(1.4);
const BY_ATTRIBUTE: Budget = Budget::RatioAtMost(1.7);
/// The same for moka.
const BESIDE_MOKA: Budget = Budget::RatioAtMost(0.5);

pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    let caches = Caches::fill()?;
    let reads = Reads::draw();
    let mut rows = allocations(&caches);
    for threads in [1, 2] {
        eprintln!("near hits, {threads} thread(s)");
        rows.extend(hits(&caches, &reads, threads, effort)?);
    }
    Ok(rows)
}

#[cfg(not(feature = "rivals"))]
#[expect(clippy::unnecessary_wraps, reason = "with rivals it can fail")]
fn rivals<'a>(_caches: &'a Caches, _near: &Near<'a>) -> Result<Vec<(usize, Contestant<'a>)>> {
    Ok(Vec::new())
}

fn hits(caches: &Caches, reads: &Reads, threads: usize, effort: Effort) -> Result<Vec<Row>> {
    let near = Near { reads, threads, count: effort.near_reads };
    let mut contestants = vec![
        near.contestant("quick_cache", |id| drop(black_box(caches.quick(id)))),
        near.contestant("moka::sync", |id| drop(black_box(caches.moka(id)))),
        near.contestant("quick_cache and format!", |id| drop(black_box(caches.quick_formatted(id)))),
        near.contestant("by number", |id| drop(black_box(caches.by_number(id)))),
        near.contestant("by pair", |id| drop(black_box(caches.by_pair(id)))),
        near.contestant("by path", |id| drop(black_box(caches.by_path(id)))),
        near.contestant("#[cached]", |id| drop(black_box(caches.cached_function(id)))),
    ];
    let own = contestants.len();
    let (counterparts, rivals): (Vec<usize>, Vec<_>) = rivals(caches, &near)?.into_iter().unzip();
    contestants.extend(rivals);
    let mut series = compete(effort.rounds, contestants)?;
    let others = series.split_off(own);
    let [quick, moka, formatted, ours @ ..] = series.as_slice() else { unreachable!("three baselines come first") };
    let named = ["Region<u64, _>::get", "Region<(_, u64), _>::get", "Cache::get(&str)", "#[cached] async fn"];
    // What the first of ours does, without Larder.
    let mut rows = vec![near.row(named[0], &ours[0], formatted, Budget::None)];
    for (what, series) in named.into_iter().zip(ours) {
        let budget = if what.starts_with("#[cached]") { BY_ATTRIBUTE } else { BY_KEY };
        rows.push(near.row(what, series, quick, budget));
        rows.push(near.row(what, series, moka, BESIDE_MOKA));
    }
    for (counterpart, other) in counterparts.into_iter().zip(&others) {
        rows.push(near.row(named[counterpart], &ours[counterpart], other, Budget::None));
    }
    Ok(rows)
}

/// How near hits are measured.
pub(crate) struct Near<'a> {
    reads: &'a Reads,
    threads: usize,
    count: usize,
}

impl<'a> Near<'a> {
    /// Nanoseconds a hit takes, on the slowest of the threads.
    pub(crate) fn contestant(&self, name: &str, hit: impl Fn(u32) + Sync + 'a) -> Contestant<'a> {
        let Self { reads, threads, count } = *self;
        Contestant::new(name, move || Ok(nanos_a_hit(reads, threads, count, &hit)))
    }

    fn row(&self, what: &str, larder: &Series, baseline: &Series, budget: Budget) -> Row {
        let threads = if self.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", self.threads) };
        let name = format!("near hit, {what}, {threads}, beside {}", baseline.name);
        Row::compare(name, "ns/hit", larder, baseline, budget)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 nanoseconds and hits")]
fn nanos_a_hit(reads: &Reads, threads: usize, count: usize, hit: &(impl Fn(u32) + Sync)) -> f64 {
    let start = Barrier::new(threads);
    let slowest = thread::scope(|scope| {
        let timed: Vec<_> = (0..threads)
            .map(|thread| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let began = Instant::now();
                    // Each thread reads a part of the draw of its own.
                    reads.from(thread * count).take(count).for_each(hit);
                    began.elapsed()
                })
            })
            .collect();
        timed.into_iter().map(|thread| thread.join().expect("a hit does not panic")).max()
    });
    slowest.unwrap_or_default().as_nanos() as f64 / count as f64
}

/// How often a hit allocates, by a counting allocator.
fn allocations(caches: &Caches) -> Vec<Row> {
    let baseline = allocations_of(|id| drop(black_box(caches.quick(id))));
    let ours: [(&str, f64); 4] = [
        ("Region<u64, _>::get", allocations_of(|id| drop(black_box(caches.by_number(id))))),
        ("Region<(_, u64), _>::get", allocations_of(|id| drop(black_box(caches.by_pair(id))))),
        ("Cache::get(&str)", allocations_of(|id| drop(black_box(caches.by_path(id))))),
        ("#[cached] async fn", allocations_of(|id| drop(black_box(caches.cached_function(id))))),
    ];
    let row = |(what, figure)| {
        let name = format!("allocations of a near hit, {what}");
        Row::figures(name, "allocations/hit", figure, (baseline, "quick_cache"), Budget::FigureAtMost(0.0))
    };
    ours.into_iter().map(row).collect()
}

fn allocations_of(hit: impl Fn(u32)) -> f64 {
    const HITS: u32 = 10_000;
    // What a thread sets up once is no part of a hit.
    hit(0);
    let counted = allocation_counter::measure(|| (0..HITS).for_each(&hit));
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    let count = counted.count_total as f64;
    count / f64::from(HITS)
}
