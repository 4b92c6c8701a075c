//! Bytes that somebody made to do harm, or that were cut off.

use std::collections::BTreeMap;

use larder_codec::AnyCodec;
use larder_core::ErrorKind;
use proptest::prelude::*;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::values::{CODECS, Chain, Nest, Ticker, Tree, encode, ticker};

const DEEP: usize = 100_000;

fn undecodable<V: DeserializeOwned>(codec: AnyCodec, bytes: &[u8]) -> String {
    let Err(error) = codec.decode::<V>(bytes) else { panic!("{codec:?} decoded what is broken") };
    assert_eq!(error.kind(), ErrorKind::Decode);
    error.to_string()
}

#[test]
fn deeply_nested_json_is_an_error() {
    let arrays = "[".repeat(DEEP) + &"]".repeat(DEEP);
    for bytes in [arrays.clone().into_bytes(), "[".repeat(DEEP).into_bytes(), "{\"a\":".repeat(DEEP).into_bytes()] {
        undecodable::<Nest>(AnyCodec::Json, &bytes);
        undecodable::<serde_json::Value>(AnyCodec::Json, &bytes);
        undecodable::<Tree>(AnyCodec::Json, &bytes);
    }
    // What a type does not want is skipped without recursion, however deep.
    let skipped = format!("{{\"x\":{arrays},\"id\":1}}");
    #[derive(Deserialize)]
    struct Wants {
        id: u8,
    }
    assert_eq!(AnyCodec::Json.decode::<Wants>(skipped.as_bytes()).map_or(1, |wants| wants.id), 1);
}

#[test]
fn deeply_nested_messagepack_is_an_error() {
    let mut closed = vec![0x91; DEEP];
    closed.push(0x90);
    let maps: Vec<u8> = [0x81, 0xa1, b'a'].repeat(DEEP).into_iter().chain([0xc0]).collect();
    for bytes in [closed, vec![0x91; DEEP], maps] {
        let message = undecodable::<Nest>(AnyCodec::MessagePack, &bytes);
        assert!(message.contains("nested too deeply"), "{message}");
        undecodable::<serde_json::Value>(AnyCodec::MessagePack, &bytes);
        undecodable::<IgnoredAny>(AnyCodec::MessagePack, &bytes);
    }
}

#[test]
fn deeply_nested_postcard_is_an_error() {
    let message = undecodable::<Nest>(AnyCodec::Postcard, &vec![1; DEEP]);
    assert!(message.contains("nested too deeply"), "{message}");
    undecodable::<Chain>(AnyCodec::Postcard, &vec![1; DEEP]);
    // A variant and a Some each.
    undecodable::<Tree>(AnyCodec::Postcard, &[2, 1].repeat(DEEP));
}

#[test]
fn a_type_that_nests_without_bytes_does_not_nest_for_ever() {
    for (codec, bytes) in [(AnyCodec::Json, &b"1"[..]), (AnyCodec::MessagePack, &[1])] {
        let message = undecodable::<Chain>(codec, bytes);
        assert!(message.contains("nested too deeply"), "{message}");
    }
}

#[test]
fn elements_that_take_no_bytes_are_not_counted_out_for_ever() {
    // A length of 2^63.
    let endless = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let message = undecodable::<Vec<()>>(AnyCodec::Postcard, &endless);
    assert!(message.contains("more elements than bytes"), "{message}");
    undecodable::<BTreeMap<(), ()>>(AnyCodec::Postcard, &endless);
}

#[test]
fn a_length_beyond_the_input_allocates_nothing_of_that_size() {
    for bytes in [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0xdf, 0xff, 0xff, 0xff, 0xff], &[0xc6, 0xff, 0xff, 0xff, 0xff]]
    {
        undecodable::<Vec<u64>>(AnyCodec::MessagePack, bytes);
        undecodable::<serde_json::Value>(AnyCodec::MessagePack, bytes);
    }
    undecodable::<Vec<u64>>(AnyCodec::Postcard, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
    undecodable::<String>(AnyCodec::Postcard, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
}

#[test]
fn bytes_behind_the_value_are_an_error() {
    for codec in CODECS {
        let mut bytes = encode(codec, &ticker());
        bytes.push(b'1');
        undecodable::<Ticker>(codec, &bytes);
    }
}

#[test]
fn a_value_that_was_cut_off_anywhere_is_an_error() {
    for codec in CODECS {
        let bytes = encode(codec, &ticker());
        for length in 0..bytes.len() {
            undecodable::<Ticker>(codec, &bytes[..length]);
        }
    }
}

#[test]
fn a_decode_error_says_nothing_of_the_value() {
    let secret = "hunter2-in-the-clear";
    for codec in CODECS {
        let bytes = encode(codec, &(secret, secret));
        for message in [undecodable::<(u64, bool)>(codec, &bytes), undecodable::<Ticker>(codec, &bytes)] {
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
    let key = format!("{{\"{secret}\":1}}");
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {}
    assert!(!undecodable::<Strict>(AnyCodec::Json, key.as_bytes()).contains("hunter2"));
}

fn decode_as_everything(codec: AnyCodec, bytes: &[u8]) {
    // Whether it succeeds does not matter: it must come back.
    let answers = [
        codec.decode::<Ticker>(bytes).is_ok(),
        codec.decode::<Tree>(bytes).is_ok(),
        codec.decode::<Nest>(bytes).is_ok(),
        codec.decode::<Chain>(bytes).is_ok(),
        codec.decode::<serde_json::Value>(bytes).is_ok(),
        codec.decode::<BTreeMap<String, Vec<Option<u16>>>>(bytes).is_ok(),
        codec.decode::<Vec<()>>(bytes).is_ok(),
        codec.decode::<(i128, char, String, f32)>(bytes).is_ok(),
    ];
    assert_eq!(answers.len(), 8);
}

proptest! {
    #[test]
    fn no_bytes_make_a_codec_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for codec in CODECS {
            decode_as_everything(codec, &bytes);
        }
    }

    #[test]
    fn no_change_of_good_bytes_makes_a_codec_panic(
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<proptest::sample::Index>(),
    ) {
        for codec in CODECS {
            let mut bytes = encode(codec, &ticker());
            let place = at.index(bytes.len());
            bytes[place] = byte;
            decode_as_everything(codec, &bytes);
            bytes.truncate(cut.index(bytes.len()));
            decode_as_everything(codec, &bytes);
        }
    }
}
