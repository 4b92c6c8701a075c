//! Hits in the near tier, beside the maps that it could stand on.

use std::{hint::black_box, sync::Barrier, thread, time::Instant};

use anyhow::Result;

#[cfg(feature = "rivals")]
use crate::rivals::contestants as rivals;
use crate::{
    caches::{Caches, Keys},
    contest::{Contestant, Series, compete_in_order_of},
    effort::Effort,
    row::{Budget, Row},
    workload::Reads,
};

/// How many times as long as `quick_cache`'s own `get` a hit may take.
const BY_KEY: Budget = Budget::RatioAtMost(1.4);
const BY_ATTRIBUTE: Budget = Budget::RatioAtMost(1.7);
/// The same for moka.
const BESIDE_MOKA: Budget = Budget::RatioAtMost(0.5);

const THREADS: [usize; 2] = [1, 2];

pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    let reads = Reads::draw();
    let keys = Keys::render();
    let mut rows = allocations(&Caches::fill(&keys, 0)?);
    let mut all = THREADS.map(|_| Hits::default());
    for fill in 1..=effort.near_fills {
        eprintln!("near hits, fill {fill} of {}", effort.near_fills);
        let caches = Caches::fill(&keys, fill)?;
        for (threads, hits) in THREADS.into_iter().zip(&mut all) {
            let near = Near { reads: &reads, threads, count: effort.near_reads };
            hits.measure(&caches, &near, effort.near_rounds, fill)?;
        }
    }
    rows.extend(THREADS.into_iter().zip(&all).flat_map(|(threads, hits)| hits.rows(threads)));
    Ok(rows)
}

#[cfg(not(feature = "rivals"))]
#[expect(clippy::unnecessary_wraps, reason = "with rivals it can fail")]
fn rivals<'a>(_caches: &'a Caches, _near: &Near<'a>) -> Result<Vec<(usize, Contestant<'a>)>> {
    Ok(Vec::new())
}

/// What so many threads found, on all fills: where things lie in memory changes a hit, and differs from fill to fill.
#[derive(Default)]
struct Hits {
    series: Vec<Series>,
    /// For each of the last series, the place of Larder's counterpart.
    counterparts: Vec<usize>,
}

impl Hits {
    fn measure(&mut self, caches: &Caches, near: &Near<'_>, rounds: usize, seed: u64) -> Result<()> {
        let mut contestants = vec![
            near.contestant("quick_cache", |id| drop(black_box(caches.quick(id)))),
            near.contestant("moka::sync", |id| drop(black_box(caches.moka(id)))),
            near.contestant("quick_cache and format!", |id| drop(black_box(caches.quick_formatted(id)))),
            near.contestant("by number", |id| drop(black_box(caches.by_number(id)))),
            near.contestant("by pair", |id| drop(black_box(caches.by_pair(id)))),
            near.contestant("by path", |id| drop(black_box(caches.by_path(id)))),
            near.contestant("#[cached]", |id| drop(black_box(caches.cached_function(id)))),
        ];
        let (counterparts, rivals): (Vec<usize>, Vec<_>) = rivals(caches, near)?.into_iter().unzip();
        contestants.extend(rivals);
        self.counterparts = counterparts;
        let series = compete_in_order_of(seed, rounds, contestants)?;
        if self.series.is_empty() {
            self.series = series;
        } else {
            self.series.iter_mut().zip(series).for_each(|(all, more)| all.append(more));
        }
        Ok(())
    }

    fn rows(&self, threads: usize) -> Vec<Row> {
        let (own, others) = self.series.split_at(self.series.len() - self.counterparts.len());
        let [quick, moka, formatted, ours @ ..] = own else { unreachable!("three baselines come first") };
        let named = ["Region<u64, _>::get", "Region<(_, u64), _>::get", "Cache::get(&str)", "#[cached] async fn"];
        // What the first of ours does, without Larder.
        let mut rows = vec![row(threads, named[0], &ours[0], formatted, Budget::None)];
        for (what, series) in named.into_iter().zip(ours) {
            let budget = if what.starts_with("#[cached]") { BY_ATTRIBUTE } else { BY_KEY };
            rows.push(row(threads, what, series, quick, budget));
            rows.push(row(threads, what, series, moka, BESIDE_MOKA));
        }
        for (counterpart, other) in self.counterparts.iter().zip(others) {
            rows.push(row(threads, named[*counterpart], &ours[*counterpart], other, Budget::None));
        }
        rows
    }
}

fn row(threads: usize, what: &str, larder: &Series, baseline: &Series, budget: Budget) -> Row {
    let threads = if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
    let name = format!("near hit, {what}, {threads}, beside {}", baseline.name);
    Row::compare(name, "ns/hit", larder, baseline, budget)
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
