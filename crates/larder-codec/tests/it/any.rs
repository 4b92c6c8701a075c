use larder_codec::{AnyCodec, Codec, Json, MessagePack, Postcard};
use larder_core::{ErrorKind, envelope::CodecId};

use crate::values::{CODECS, encode, ticker};

#[test]
fn a_codec_is_found_by_its_id_and_by_its_name() {
    for codec in CODECS {
        assert_eq!(AnyCodec::from_id(codec.id()).unwrap(), codec);
        assert_eq!(AnyCodec::by_name(codec.id().name()).unwrap(), codec);
    }
    assert_eq!(AnyCodec::from(Json).id(), Json::ID);
    assert_eq!(AnyCodec::from(MessagePack).id(), MessagePack::ID);
    assert_eq!(AnyCodec::from(Postcard).id(), Postcard::ID);
}

#[test]
fn an_unknown_codec_is_named_in_the_error() {
    let by_name = AnyCodec::by_name("xml").unwrap_err();
    assert_eq!(by_name.kind(), ErrorKind::Unsupported);
    assert!(by_name.to_string().contains("json, msgpack and postcard"), "{by_name}");
    let by_id = AnyCodec::from_id(CodecId(77)).unwrap_err();
    assert_eq!(by_id.kind(), ErrorKind::Unsupported);
    assert!(by_id.to_string().contains("77"), "{by_id}");
}

#[test]
fn a_codec_as_a_type_and_at_run_time_writes_the_same() {
    let mut typed = Vec::new();
    MessagePack.encode(&ticker(), &mut typed).unwrap();
    assert_eq!(typed, encode(AnyCodec::MessagePack, &ticker()));
}

#[test]
fn a_codec_appends_and_an_error_leaves_nothing_behind() {
    for codec in CODECS {
        let mut out = b"before".to_vec();
        codec.encode(&1_u8, &mut out).unwrap();
        assert!(out.starts_with(b"before") && out.len() > 6);
    }
    // The key is refused by JSON itself, after the map's brace was written.
    let mut out = b"before".to_vec();
    let map = std::collections::BTreeMap::from([((1, 2), 3)]);
    assert_eq!(AnyCodec::Json.encode(&map, &mut out).unwrap_err().kind(), ErrorKind::Encode);
    assert_eq!(out, b"before");
}
