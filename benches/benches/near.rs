//! Near hits in detail, one thread: Larder's ways to read beside the maps that it could stand on.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use larder_benches::{Caches, Keys, workload::Reads};

fn near_hits(criterion: &mut Criterion) {
    let caches = Caches::fill(&Keys::render(), 0).expect("what was written is there");
    let draw = Reads::draw();
    let mut reads = draw.from(0);
    let mut next = move || reads.next().expect("reads do not end");

    let mut group = criterion.benchmark_group("near hit");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(3));
    group.bench_function("quick_cache", |bencher| bencher.iter(|| black_box(caches.quick(next()))));
    group.bench_function("moka", |bencher| bencher.iter(|| black_box(caches.moka(next()))));
    group.bench_function("by number", |bencher| bencher.iter(|| black_box(caches.by_number(next()))));
    group.bench_function("by pair", |bencher| bencher.iter(|| black_box(caches.by_pair(next()))));
    group.bench_function("by path", |bencher| bencher.iter(|| black_box(caches.by_path(next()))));
    group.bench_function("cached function", |bencher| bencher.iter(|| black_box(caches.cached_function(next()))));
    group.finish();
}

criterion_group!(benches, near_hits);
criterion_main!(benches);
