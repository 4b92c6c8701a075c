//! What a format cannot express is refused when it is written.

use std::marker::PhantomData;

use larder_codec::AnyCodec;
use larder_core::ErrorKind;
use serde::{Deserialize, Serialize};

use crate::values::{CODECS, Chain, Nest, Tree, encode};

fn refused<V: Serialize>(codec: AnyCodec, value: &V) -> String {
    let mut out = Vec::new();
    let error = codec.encode(value, &mut out).expect_err("it cannot be expressed");
    assert_eq!(error.kind(), ErrorKind::Encode);
    assert!(out.is_empty());
    error.to_string()
}

#[derive(Serialize)]
struct Wrapper<T>(T);

#[derive(Serialize)]
struct Holder {
    list: Vec<Option<Option<u8>>>,
}

#[test]
fn json_and_messagepack_refuse_a_some_that_would_read_as_none() {
    for codec in [AnyCodec::Json, AnyCodec::MessagePack] {
        let message = refused(codec, &Some(None::<u8>));
        assert!(message.contains("Some(None)"), "{message}");
        refused(codec, &Some(()));
        refused(codec, &Some(Wrapper(None::<u8>)));
        refused(codec, &Some(Some(None::<u8>)));
        refused(codec, &Chain(Some(Box::new(Chain(None)))));
        refused(codec, &Holder { list: vec![None, Some(Some(1)), Some(None)] });
    }
}

#[test]
fn none_within_a_value_within_some_is_no_loss() {
    for codec in CODECS {
        let value = Some(vec![None, Some(1_u8)]);
        assert_eq!(codec.decode::<Option<Vec<Option<u8>>>>(&encode(codec, &value)).unwrap(), value);
    }
}

#[test]
fn a_unit_struct_in_some_is_refused_only_where_it_would_be_lost() {
    let value = Some(PhantomData::<u8>);
    refused(AnyCodec::Json, &value);
    for codec in [AnyCodec::MessagePack, AnyCodec::Postcard] {
        assert_eq!(codec.decode::<Option<PhantomData<u8>>>(&encode(codec, &value)).unwrap(), value);
    }
}

#[test]
fn json_refuses_numbers_that_are_not_finite_and_the_others_keep_them() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let message = refused(AnyCodec::Json, &vec![Some(value)]);
        assert!(message.contains("NaN"), "{message}");
        for codec in [AnyCodec::MessagePack, AnyCodec::Postcard] {
            let decoded: f64 = codec.decode(&encode(codec, &value)).unwrap();
            assert_eq!(decoded.to_bits(), value.to_bits());
        }
    }
    refused(AnyCodec::Json, &f32::NAN);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Skips {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<u8>,
    id: u8,
}

#[test]
fn postcard_refuses_a_skipped_field_and_names_it() {
    let skipped = Skips { note: None, id: 3 };
    let message = refused(AnyCodec::Postcard, &skipped);
    assert!(message.contains("`note`"), "{message}");
    for codec in [AnyCodec::Json, AnyCodec::MessagePack] {
        assert_eq!(codec.decode::<Skips>(&encode(codec, &skipped)).unwrap(), skipped);
    }
    let whole = Skips { note: Some(1), id: 3 };
    assert_eq!(AnyCodec::Postcard.decode::<Skips>(&encode(AnyCodec::Postcard, &whole)).unwrap(), whole);
}

#[test]
fn postcard_refuses_elements_that_take_no_bytes() {
    let message = refused(AnyCodec::Postcard, &vec![(); 5]);
    assert!(message.contains("more elements than bytes"), "{message}");
}

#[test]
fn what_is_written_at_the_depth_limit_is_read_and_one_level_more_is_refused() {
    let nested = |levels| (1..levels).fold(Nest(Vec::new()), |inner, _| Nest(vec![inner]));
    // A newtype and a list: two levels each.
    for codec in CODECS {
        let deepest = nested(63);
        assert_eq!(codec.decode::<Nest>(&encode(codec, &deepest)).unwrap(), deepest, "{codec:?}");
        let message = refused(codec, &nested(64));
        assert!(message.contains("127 levels"), "{message}");
    }
    let pairs =
        |levels| (0..levels).fold(Tree::Leaf(1), |inner, _| Tree::Pair(Box::new(inner), Box::new(Tree::Leaf(0))));
    for codec in CODECS {
        let deepest = pairs(63);
        assert_eq!(codec.decode::<Tree>(&encode(codec, &deepest)).unwrap(), deepest, "{codec:?}");
        refused(codec, &pairs(64));
    }
}
