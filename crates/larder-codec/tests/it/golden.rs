//! Entries as release 0.1 wrote them, which every later release must read: see `tests/golden/README.md`.

use std::{fs, path::PathBuf};

use larder_codec::{
    AnyCodec, Compression, ReadFailure, decode_entry, decode_raw, encode_entry, raw_payload, read_header,
};
use larder_core::{
    Tag, UnixMillis,
    envelope::{CodecId, CompressionId, Header, Kind, TagVersion, Unreadable},
};

use crate::values::{Ticker, ticker};

const SCHEMA: u32 = 0x5EED_0001;

fn header(kind: Kind) -> Header {
    let mut header = Header::new(kind, CodecId::RAW);
    header.write_id = 0x0123_4567_89AB_CDEF;
    header.schema = SCHEMA;
    header.load_cost_us = 42_000;
    header.fresh_until = UnixMillis(1_700_000_060_000);
    header.stale_until = UnixMillis(1_700_000_120_000);
    header.ttl_ms = 120_000;
    header
}

fn tagged() -> Header {
    let mut header = header(Kind::Value);
    header.tags.push(TagVersion { tag: Tag::from("symbol:BTCUSDT"), version: 0x1122_3344_5566_7788 });
    header
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.bin"))
}

/// The file's bytes; with `LARDER_BLESS=1` it is written first.
fn golden(name: &str, today: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = path(name);
    if std::env::var_os("LARDER_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, today()).expect("the folder is there and can be written to");
    }
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; LARDER_BLESS=1 writes it", path.display()))
}

fn candles() -> Vec<(u64, f64)> {
    (0..100_u32).map(|step| (1_700_000_000 + 60 * u64::from(step), 100.0 + f64::from(step % 7) / 4.0)).collect()
}

#[test]
fn values_are_written_as_they_always_were_and_read() {
    for (name, codec) in
        [("json", AnyCodec::Json), ("msgpack", AnyCodec::MessagePack), ("postcard", AnyCodec::Postcard)]
    {
        let today = || encode_entry(tagged(), &ticker(), codec, Compression::none()).unwrap();
        let bytes = golden(name, today);
        assert_eq!(bytes, today(), "{name}: the encoder writes something else than it did");
        let entry = decode_entry::<Ticker>(&bytes, SCHEMA).unwrap();
        assert_eq!(entry.value, ticker());
        assert_eq!(entry.header.tags, tagged().tags);
        assert_eq!((entry.header.write_id, entry.header.ttl_ms), (0x0123_4567_89AB_CDEF, 120_000));
    }
}

#[test]
fn compressed_values_are_read() {
    // Only read: another version of the library may compress otherwise, which is no change of the format.
    for (name, compression, id) in
        [("lz4", Compression::lz4(), CompressionId::LZ4), ("zstd", Compression::zstd(), CompressionId::ZSTD)]
    {
        let bytes =
            golden(name, || encode_entry(header(Kind::Value), &candles(), AnyCodec::MessagePack, compression).unwrap());
        let entry = decode_entry::<Vec<(u64, f64)>>(&bytes, SCHEMA).unwrap();
        assert_eq!(entry.value, candles());
        assert_eq!(entry.header.compression, id);
    }
}

#[test]
fn raw_bytes_are_written_as_they_always_were_and_read() {
    let today = || {
        let payload = raw_payload(Compression::none(), b"as it is").unwrap();
        let mut header = header(Kind::Value);
        header.plain_len = payload.plain_len;
        header.encode(&payload.bytes).unwrap()
    };
    let bytes = golden("raw", today);
    assert_eq!(bytes, today());
    let (header, payload) = read_header(&bytes, SCHEMA, &[]).unwrap();
    assert_eq!(decode_raw(&header, payload).unwrap(), b"as it is");
}

#[test]
fn what_is_no_value_is_written_as_it_always_was_and_told_apart() {
    for (name, kind) in [("placeholder", Kind::Placeholder), ("hold", Kind::Hold), ("negative", Kind::Negative)] {
        let today = || header(kind).encode(&[]).unwrap();
        let bytes = golden(name, today);
        assert_eq!(bytes, today(), "{name}");
        assert_eq!(read_header(&bytes, SCHEMA, &[]).unwrap().0.kind, kind);
        assert!(matches!(decode_entry::<Ticker>(&bytes, SCHEMA), Err(ReadFailure::NoValue(found)) if found == kind));
    }
}

#[test]
fn an_entry_of_a_newer_version_is_a_miss_that_is_left_alone() {
    let bytes = golden("newer-version", || {
        let mut bytes = encode_entry(tagged(), &ticker(), AnyCodec::Json, Compression::none()).unwrap();
        bytes[4] = 2;
        // A newer version may be laid out in another way; only magic and version are certain.
        bytes.truncate(60);
        bytes
    });
    let failure = decode_entry::<Ticker>(&bytes, SCHEMA).unwrap_err();
    assert!(matches!(failure, ReadFailure::Unreadable(Unreadable::UnknownVersion)));
    assert!(!failure.may_delete());
}

#[test]
fn an_entry_of_a_newer_codec_is_a_miss_that_is_left_alone() {
    let bytes = golden("newer-codec", || {
        let mut header = tagged();
        header.codec = CodecId(200);
        header.plain_len = 3;
        header.encode(b"new").unwrap()
    });
    let failure = decode_entry::<Ticker>(&bytes, SCHEMA).unwrap_err();
    assert_eq!(failure.as_str(), "unknown_codec");
    assert!(!failure.may_delete());
}

#[test]
fn the_dump_in_the_docs_is_the_file() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/wire-format.md");
    let text = fs::read_to_string(&docs).unwrap_or_else(|error| panic!("{}: {error}", docs.display()));
    let dump = text.split("```text").nth(1).and_then(|rest| rest.split("```").next()).expect("there is a dump");
    let mut bytes = Vec::new();
    for line in dump.lines().filter(|line| !line.is_empty()) {
        let (offset, rest) = line.split_at(3);
        assert_eq!(usize::from_str_radix(offset, 16).unwrap(), bytes.len(), "{line}");
        let hex = rest.trim_start().split("  ").next().unwrap();
        bytes.extend(hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    assert_eq!(bytes, fs::read(path("postcard")).unwrap());
}
