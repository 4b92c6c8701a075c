use std::collections::BTreeMap;

use larder_codec::AnyCodec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use crate::values::{CODECS, Chain, Tree, encode, ticker};

#[test]
fn a_value_comes_back_as_it_was_in_every_codec() {
    for codec in CODECS {
        let decoded: super::values::Ticker = codec.decode(&encode(codec, &ticker())).unwrap();
        assert_eq!(decoded, ticker(), "{codec:?}");
    }
}

#[test]
fn a_top_level_option_comes_back_in_every_codec() {
    for codec in CODECS {
        for value in [None, Some(7_u32)] {
            assert_eq!(codec.decode::<Option<u32>>(&encode(codec, &value)).unwrap(), value, "{codec:?}");
        }
        assert_eq!(codec.decode::<Chain>(&encode(codec, &Chain(None))).unwrap(), Chain(None));
        codec.decode::<()>(&encode(codec, &())).unwrap();
    }
}

#[test]
fn postcard_keeps_every_level_of_an_option_apart() {
    for value in [None, Some(None), Some(Some(3_u8))] {
        let bytes = encode(AnyCodec::Postcard, &value);
        assert_eq!(AnyCodec::Postcard.decode::<Option<Option<u8>>>(&bytes).unwrap(), value);
    }
    let bytes = encode(AnyCodec::Postcard, &Some(()));
    assert_eq!(AnyCodec::Postcard.decode::<Option<()>>(&bytes).unwrap(), Some(()));
}

#[test]
fn integers_at_the_ends_of_their_ranges_come_back() {
    type Ends = (i64, u64, i128, u128, char, [u8; 3]);
    let ends: Ends = (i64::MIN, u64::MAX, i128::MIN, u128::MAX, '\u{10ffff}', [0, 127, 255]);
    for codec in CODECS {
        assert_eq!(codec.decode::<Ends>(&encode(codec, &ends)).unwrap(), ends, "{codec:?}");
    }
}

#[derive(Debug, PartialEq, Serialize)]
struct Old {
    id: u32,
    gone: String,
}

#[derive(Debug, PartialEq, Deserialize)]
struct New {
    #[serde(default)]
    added: u8,
    id: u32,
}

#[test]
fn named_fields_survive_fields_that_were_added_removed_and_moved() {
    for codec in [AnyCodec::Json, AnyCodec::MessagePack] {
        let bytes = encode(codec, &Old { id: 5, gone: "x".to_owned() });
        assert_eq!(codec.decode::<New>(&bytes).unwrap(), New { added: 0, id: 5 }, "{codec:?}");
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Point {
    x: i8,
    y: i8,
}

#[test]
fn messagepack_without_names_is_read_too() {
    // An array of two.
    assert_eq!(AnyCodec::MessagePack.decode::<Point>(&[0x92, 1, 2]).unwrap(), Point { x: 1, y: 2 });
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![any::<i64>().prop_map(Tree::Leaf), any::<String>().prop_map(Tree::Text)];
    leaf.prop_recursive(6, 64, 5, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            proptest::option::of(boxed.clone()).prop_map(Tree::Maybe),
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Tree::Many),
            (boxed.clone(), boxed.clone()).prop_map(|(left, right)| Tree::Pair(left, right)),
            (boxed, proptest::collection::btree_map(any::<String>(), inner, 0..4))
                .prop_map(|(left, rest)| Tree::Named { left, rest }),
        ]
    })
}

proptest! {
    #[test]
    fn every_tree_comes_back_from_every_codec(tree in trees()) {
        for codec in CODECS {
            let decoded: Tree = codec.decode(&encode(codec, &tree)).unwrap();
            prop_assert_eq!(&decoded, &tree);
        }
    }

    #[test]
    fn every_finite_number_comes_back_bit_for_bit(wide in any::<f64>(), narrow in any::<f32>()) {
        prop_assume!(wide.is_finite() && narrow.is_finite());
        for codec in CODECS {
            let (back_wide, back_narrow): (f64, f32) = codec.decode(&encode(codec, &(wide, narrow))).unwrap();
            prop_assert_eq!(back_wide.to_bits(), wide.to_bits());
            prop_assert_eq!(back_narrow.to_bits(), narrow.to_bits());
        }
    }

    #[test]
    fn maps_with_integer_keys_come_back(map in any::<BTreeMap<i64, Option<bool>>>()) {
        for codec in CODECS {
            prop_assert_eq!(&codec.decode::<BTreeMap<i64, Option<bool>>>(&encode(codec, &map)).unwrap(), &map);
        }
    }
}
