//! Types as applications have them, and worse ones.

use std::collections::BTreeMap;

use larder_codec::AnyCodec;
use serde::{Deserialize, Serialize};

pub(crate) const CODECS: [AnyCodec; 3] = [AnyCodec::Json, AnyCodec::MessagePack, AnyCodec::Postcard];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Side {
    Buy,
    Limit(f64),
    Pair(i32, String),
    Stop { at: f64, active: bool },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ticker {
    pub(crate) symbol: String,
    pub(crate) price: f64,
    pub(crate) volume: u64,
    pub(crate) note: Option<String>,
    pub(crate) sides: Vec<Side>,
    pub(crate) depth: BTreeMap<String, (i64, f32)>,
}

pub(crate) fn ticker() -> Ticker {
    Ticker {
        symbol: "BTCUSDT".to_owned(),
        price: 67_123.45,
        volume: 9_007_199_254_740_993,
        note: None,
        sides: vec![
            Side::Buy,
            Side::Limit(0.1),
            Side::Pair(-7, "é".to_owned()),
            Side::Stop { at: 66_000.5, active: true },
        ],
        depth: BTreeMap::from([("bid".to_owned(), (-3, 0.1)), ("ask".to_owned(), (12, 2.5))]),
    }
}

/// A type that nests through everything there is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Tree {
    Leaf(i64),
    Text(String),
    Maybe(Option<Box<Tree>>),
    Many(Vec<Tree>),
    Pair(Box<Tree>, Box<Tree>),
    Named { left: Box<Tree>, rest: BTreeMap<String, Tree> },
}

/// Nests without taking up a byte in a format that writes neither newtypes nor `Some`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Chain(pub(crate) Option<Box<Chain>>);

/// Nests without taking up a byte anywhere but in lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Nest(pub(crate) Vec<Nest>);

pub(crate) fn encode<V: Serialize + ?Sized>(codec: AnyCodec, value: &V) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec.encode(value, &mut bytes).expect("a value that the format can express");
    bytes
}
