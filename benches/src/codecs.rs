//! Entries of each codec and compression: time and size, on a ticker and on 100 candles. For information.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use larder_codec::{AnyCodec, Compression, decode_entry, encode_entry};
use larder_core::envelope::{Header, Kind};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    contest::{Contestant, Series, compete},
    effort::Effort,
    market::{candles, ticker},
    row::{Budget, Row},
};

const CODECS: [AnyCodec; 3] = [AnyCodec::Json, AnyCodec::MessagePack, AnyCodec::Postcard];

/// Calls between two looks at the clock.
const CALLS: u32 = 16;

/// One way to make an entry.
#[derive(Clone, Copy)]
struct Way {
    codec: AnyCodec,
    compression: Compression,
    compression_name: &'static str,
}

impl Way {
    /// The first is the baseline of the others.
    fn all(compressed: bool) -> Vec<Self> {
        let mut compressions = vec![(Compression::none(), "none")];
        if compressed {
            compressions.extend([(Compression::lz4(), "lz4"), (Compression::zstd(), "zstd")]);
        }
        let of = |codec| {
            let way = move |&(compression, compression_name)| Self { codec, compression, compression_name };
            compressions.iter().map(way).collect::<Vec<_>>()
        };
        CODECS.into_iter().flat_map(of).collect()
    }

    fn name(self) -> String {
        format!("{}, {}", self.codec.id().name(), self.compression_name)
    }

    fn encode<V: Serialize>(self, value: &V) -> Result<Vec<u8>> {
        Ok(encode_entry(Header::new(Kind::Value, self.codec.id()), value, self.codec, self.compression)?)
    }
}

fn decode<V: DeserializeOwned>(entry: &[u8]) -> Result<V> {
    decode_entry(entry, 0).map(|entry| entry.value).map_err(|why| anyhow::anyhow!("an entry cannot be read: {why}"))
}

pub(crate) fn run(effort: Effort) -> Result<Vec<Row>> {
    eprintln!("codecs");
    // A ticker stays below the size from which on entries are compressed.
    let mut rows = measure("a ticker", &ticker(), &Way::all(false), effort)?;
    rows.extend(measure("100 candles", &candles(100), &Way::all(true), effort)?);
    Ok(rows)
}

fn measure<V: Serialize + DeserializeOwned>(what: &str, value: &V, ways: &[Way], effort: Effort) -> Result<Vec<Row>> {
    let entries = ways.iter().map(|way| way.encode(value)).collect::<Result<Vec<_>>>()?;
    let time = effort.codec_time;
    let encoding = |way: &Way| {
        let way = *way;
        Contestant::new(way.name(), move || nanos_a_call(time, || way.encode(black_box(value)).map(drop)))
    };
    let encoded = compete(effort.rounds, ways.iter().map(encoding).collect())?;
    let decoding = |(way, entry): (&Way, &Vec<u8>)| {
        let entry = entry.clone();
        Contestant::new(way.name(), move || nanos_a_call(time, || decode::<V>(black_box(&entry)).map(drop)))
    };
    let decoded = compete(effort.rounds, ways.iter().zip(&entries).map(decoding).collect())?;

    let timed = |verb: &str, series: &[Series]| -> Vec<Row> {
        let row =
            |one: &Series| Row::compare(format!("{verb} {what}, {}", one.name), "ns", one, &series[0], Budget::None);
        series.iter().map(row).collect()
    };
    let mut rows = timed("encode", &encoded);
    rows.extend(timed("decode", &decoded));
    let (first, first_name) = (entries.first().context("there is a codec")?, ways[0].name());
    rows.extend(ways.iter().zip(&entries).map(|(way, entry)| {
        let name = format!("size of {what}, {}", way.name());
        Row::figures(name, "bytes", bytes(entry), (bytes(first), &first_name), Budget::None)
    }));
    Ok(rows)
}

#[expect(clippy::cast_precision_loss, reason = "entries are far smaller than 2^52 bytes")]
fn bytes(entry: &[u8]) -> f64 {
    entry.len() as f64
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 nanoseconds")]
fn nanos_a_call(time: Duration, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let (began, mut calls) = (Instant::now(), 0_u32);
    loop {
        for _ in 0..CALLS {
            call()?;
        }
        calls += CALLS;
        let elapsed = began.elapsed();
        if elapsed >= time {
            return Ok(elapsed.as_nanos() as f64 / f64::from(calls));
        }
    }
}
