//! Keys: canonical text, and nothing that two different keys share.

use std::collections::HashMap;

use cache_events::Key;
use proptest::prelude::*;

use crate::samples::{key, key_of, namespace, namespace_named, params, text};

/// Characters that mean something to Redis, to patterns or to URLs.
const RESERVED: [char; 5] = ['*', '?', ' ', '{', '}'];

proptest! {
    #[test]
    fn a_key_reads_back_from_its_text(key in key()) {
        let text = key.to_string();
        let back = Key::parse(&text).unwrap();
        prop_assert_eq!(&back, &key);
        prop_assert_eq!(back.hash64(), key.hash64());
        prop_assert_eq!(back.resource_hash(), key.resource_hash());
        prop_assert_eq!(back.to_string(), text);
    }

    #[test]
    fn a_key_reads_back_from_json(key in key()) {
        let json = serde_json::to_string(&key).unwrap();
        prop_assert_eq!(serde_json::from_str::<Key>(&json).unwrap(), key);
    }

    #[test]
    fn the_order_of_parameters_does_not_matter(
        namespace in namespace(),
        resource in text(),
        (sorted, shuffled) in params().prop_flat_map(|params| (Just(params.clone()), Just(params).prop_shuffle())),
    ) {
        let (one, other) = (key_of(&namespace, &resource, &sorted), key_of(&namespace, &resource, &shuffled));
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(one.hash64(), other.hash64());
        prop_assert_eq!(one.to_string(), other.to_string());
    }

    #[test]
    fn distinct_keys_have_distinct_texts_and_hashes(keys in proptest::collection::vec(key(), 2..40)) {
        let mut by_text = HashMap::new();
        let mut by_hash = HashMap::new();
        for key in keys {
            let known = by_text.entry(key.to_string()).or_insert_with(|| key.clone());
            prop_assert_eq!(&*known, &key);
            let known = by_hash.entry(key.hash64()).or_insert_with(|| key.clone());
            prop_assert_eq!(&*known, &key);
        }
    }

    #[test]
    fn the_text_has_exactly_its_own_separators(key in key()) {
        let text = key.to_string();
        prop_assert!(text.is_ascii());
        prop_assert_eq!(text.matches('/').count(), 2);
        prop_assert_eq!(text.matches('=').count(), key.params().len());
        prop_assert_eq!(text.matches('&').count(), key.params().len().saturating_sub(1));
        prop_assert!(!text.contains(RESERVED), "reserved bytes in {}", text);
    }

    #[test]
    fn variants_of_a_resource_share_its_partition(
        namespace in namespace(), resource in text(), one in params(), other in params(), partitions in 1_u32..100,
    ) {
        let (one, other) = (key_of(&namespace, &resource, &one), key_of(&namespace, &resource, &other));
        prop_assert_eq!(one.partition(partitions), other.partition(partitions));
        prop_assert!(one.partition(partitions).0 < partitions);
    }

    #[test]
    fn reading_arbitrary_text_gives_an_error_or_the_key_of_exactly_that_text(text in "[a-c%/=&2F]{0,16}|\\PC{0,16}") {
        if let Ok(key) = Key::parse(&text) {
            prop_assert_eq!(key.to_string(), text);
        }
    }
}

#[test]
fn texts_that_no_key_writes_are_refused() {
    for wrong in [
        "",
        "ns",
        "ns/",
        "ns/a",
        "ns//",
        "NS/a/",
        "/a/",
        "ns/a/b",
        "ns/a/=v",
        "ns/a/b=1&b=2",
        "ns/a/b=1&a=2",
        "ns/a/&a=1",
        "ns/a/a=1&",
        "ns/%61/",
        "ns/%2f/",
        "ns/a b/",
        "ns/%FF/",
        "ns/a/b=%FF",
        "ns/a/b=1/c",
    ] {
        assert!(Key::parse(wrong).is_err(), "{wrong:?} was read as a key");
    }
}

#[test]
fn fields_do_not_run_into_each_other() {
    let ns = namespace_named("ns");
    let key = |resource: &str, params: &[(&str, &str)]| {
        let params: Vec<_> =
            params.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        key_of(&ns, resource, &params)
    };
    let keys = [
        key("a", &[]),
        key("a/", &[]),
        key("a/b=c", &[]),
        key("a", &[("b", "c")]),
        key("a", &[("b", "")]),
        key("a", &[("b", "c&d=e")]),
        key("a", &[("b", "c"), ("d", "e")]),
        key("a", &[("b=c", "")]),
        key("a%2F", &[]),
    ];
    for (at, one) in keys.iter().enumerate() {
        for other in &keys[at + 1..] {
            assert_ne!(one, other);
            assert_ne!(one.to_string(), other.to_string());
            assert_ne!(one.hash64(), other.hash64());
        }
    }
}
