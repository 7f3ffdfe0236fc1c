//! Whatever bytes come, a decoder answers with an error or with an event that is valid; it never panics.

use cache_events::wire::{self, WireError};
use cache_events::{Key, WriteToken};
use proptest::prelude::*;

use crate::samples::{event, full_event, token};

/// Decodes; if something comes out it must survive another trip.
fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(event) = wire::decode(bytes) {
        let again = wire::encode(&event).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(wire::decode(&again).unwrap(), event);
    }
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survives(&bytes)?;
        let _ = wire::decode_hint(&bytes);
    }

    #[test]
    fn arbitrary_bytes_behind_a_good_header(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survives(&[&[0xEC, 1, 0], &bytes[..]].concat())?;
    }

    #[test]
    fn an_envelope_with_one_byte_changed(event in event(), at: prop::sample::Index, byte: u8) {
        let mut bytes = wire::encode(&event).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        survives(&bytes)?;
    }

    #[test]
    fn an_envelope_cut_short_is_refused(event in event(), at: prop::sample::Index) {
        let bytes = wire::encode(&event).unwrap();
        prop_assert!(wire::decode(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn an_envelope_with_bytes_behind_it_is_refused(event in event(), more in proptest::collection::vec(any::<u8>(), 1..9)) {
        let bytes = [wire::encode(&event).unwrap(), more].concat();
        prop_assert!(wire::decode(&bytes).is_err());
    }

    #[test]
    fn arbitrary_text_is_a_token_or_an_error(text in "[A-Za-z0-9_-]{0,120}|\\PC{0,40}") {
        if let Ok(token) = text.parse::<WriteToken>() {
            prop_assert_eq!(token.to_string().parse::<WriteToken>().unwrap(), token);
        }
    }

    #[test]
    fn a_token_cut_short_is_refused_or_names_fewer_partitions(token in token(), at: prop::sample::Index) {
        let text = token.to_string();
        if let Ok(shorter) = text[..at.index(text.len())].parse::<WriteToken>() {
            prop_assert!(shorter.positions().len() < token.positions().len());
        }
    }
}

#[test]
fn every_truncation_and_every_single_bit_flip_of_an_envelope() {
    let bytes = wire::encode(&full_event()).unwrap();
    for end in 0..bytes.len() {
        assert!(wire::decode(&bytes[..end]).is_err(), "decoded from {end} of {} bytes", bytes.len());
    }
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        survives(&flipped).unwrap();
        assert_ne!(wire::decode(&flipped).ok(), Some(full_event()), "bit {bit} went unnoticed");
    }
}

#[test]
fn every_truncation_of_a_hint_is_refused_until_its_prefix_is_whole() {
    let hint = wire::encode_hint(cache_events::Partition(1), cache_events::Position::new(2, 3), b"envelope");
    for end in 0..hint.len() {
        assert_eq!(wire::decode_hint(&hint[..end]).is_ok(), end >= wire::HINT_PREFIX_BYTES, "{end} bytes");
    }
}

#[test]
fn announced_lengths_that_are_not_there_are_refused() {
    // A string, and a list, of 2^32 - 1 and of 2^63 items.
    for length in [vec![252, 0xff, 0xff, 0xff, 0xff], vec![253, 0, 0, 0, 0, 0, 0, 0, 0x80]] {
        let string = [&[0xEC, 1, 0], &length[..]].concat();
        assert!(matches!(wire::decode(&string), Err(WireError::Corrupt(_))));
        let before_list =
            [&[0xEC, 1, 0, 1, b'k'], &[0; 16][..], &[1, b'n', 0, 0, 1, b'r'], &length[..]].concat();
        assert!(matches!(wire::decode(&before_list), Err(WireError::Corrupt(_))));
    }
}

#[test]
fn other_versions_and_flags_are_told_apart_from_corruption() {
    let bytes = wire::encode(&full_event()).unwrap();
    for (at, byte) in [(1, 0), (1, 2), (2, 1), (2, 0x80)] {
        let mut other = bytes.clone();
        other[at] = byte;
        let (version, flags) = (other[1], other[2]);
        assert_eq!(wire::decode(&other), Err(WireError::Unsupported { version, flags }));
    }
    assert!(matches!(wire::decode(&[]), Err(WireError::Corrupt(_))));
    assert!(matches!(wire::decode(&[0xED, 1, 0]), Err(WireError::Corrupt(_))));
}

#[test]
fn names_inside_an_envelope_are_checked() {
    let bytes = wire::encode(&full_event()).unwrap();
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    for (from, to) in [
        ("edge_node_1f2e3d4c", "edge node 1f2e3d4c"),
        ("order_book", "ORDER BOOK"),
        ("gpu_pricing/H100/", "gpu_pricing/H1 0/"),
        ("provider:runpod", "provider:run\nod"),
        (r#"{"price":1650000}"#, r#"{"price";1650000}"#),
    ] {
        assert!(
            matches!(wire::decode(&replaced(from, to)), Err(WireError::Corrupt(_))),
            "{to:?} was accepted"
        );
    }
    assert!(Key::parse("gpu_pricing/H1 0/").is_err());
}
