use std::collections::HashMap;

use larder::cached;

#[cached(batch)]
async fn borrowed(_keys: &[&str]) -> HashMap<String, u8> {
    HashMap::new()
}

#[cached(batch)]
async fn no_map(_keys: &[String]) -> Vec<u8> {
    Vec::new()
}

#[cached(batch, inline)]
fn plain(_keys: &[String]) -> HashMap<String, u8> {
    HashMap::new()
}

fn main() {}
