//! Patterns against a dull model that tries every way to cut a field.

use cache_events::{Key, Pattern};
use proptest::prelude::*;

use crate::samples::{key_of, namespace_named};

/// `*` = any run of characters, by trying them all.
fn field_model(pattern: &[char], field: &[char]) -> bool {
    match pattern.split_first() {
        None => field.is_empty(),
        Some(('*', rest)) => (0..=field.len()).any(|cut| field_model(rest, &field[cut..])),
        Some((first, rest)) => field.first() == Some(first) && field_model(rest, &field[1..]),
    }
}

fn covers_model(pattern: &str, key: &Key) -> bool {
    let field = |pattern: &str, field: &str| {
        field_model(&pattern.chars().collect::<Vec<_>>(), &field.chars().collect::<Vec<_>>())
    };
    let pair = |pattern: &str| {
        let Some(equals) = pattern.find('=') else { return false };
        let (name, value) = (&pattern[..equals], &pattern[equals + 1..]);
        key.params().any(|pair| field(name, pair.0) && field(value, pair.1))
    };
    if pattern == "*" {
        return true;
    }
    match pattern.find('?') {
        None => field(pattern, key.resource()) || pair(pattern),
        Some(at) => {
            let wanted = pattern[at + 1..].split('&').filter(|wanted| !wanted.is_empty());
            field(&pattern[..at], key.resource()) && wanted.into_iter().all(pair)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_pattern_covers_what_the_model_covers(
        pattern in "[ab*/ä=?&]{1,8}",
        resource in "[ab/ä*=]{1,6}",
        params in proptest::collection::btree_map("[ab]{1,2}", "[ab/ä=]{0,3}", 0..3),
    ) {
        let key = key_of(&namespace_named("ns"), &resource, &params.into_iter().collect::<Vec<_>>());
        let expected = covers_model(&pattern, &key);
        prop_assert_eq!(Pattern::new(&pattern).unwrap().covers(&key), expected, "{} on {:?}", pattern, key);
    }
}

#[test]
fn a_star_stays_within_its_field() {
    let key = |resource: &str, params: &[(&str, &str)]| {
        let start = Key::builder(&namespace_named("ns"), resource);
        params.iter().fold(start, |builder, (name, value)| builder.param(name, value)).build().unwrap()
    };
    let h100 = key("runpod/H100/1", &[("region", "us-east"), ("currency", "")]);
    let rows = [
        ("*", true),
        ("runpod/*", true),
        ("*/1", true),
        ("run", false),
        ("H100", false),
        ("*H100*", true),
        ("region=us-*", true),
        ("reg*=*east", true),
        ("reg*east", false),
        ("*=", true),
        ("currency=", true),
        ("currency=?*", false),
        ("runpod/*?region=us-*", true),
        ("runpod/*?region=us-*&currency=", true),
        ("runpod/*?region=europe", false),
        ("vultr/*?region=us-*", false),
        ("runpod/*?", true),
        ("*?region=*&nothing=*", false),
        ("**", true),
    ];
    for (pattern, expected) in rows {
        assert_eq!(Pattern::new(pattern).unwrap().covers(&h100), expected, "{pattern}");
    }
    assert!(Pattern::new("*").unwrap().is_everything());
    assert!(!Pattern::new("**").unwrap().is_everything());
}

#[test]
fn a_hostile_pattern_does_not_explode() {
    let key = Key::new(&namespace_named("ns"), "a".repeat(4_000)).unwrap();
    assert!(!Pattern::new("*a".repeat(500) + "b").unwrap().covers(&key));
}

#[test]
fn a_pattern_has_1_to_1024_bytes() {
    assert!(Pattern::new("").is_err());
    assert!(Pattern::new("a".repeat(1024)).is_ok());
    assert!(Pattern::new("a".repeat(1025)).is_err());
    assert!(serde_json::from_str::<Pattern>("\"\"").is_err());
}
