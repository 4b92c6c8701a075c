use larder_codec::{Compression, DEFAULT_THRESHOLD, decompress};
use larder_core::{ErrorKind, envelope::CompressionId};
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;
const KINDS: [Compression; 2] = [Compression::lz4(), Compression::zstd()];

fn repetitive(length: usize) -> Vec<u8> {
    b"open high low close ".iter().copied().cycle().take(length).collect()
}

#[test]
fn a_payload_above_the_threshold_shrinks_and_comes_back() {
    let plain = repetitive(10_000);
    for (policy, id) in KINDS.into_iter().zip([CompressionId::LZ4, CompressionId::ZSTD]) {
        let (used, bytes) = policy.compress(plain.clone()).unwrap();
        assert_eq!(used, id);
        assert!(bytes.len() < plain.len() / 10);
        assert_eq!(*decompress(used, &bytes, plain.len(), LIMIT).unwrap(), plain);
    }
}

#[test]
fn a_payload_below_the_threshold_stays_as_it_is() {
    for policy in KINDS {
        assert_eq!(policy.compress(repetitive(DEFAULT_THRESHOLD - 1)).unwrap().0, CompressionId::NONE);
        assert_ne!(policy.compress(repetitive(DEFAULT_THRESHOLD)).unwrap().0, CompressionId::NONE);
        assert_ne!(policy.with_threshold(100).compress(repetitive(100)).unwrap().0, CompressionId::NONE);
    }
}

#[test]
fn a_payload_that_would_grow_stays_as_it_is() {
    // Without any repetition: the numbers of a multiplicative generator.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state.to_be_bytes()[0]
    })
    .take(5000)
    .collect();
    for policy in KINDS {
        let (used, bytes) = policy.compress(noise.clone()).unwrap();
        assert_eq!((used, bytes), (CompressionId::NONE, noise.clone()));
    }
}

#[test]
fn another_length_than_announced_is_an_error() {
    let plain = repetitive(5000);
    for policy in KINDS {
        let (id, bytes) = policy.compress(plain.clone()).unwrap();
        for wrong in [0, 1, plain.len() - 1, plain.len() + 1] {
            let error = decompress(id, &bytes, wrong, LIMIT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode, "{id:?} {wrong}");
        }
    }
    assert_eq!(decompress(CompressionId::NONE, b"abc", 4, LIMIT).unwrap_err().kind(), ErrorKind::Decode);
}

#[test]
fn nothing_is_decompressed_beyond_the_limit() {
    for policy in KINDS {
        let (id, bytes) = policy.compress(repetitive(5000)).unwrap();
        assert_eq!(decompress(id, &bytes, 5000, 4999).unwrap_err().kind(), ErrorKind::TooLarge);
        assert!(decompress(id, &bytes, 5000, 5000).is_ok());
    }
}

#[test]
fn lz4_does_not_believe_a_length_that_its_bytes_cannot_hold() {
    let error = decompress(CompressionId::LZ4, &[0; 10], 1 << 29, 1 << 29).unwrap_err();
    assert!(error.to_string().contains("cannot hold"), "{error}");
}

#[test]
fn an_unknown_compression_and_a_wrong_level_are_named() {
    let error = decompress(CompressionId(9), b"", 0, LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains('9'), "{error}");
    let error = Compression::zstd().with_level(40).check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("1 to 19"), "{error}");
}

#[test]
fn the_level_reaches_zstd() {
    // Words in an order that does not repeat: a thorough search finds more in it than a quick one.
    let words = ["open", "high", "low", "close", "volume", "bid", "ask", "trade", "candle", "symbol"];
    let mut state = 7_u64;
    let text: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        words[usize::from(state.to_be_bytes()[0]) % words.len()]
    })
    .take(20_000)
    .collect();
    let size = |level| Compression::zstd().with_level(level).compress(text.clone().into_bytes()).unwrap().1.len();
    assert!(size(19) < size(1), "{} {}", size(19), size(1));
}

proptest! {
    #[test]
    fn whatever_is_compressed_comes_back(plain in proptest::collection::vec(0_u8..4, 0..4000)) {
        for policy in KINDS {
            let (id, bytes) = policy.with_threshold(0).compress(plain.clone()).unwrap();
            prop_assert_eq!(&*decompress(id, &bytes, plain.len(), LIMIT).unwrap(), &plain[..]);
        }
    }

    #[test]
    fn no_bytes_make_decompression_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), length in 0..LIMIT) {
        for id in [CompressionId::LZ4, CompressionId::ZSTD] {
            if let Ok(plain) = decompress(id, &bytes, length, LIMIT) {
                prop_assert_eq!(plain.len(), length);
            }
        }
    }
}
