//! Bytes and numbers that deployed nodes hold. A test here that fails means a new wire version, never a new constant.

use cache_events::{
    Group, Key, Namespace, Partition, Position, Tag, WriteToken, hash64, resource_hash, wire,
};

use crate::samples::{full_event, namespace_named};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The envelope of [`full_event`], field by field.
fn envelope() -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    [
        vec![0xEC, 1, 0],
        text("pricing_updated"),
        // UUIDv7: 48 bits of milliseconds, the version, the variant, the random bytes.
        vec![0x01, 0x99, 0xc8, 0x2c, 0xc0, 0x7b, 0x71, 0x02, 0x83, 0x04, 5, 6, 7, 8, 9, 10],
        text("edge_node_1f2e3d4c"),
        // 253 announces a 64-bit number, little endian.
        vec![253, 0x7b, 0xc0, 0x2c, 0xc8, 0x99, 0x01, 0, 0],
        vec![1],
        text("price moved"),
        text("H100"),
        vec![2],
        text("gpu_pricing"),
        text("order_book"),
        vec![6],
        vec![0],
        text("gpu_pricing/H100/region=us-east"),
        vec![1],
        text("gpu_pricing"),
        text("A100"),
        vec![2],
        text("provider:runpod"),
        vec![3],
        text("order_book"),
        vec![4],
        text("gpu_pricing"),
        text("region=us-*"),
        vec![5],
        vec![1],
        text(r#"{"price":1650000}"#),
        vec![1],
    ]
    .concat()
}

#[test]
fn an_envelope_of_version_1_keeps_its_bytes() {
    let bytes = wire::encode(&full_event()).unwrap();
    assert_eq!(hex(&bytes), hex(&envelope()));
    assert_eq!(wire::decode(&envelope()).unwrap(), full_event());
}

#[test]
fn a_hint_is_its_place_in_big_endian_and_the_envelope() {
    let hint = wire::encode_hint(Partition(7), Position::new(0x0005_0000_0000_0001, 42), b"rest");
    assert_eq!(hex(&hint), "000000070005000000000001000000000000002a72657374");
    let (partition, position, rest) = wire::decode_hint(&hint).unwrap();
    assert_eq!(
        (partition, position, rest),
        (Partition(7), Position::new(0x0005_0000_0000_0001, 42), &b"rest"[..])
    );
}

#[test]
fn a_write_token_keeps_its_text() {
    let mut token = WriteToken::single(Partition(3), Position::new(9, 258));
    token.add(Partition(u32::MAX), Position::new(1, 2));
    let text = "AQAAAAMAAAAAAAAACQAAAAAAAAEC_____wAAAAAAAAABAAAAAAAAAAI";
    assert_eq!(token.to_string(), text);
    assert_eq!(text.parse::<WriteToken>().unwrap(), token);
}

#[test]
fn hashes_are_xxh3_over_length_prefixed_fields() {
    // The published value of XXH3 (64 bit) over no bytes; the others were computed with the reference library.
    assert_eq!(hash64([]), 0x2d06_8005_38d3_94c2);
    assert_eq!(hash64([&b"ab"[..], b"c"]), 0x6d5f_7d8c_2045_61ef);
    assert_eq!(hash64([&b"a"[..], b"bc"]), 0x5892_a711_d107_e652);
}

#[test]
fn keys_keep_their_text_hash_and_partition() {
    // namespace, resource, parameters, text, hash, resource hash, partition of 32
    type Row =
        (&'static str, &'static str, &'static [(&'static str, &'static str)], &'static str, u64, u64, u32);
    let rows: [Row; 4] = [
        (
            "gpu_pricing",
            "H100",
            &[("region", "us-east"), ("currency", "usd")],
            "gpu_pricing/H100/currency=usd&region=us-east",
            0xe972_a240_4c89_9132,
            0x9c38_2d81_2763_05b0,
            16,
        ),
        (
            "gpu_avail",
            "runpod/H100_80GB_SXM5/1",
            &[],
            "gpu_avail/runpod%2FH100_80GB_SXM5%2F1/",
            0xbfc2_791c_2be8_6c28,
            0xbfc2_791c_2be8_6c28,
            8,
        ),
        (
            "session",
            "ä *%",
            &[("k=", ""), ("&", "/?")],
            "session/%C3%A4%20%2A%25/%26=%2F%3F&k%3D=",
            0xb49f_17f0_1c5a_a23e,
            0xf9f0_50f7_4448_756f,
            15,
        ),
        (
            "a.b-c_0",
            "x~y:z@,-_.",
            &[],
            "a.b-c_0/x~y:z@,-_./",
            0x62b5_b707_a458_70da,
            0x62b5_b707_a458_70da,
            26,
        ),
    ];
    let mut actual = Vec::new();
    let mut expected = Vec::new();
    for (namespace, resource, params, text, hash, resource_hash_of, partition) in rows {
        let namespace = Namespace::new(namespace).unwrap();
        let start = Key::builder(&namespace, resource);
        let key =
            params.iter().fold(start, |builder, (name, value)| builder.param(name, value)).build().unwrap();
        assert_eq!(key.resource_hash(), resource_hash(&namespace, resource));
        actual.push((key.to_string(), key.hash64(), key.resource_hash(), key.partition(32).0));
        expected.push((text.to_owned(), hash, resource_hash_of, partition));
    }
    assert_eq!(actual, expected);
}

#[test]
fn groups_keep_their_text_and_id() {
    let tag = Group::tag(&Tag::new("provider:runpod").unwrap());
    let namespace = Group::namespace(&namespace_named("order_book"));
    assert_eq!((tag.as_str(), namespace.as_str()), ("t:provider:runpod", "n:order_book"));
    assert_eq!(tag.id(), hash64([&b"t:provider:runpod"[..]]));
    assert_eq!(Group::id_of("n:order_book"), namespace.id());
    assert_eq!((tag.id(), namespace.id()), (0x7d75_4399_3790_d313, 0xfd97_0830_c2b2_407d));
}

#[test]
fn one_partition_takes_all_and_zero_counts_as_one() {
    assert_eq!(Partition::of(u64::MAX, 1), Partition(0));
    assert_eq!(Partition::of(u64::MAX, 0), Partition(0));
    assert_eq!(Partition::of(u64::MAX, 32), Partition(31));
    assert_eq!(Partition::of(1 << 40, u32::MAX), Partition(256));
}

#[test]
fn a_position_is_spelled_as_the_id_of_its_log_entry() {
    assert_eq!(Position::new(17, 4).to_string(), "17-4");
    assert_eq!("17-4".parse::<Position>().unwrap(), Position::new(17, 4));
    assert_eq!(Position::new(17, 4).next(), Position::new(17, 5));
    assert!(Position::new(2, 0) > Position::new(1, u64::MAX));
    for wrong in
        ["", "17", "17-", "-4", "17-4-1", "9007199254740992-0", "0-9007199254740992", "a-b", "+1-2", "01-2"]
    {
        assert!(wrong.parse::<Position>().is_err(), "{wrong:?} was read as a position");
    }
}
