//! The codecs in detail: entries of a ticker and of 100 candles.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use larder_benches::market::{candles, ticker};
use larder_codec::{AnyCodec, Compression, decode_entry, encode_entry};
use larder_core::envelope::{Header, Kind};
use serde::{Serialize, de::DeserializeOwned};

fn codecs(criterion: &mut Criterion) {
    measure(criterion, "ticker", &ticker());
    measure(criterion, "100 candles", &candles(100));
}

fn measure<V: Serialize + DeserializeOwned>(criterion: &mut Criterion, what: &str, value: &V) {
    let mut group = criterion.benchmark_group(what);
    group.measurement_time(Duration::from_secs(2));
    for codec in [AnyCodec::Json, AnyCodec::MessagePack, AnyCodec::Postcard] {
        for (compression, name) in
            [(Compression::none(), "none"), (Compression::lz4(), "lz4"), (Compression::zstd(), "zstd")]
        {
            let header = Header::new(Kind::Value, codec.id());
            let encode =
                |value: &V| encode_entry(header.clone(), value, codec, compression).expect("it can be encoded");
            let entry = encode(value);
            let name = format!("{}, {name}", codec.id().name());
            group.throughput(Throughput::Bytes(entry.len() as u64));
            group
                .bench_function(BenchmarkId::new("encode", &name), |bencher| bencher.iter(|| encode(black_box(value))));
            group.bench_function(BenchmarkId::new("decode", &name), |bencher| {
                bencher.iter(|| decode_entry::<V>(black_box(&entry), 0).expect("it can be decoded"));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, codecs);
criterion_main!(benches);
