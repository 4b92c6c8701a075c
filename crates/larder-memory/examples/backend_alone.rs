//! A program that uses the memory backend by itself: `larder-core` and `larder-memory`, no runtime, no server.
//!
//! Run with `cargo run -p larder-memory --example backend_alone`.

use std::{
    io::{self, Write},
    time::Duration,
};

use futures_executor::{block_on, block_on_stream};
use larder_core::{BackendExt, Bytes, Counter, Inspect, Key, Pattern, Remaining, Scan, SetOptions};
use larder_memory::MemoryBackend;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = io::stdout().lock();
    let backend = MemoryBackend::builder().max_bytes(16 << 20).max_value_bytes(1 << 20).build()?;

    let prices = [("BTCUSDT", "64250.10"), ("ETHUSDT", "3120.55"), ("SOLUSDT", "148.02")];
    for (symbol, price) in prices {
        let options = SetOptions::new().ttl(Duration::from_secs(30));
        block_on(backend.set(&Key::with_prefix("ticker:", symbol), Bytes::from(price), options))?;
    }

    let key = Key::with_prefix("ticker:", "BTCUSDT");
    if let Some(found) = block_on(backend.get_with_ttl(&key))? {
        let seconds = found.remaining.and_then(Remaining::duration).map_or(0, |left| left.as_secs());
        let price = String::from_utf8_lossy(&found.value);
        writeln!(out, "{key} = {price}, for another {seconds} s")?;
    }

    let visits = Key::new("visits");
    for _ in 0..3 {
        block_on(backend.increment(&visits, 1, Some(Duration::from_secs(60))))?;
    }
    writeln!(out, "{visits} = {}", block_on(backend.count(&visits))?.unwrap_or(0))?;

    let pattern = Pattern::new("ticker:*")?;
    let mut keys = Vec::new();
    for page in block_on_stream(backend.scan(&pattern, 100)) {
        keys.extend(page?);
    }
    keys.sort();
    for key in &keys {
        writeln!(out, "listed {key}")?;
    }
    writeln!(out, "removed {} by the pattern {pattern}", block_on(backend.delete_pattern(&pattern))?)?;

    let figures = block_on(backend.server_figures())?;
    let (keys, bytes) = (figures.keys.unwrap_or(0), figures.used_bytes.unwrap_or(0));
    writeln!(out, "{keys} key left, {bytes} bytes in use")?;
    Ok(())
}
