use larder_codec::{
    AnyCodec, Compression, ReadFailure, decode_entry, decode_payload, decode_raw, encode_entry, encode_payload,
    raw_payload, read_header,
};
use larder_core::{
    ErrorKind,
    envelope::{CodecId, CompressionId, Header, Kind, Unreadable},
};
use proptest::prelude::*;

use crate::values::{CODECS, Ticker, ticker};

fn stored(codec: AnyCodec, compression: Compression, schema: u32) -> Vec<u8> {
    let mut header = Header::new(Kind::Value, CodecId::RAW);
    header.schema = schema;
    encode_entry(header, &ticker(), codec, compression).expect("a value that the format can express")
}

fn failure(bytes: &[u8], schema: u32) -> ReadFailure {
    decode_entry::<Ticker>(bytes, schema).expect_err("this is not readable")
}

#[test]
fn an_entry_comes_back_with_its_header_whatever_codec_and_compression() {
    for codec in CODECS {
        for compression in [Compression::none(), Compression::lz4(), Compression::zstd()] {
            let entry = decode_entry::<Ticker>(&stored(codec, compression.with_threshold(0), 7), 7).unwrap();
            assert_eq!(entry.value, ticker());
            assert_eq!((entry.header.codec, entry.header.schema), (codec.id(), 7));
        }
    }
}

#[test]
fn payload_and_header_can_be_handled_apart() {
    let payload = encode_payload(AnyCodec::Json, Compression::lz4().with_threshold(0), &vec![7_u8; 500]).unwrap();
    assert_eq!((payload.codec, payload.compression), (CodecId::JSON, CompressionId::LZ4));
    let mut header = Header::new(Kind::Value, payload.codec);
    header.compression = payload.compression;
    header.plain_len = payload.plain_len;
    let bytes = header.encode(&payload.bytes).unwrap();
    let (header, rest) = read_header(&bytes, 0, &[]).unwrap();
    assert_eq!(decode_payload::<Vec<u8>>(&header, rest).unwrap(), vec![7; 500]);
}

#[test]
fn raw_bytes_come_back_as_they_were_and_only_as_raw_bytes() {
    let payload = raw_payload(Compression::zstd().with_threshold(0), &[9; 3000]).unwrap();
    let mut header = Header::new(Kind::Value, payload.codec);
    header.compression = payload.compression;
    header.plain_len = payload.plain_len;
    assert_eq!(decode_raw(&header, &payload.bytes).unwrap(), vec![9; 3000]);
    assert_eq!(decode_payload::<Ticker>(&header, &payload.bytes).unwrap_err().kind(), ErrorKind::Unsupported);
    header.codec = CodecId::JSON;
    assert_eq!(decode_raw(&header, &payload.bytes).unwrap_err().kind(), ErrorKind::KindMismatch);
}

#[test]
fn only_a_wrong_length_or_checksum_may_be_removed() {
    let good = stored(AnyCodec::Json, Compression::none(), 1);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for broken in [&flipped[..], &good[..good.len() - 1], &good[..20], &[&good[..], b"x"].concat()] {
        assert!(failure(broken, 1).may_delete());
        assert_eq!(failure(broken, 1).as_str(), "corrupt");
    }
}

#[test]
fn everything_else_is_left_alone_and_says_why() {
    let good = stored(AnyCodec::Json, Compression::none(), 1);
    let mut newer = good.clone();
    newer[4] = 2;
    let remake = |change: &dyn Fn(&mut Header)| {
        let (mut header, payload) = Header::decode(&good).unwrap();
        change(&mut header);
        header.encode(payload).unwrap()
    };
    for (bytes, schema, reason) in [
        (b"42".to_vec(), 1, "foreign"),
        (newer, 1, "unknown_version"),
        (good.clone(), 2, "schema"),
        (remake(&|header| header.codec = CodecId(200)), 1, "unknown_codec"),
        (remake(&|header| header.compression = CompressionId(200)), 1, "unknown_compression"),
        (remake(&|header| header.kind = Kind::Placeholder), 1, "no_value"),
        (remake(&|header| header.codec = CodecId::POSTCARD), 1, "payload"),
        (remake(&|header| header.plain_len += 1), 1, "payload"),
    ] {
        let failure = failure(&bytes, schema);
        assert_eq!(failure.as_str(), reason, "{failure}");
        assert!(!failure.may_delete(), "{failure}");
        assert!(!failure.to_string().is_empty());
    }
}

#[test]
fn an_unknown_kind_is_left_alone() {
    // The kind lies under the checksum: a newer release would have written a right one.
    let mut bytes = stored(AnyCodec::Json, Compression::none(), 1);
    bytes[5] = 200;
    assert!(matches!(failure(&bytes, 1), ReadFailure::Unreadable(Unreadable::Corrupt)));
    let sum = checksum(&bytes);
    bytes[64..72].copy_from_slice(&sum.to_le_bytes());
    assert!(matches!(failure(&bytes, 1), ReadFailure::Unreadable(Unreadable::UnknownKind)));
}

/// The rule of `docs/wire-format.md`, written down a second time.
fn checksum(bytes: &[u8]) -> u64 {
    let mut fixed = bytes[..72].to_vec();
    fixed[24..48].fill(0);
    fixed[64..72].fill(0);
    xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[72..], xxhash_rust::xxh3::xxh3_64(&fixed))
}

#[test]
fn schema_zero_accepts_any() {
    assert!(decode_entry::<Ticker>(&stored(AnyCodec::Json, Compression::none(), 77), 0).is_ok());
}

#[test]
fn an_entry_that_was_cut_off_anywhere_is_an_error() {
    let bytes = stored(AnyCodec::MessagePack, Compression::none(), 0);
    for length in 0..bytes.len() {
        assert!(decode_entry::<Ticker>(&bytes[..length], 0).is_err());
    }
}

proptest! {
    #[test]
    fn no_payload_behind_a_right_header_makes_a_reader_panic(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        codec in 0_u8..5,
        compression in 0_u8..4,
        plain_len in 0_usize..100_000,
    ) {
        let mut header = Header::new(Kind::Value, CodecId(codec));
        header.compression = CompressionId(compression);
        header.plain_len = plain_len;
        let bytes = header.encode(&payload).unwrap();
        prop_assert!(decode_entry::<Ticker>(&bytes, 0).is_err());
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(decode_entry::<Ticker>(&bytes, 0).is_err());
    }
}
