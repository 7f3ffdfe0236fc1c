//! The record: golden bytes, both ways for both codecs, and everything that is refused.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use cache_events::{Key, Namespace, Position, Version};
use cache_l2::{
    BincodeCodec, Codec, CodecError, GROUPS_MAX, HEADER_BYTES, JsonCodec, RecordError, RecordFormat,
    RecordHead, SealError, VALUE_BYTES_LIMIT, epoch_of, fingerprint, position_of, seq_of, stamp_position,
    version_of, was_put,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Gpu {
    model: String,
    memory_gb: u32,
    price_micro_usd: Option<u64>,
    tags: Vec<(String, i64)>,
}

fn key(resource: &str) -> Key {
    Key::builder(&Namespace::new("gpu_info").unwrap(), resource).param("region", "us-east").build().unwrap()
}

fn format() -> RecordFormat {
    RecordFormat::new(fingerprint("gpu", 1))
}

fn head() -> RecordHead {
    RecordHead {
        origin: Position::new(0x0102_0304_0506_0708, 0x090a_0b0c_0d0e_0f10),
        version: Version(0x1112_1314_1516_1718),
        load_start: 0x18_0000_0001,
        soft_expiry: 0x18_0000_0002,
        hard_expiry: 0x18_0000_0003,
        load_cost_us: 1500,
        groups: vec![7, u64::MAX],
    }
}

/// The record as it would be with these bytes at this place, with a right checksum: what a hostile writer can make.
fn forged(record: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut forged = record.to_vec();
    forged[at..at + bytes.len()].copy_from_slice(bytes);
    resealed(forged)
}

fn resealed(mut record: Vec<u8>) -> Vec<u8> {
    let body = record.len() - 4;
    let sum = crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[20..body]);
    record[body..].copy_from_slice(&sum.to_be_bytes());
    record
}

fn refusal(record: &[u8]) -> &'static str {
    format()
        .open::<Gpu, _>(record, &key("H100"), &BincodeCodec)
        .map(|_| "nothing")
        .unwrap_or_else(|e| e.cause())
}

/// Why a record is refused, down to the last cause.
fn refusal_text(record: &[u8]) -> String {
    let error = format().open::<Gpu, _>(record, &key("H100"), &BincodeCodec).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    cause.unwrap_or_else(|| error.to_string())
}

#[test]
fn the_bytes_of_version_one_do_not_change() {
    let format =
        RecordFormat { fingerprint: 0xf1f2_f3f4_f5f6_f7f8, compress_above: None, value_bytes_max: 100 };
    let key = key("H100");
    assert_eq!(key.hash64(), 0x02c9_3cf4_f685_e7f2, "the hash of keys changed");
    let record = format.seal(&head(), &key, Some(&"abc".to_owned()), &JsonCodec).unwrap();
    let hex: Vec<String> = record.iter().map(|byte| format!("{byte:02x}")).collect();
    let golden = concat!(
        "45430100",         // EC, format 1, no flags
        "0102030405060708", // epoch
        "090a0b0c0d0e0f10", // seq
        "1112131415161718", // origin version
        "0000001800000001", // load start
        "0000001800000002", // soft expiry
        "0000001800000003", // hard expiry
        "000005dc",         // load cost
        "0200",             // JSON, not compressed
        "f1f2f3f4f5f6f7f8", // type
        "02c93cf4f685e7f2", // key
        "00000005",         // length
        "0002",             // groups
        "0000000000000007",
        "ffffffffffffffff",
        "2261626322", // "abc"
        "7af8f0ea",   // checksum
    );
    assert_eq!(hex.concat(), golden);
    assert_eq!(fingerprint("gpu", 1), 0x03bb_2f93_8325_fcbe);
}

#[test]
fn absence_is_a_value() {
    let record = format().seal::<Gpu, _>(&head(), &key("H100"), None, &BincodeCodec).unwrap();
    let opened = format().open::<Gpu, _>(&record, &key("H100"), &BincodeCodec).unwrap();
    assert_eq!((opened.head, opened.value, opened.raw_len), (head(), None, 0));
}

#[test]
fn a_long_value_is_compressed_only_where_that_makes_it_shorter() {
    let key = key("H100");
    let seal =
        |format: &RecordFormat, value: &Vec<u8>| format.seal(&head(), &key, Some(value), &JsonCodec).unwrap();
    let dull = vec![7; 5_000];
    let plain = RecordFormat { compress_above: None, ..format() };
    assert!(seal(&format(), &dull).len() * 10 < seal(&plain, &dull).len());
    let short = vec![7; 100];
    assert_eq!(seal(&format(), &short), seal(&plain, &short));

    let mut noise = 1_u64;
    let random: String = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(32 + (noise >> 33) as u8 % 95)
    })
    .take(5_000)
    .collect();
    let record = format().seal(&head(), &key, Some(&random), &BincodeCodec).unwrap();
    assert_eq!(record[57], 0, "noise of 5,000 bytes was compressed to {} bytes", record.len());
}

#[test]
fn a_put_stamps_its_position_and_the_record_stays_valid() {
    let record = format().seal(&head(), &key("H100"), Some(&gpu()), &BincodeCodec).unwrap();
    let mut stamped = record.to_vec();
    let position = Position::new(1_700_000_000_000_000, 42);
    assert!(stamp_position(&mut stamped, position));
    assert_eq!((position_of(&stamped), epoch_of(&stamped), seq_of(&stamped)), {
        (Some(position), Some(position.epoch), Some(42))
    });
    assert_eq!(version_of(&stamped), Some(head().version));
    assert!(!was_put(&stamped), "it says what its load took");
    let put =
        format().seal(&RecordHead { load_cost_us: 0, ..head() }, &key("H100"), Some(&gpu()), &BincodeCodec);
    assert!(was_put(&put.expect("sealed")));
    let opened = format().open::<Gpu, _>(&stamped, &key("H100"), &BincodeCodec).unwrap();
    assert_eq!(opened.head, RecordHead { origin: position, ..head() });
    assert_eq!(opened.value, Some(gpu()));

    for foreign in [&mut [0; 200][..], &mut record.to_vec()[..HEADER_BYTES - 1]] {
        let before = foreign.to_vec();
        assert!(!stamp_position(foreign, position));
        assert_eq!((foreign.to_vec(), position_of(foreign), version_of(foreign)), (before, None, None));
        assert!(!was_put(foreign));
    }
}

#[test]
fn a_record_of_another_key_type_codec_or_format_is_a_miss_with_its_name() {
    let (here, there) = (key("H100"), key("A100"));
    let record = format().seal(&head(), &here, Some(&gpu()), &BincodeCodec).unwrap();
    let cause = |error: Result<cache_l2::Opened<Gpu>, RecordError>| error.unwrap_err().cause();
    assert_eq!(cause(format().open(&record, &there, &BincodeCodec)), "foreign_key");
    let newer = RecordFormat::new(fingerprint("gpu", 2));
    assert_eq!(cause(newer.open(&record, &here, &BincodeCodec)), "other_type");
    assert_eq!(cause(format().open(&record, &here, &JsonCodec)), "other_codec");
    let strict = RecordFormat { value_bytes_max: 8, ..format() };
    assert_eq!(cause(strict.open(&record, &here, &BincodeCodec)), "over_limit");
    assert_eq!(refusal(&forged(&record, 2, &[2])), "format");
    assert_eq!(refusal(&forged(&record, 3, &[2])), "format", "an unknown flag");
    assert_eq!(refusal(&forged(&record, 57, &[2])), "other_codec", "an unknown compression");
    assert_eq!(refusal(&forged(&record, 78, &[0xff, 0xff])), "truncated", "more groups than bytes");
    assert_eq!(refusal(b""), "truncated");
    assert_eq!(refusal(&record), "nothing");
}

#[test]
fn false_lengths_are_refused_before_anything_is_allocated() {
    let dull = Gpu { model: "x".repeat(20_000), ..gpu() };
    let record = format().seal(&head(), &key("H100"), Some(&dull), &BincodeCodec).unwrap();
    assert_eq!(record[57], 1, "the record should be compressed");
    for (length, cause) in [
        (u32::MAX, "the record is over the limit of its namespace"),
        (1024 * 1024 + 1, "the record is over the limit of its namespace"),
        (1024 * 1024, "an impossible compression ratio"),
        (20_200, "shorter than its header says"),
        (100, "provided output is too small"),
        (0, "provided output is too small"),
    ] {
        let refused = refusal_text(&forged(&record, 74, &u32::to_be_bytes(length)));
        assert!(refused.contains(cause), "length {length}: {refused}");
    }
    let plain = format().seal(&head(), &key("H100"), Some(&gpu()), &BincodeCodec).unwrap();
    assert_eq!(refusal(&forged(&plain, 74, &[0, 0, 0, 1])), "truncated");
    // A text of a bincode value that claims to be 200 MB long.
    let hostile = [&[0xfc][..], &200_000_000_u32.to_le_bytes()].concat();
    assert!(Codec::<String>::decode(&BincodeCodec, &hostile).is_err());
    assert!(Codec::<Vec<u8>>::decode(&BincodeCodec, &hostile).is_err());
    let left_over = [0x01, b'x', b'y'];
    assert!(Codec::<String>::decode(&BincodeCodec, &left_over).is_err());
    assert!(Codec::<String>::decode(&BincodeCodec, &left_over[..2]).is_ok());
    assert!(Codec::<u32>::decode(&JsonCodec, b"1 2").is_err());
}

#[test]
fn what_seals_opens_again_up_to_the_limit_however_small_its_numbers() {
    // One byte each on the wire and sixteen in memory: the codec's own limit must not count the latter.
    for count in [1_000, 4_090, 4_100, 65_000, 66_000, 1_000_000, 1_048_571] {
        let value = vec![1_u128; count];
        let record = format().seal(&head(), &key("H100"), Some(&value), &BincodeCodec).unwrap();
        let opened = format().open::<Vec<u128>, _>(&record, &key("H100"), &BincodeCodec).unwrap();
        assert!(opened.value == Some(value), "{count} numbers");
    }
    let error = format().seal(&head(), &key("H100"), Some(&vec![1_u8; 1_048_572]), &BincodeCodec);
    assert!(matches!(error, Err(SealError::TooLarge { bytes: 1_048_577, max: 1_048_576 })), "{error:?}");
    let wide = RecordFormat { value_bytes_max: usize::MAX, ..format() };
    let error = wide.seal(&head(), &key("H100"), Some(&"x".repeat(VALUE_BYTES_LIMIT)), &BincodeCodec);
    assert!(matches!(error, Err(SealError::TooLarge { max: VALUE_BYTES_LIMIT, .. })));
}

#[test]
fn what_cannot_be_sealed_says_why() {
    let crowd = RecordHead { groups: vec![1; GROUPS_MAX + 1], ..head() };
    let error = format().seal(&crowd, &key("H100"), Some(&gpu()), &BincodeCodec).unwrap_err();
    assert_eq!(error.to_string(), "the value carries 257 groups; the limit is 256");

    struct Refuses;
    impl Codec<u8> for Refuses {
        fn id(&self) -> u8 {
            99
        }
        fn encode(&self, _: &u8) -> Result<Vec<u8>, CodecError> {
            Err(CodecError::new("no"))
        }
        fn decode(&self, _: &[u8]) -> Result<u8, CodecError> {
            Err(CodecError::new("no"))
        }
    }
    let codec: &dyn Codec<u8> = &Refuses;
    let error = format().seal(&head(), &key("H100"), Some(&1), codec).unwrap_err();
    assert!(matches!(error, SealError::Encode(_)), "{error}");
}

fn gpu() -> Gpu {
    Gpu {
        model: "H100".into(),
        memory_gb: 80,
        price_micro_usd: Some(2_990_000),
        tags: vec![("sxm".into(), -1), ("nvlink".into(), i64::MIN)],
    }
}

prop_compose! {
    fn any_gpu()(
        model in ".{0,40}",
        memory_gb: u32,
        price_micro_usd: Option<u64>,
        tags in prop::collection::vec((".{0,8}", any::<i64>()), 0..200),
    ) -> Gpu {
        Gpu { model, memory_gb, price_micro_usd, tags }
    }
}

prop_compose! {
    fn any_head()(
        numbers: [u64; 6],
        load_cost_us: u32,
        groups in prop::collection::vec(any::<u64>(), 0..=GROUPS_MAX),
    ) -> RecordHead {
        RecordHead {
            origin: Position::new(numbers[0], numbers[1]),
            version: Version(numbers[2]),
            load_start: numbers[3],
            soft_expiry: numbers[4],
            hard_expiry: numbers[5],
            load_cost_us,
            groups,
        }
    }
}

proptest! {
    #[test]
    fn what_is_sealed_opens_as_it_was(
        head in any_head(),
        gpu in any_gpu(),
        compress_above in prop::option::of(0_usize..3_000),
        json: bool,
    ) {
        let format = RecordFormat { compress_above, ..format() };
        let codec: Box<dyn Codec<Gpu>> = if json { Box::new(JsonCodec) } else { Box::new(BincodeCodec) };
        let record = format.seal(&head, &key("H100"), Some(&gpu), &*codec).unwrap();
        let opened = format.open(&record, &key("H100"), &*codec).unwrap();
        prop_assert_eq!(opened.raw_len, codec.encode(&gpu).unwrap().len());
        prop_assert_eq!(opened.head, head);
        prop_assert_eq!(opened.value, Some(gpu));
    }

    #[test]
    fn a_record_that_is_cut_short_is_refused(gpu in any_gpu(), at: prop::sample::Index) {
        let record = format().seal(&head(), &key("H100"), Some(&gpu), &BincodeCodec).unwrap();
        let cut = at.index(record.len());
        prop_assert_ne!(refusal(&record[..cut]), "nothing");
        prop_assert_ne!(refusal(&[&record[..], &record[..cut + 1]].concat()), "nothing");
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert_ne!(refusal(&bytes), "nothing");
        position_of(&bytes);
        let mut bytes = bytes;
        stamp_position(&mut bytes, Position::ZERO);
        // With everything right but what lies behind the groups: it may decode, it may not panic.
        for compression in [0, 1] {
            let empty = format().seal(&head(), &key("H100"), Some(&gpu()), &BincodeCodec).unwrap();
            let mut record = empty[..HEADER_BYTES + 16].to_vec();
            record[57] = compression;
            let length = bytes.len() as u32 * if compression == 1 { 3 } else { 1 };
            record[74..78].copy_from_slice(&length.to_be_bytes());
            record.extend(&bytes);
            record.extend([0; 4]);
            refusal(&resealed(record));
        }
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    for value in [gpu(), Gpu { model: "x".repeat(3_000), ..gpu() }] {
        let record = format().seal(&head(), &key("H100"), Some(&value), &BincodeCodec).unwrap();
        for at in (0..record.len()).filter(|at| !(4..20).contains(at)) {
            for change in [1, 0x80, 0xff] {
                let mut changed = record.to_vec();
                changed[at] ^= change;
                assert_ne!(refusal(&changed), "nothing", "byte {at} changed by {change:#x}");
            }
        }
    }
}
