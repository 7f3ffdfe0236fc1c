//! Random and fixed values that the tests share.

use cache_events::{
    CacheEvent, EventId, EventKind, Key, Namespace, NodeId, Partition, Pattern, Position, Scope, Tag,
    WriteToken,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

pub(crate) fn namespace_named(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

/// An event with something in each field.
pub(crate) fn full_event() -> CacheEvent {
    let pricing = namespace_named("gpu_pricing");
    let key = Key::builder(&pricing, "H100").param("region", "us-east").build().unwrap();
    CacheEvent {
        event_type: EventKind::new("pricing_updated"),
        resource_id: "H100".into(),
        data: Some(json!({"price": 1_650_000})),
        timestamp: 1_760_000_000_123,
        source_node: NodeId::new("edge_node_1f2e3d4c").unwrap(),
        event_id: EventId::from_parts(1_760_000_000_123, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        affected_namespaces: vec![pricing.clone(), namespace_named("order_book")],
        scopes: vec![
            Scope::Key(key),
            Scope::Resource { namespace: pricing.clone(), resource: "A100".into() },
            Scope::Tag(Tag::new("provider:runpod").unwrap()),
            Scope::Namespace(namespace_named("order_book")),
            Scope::Pattern { namespace: pricing, pattern: Pattern::new("region=us-*").unwrap() },
            Scope::All,
        ],
        reason: Some("price moved".into()),
        announce: true,
    }
}

/// Text with all that could confuse a speller: separators, wildcards, escapes, controls, several scripts.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "[a-z0-9_-]{1,12}",
        2 => "[/%*&=?+ #:@,.~a-c2F]{1,8}",
        1 => "\\PC{1,12}",
        1 => vec(any::<char>(), 1..6).prop_map(String::from_iter),
    ]
}

pub(crate) fn namespace() -> impl Strategy<Value = Namespace> {
    "[a-z0-9_.-]{1,16}".prop_map(|name| Namespace::new(name).unwrap())
}

pub(crate) fn params() -> impl Strategy<Value = Vec<(String, String)>> {
    btree_map(text(), prop_oneof![Just(String::new()), text()], 0..5)
        .prop_map(|map| map.into_iter().collect())
}

pub(crate) fn key_of(namespace: &Namespace, resource: &str, params: &[(String, String)]) -> Key {
    let start = Key::builder(namespace, resource);
    params.iter().fold(start, |builder, (name, value)| builder.param(name, value)).build().unwrap()
}

pub(crate) fn key() -> impl Strategy<Value = Key> {
    (namespace(), text(), params())
        .prop_map(|(namespace, resource, params)| key_of(&namespace, &resource, &params))
}

pub(crate) fn scope() -> impl Strategy<Value = Scope> {
    prop_oneof![
        key().prop_map(Scope::Key),
        (namespace(), text()).prop_map(|(namespace, resource)| Scope::Resource { namespace, resource }),
        "\\PC{1,20}".prop_filter_map("a tag", |text| Tag::new(text).ok()).prop_map(Scope::Tag),
        namespace().prop_map(Scope::Namespace),
        (namespace(), text()).prop_map(|(namespace, text)| {
            Scope::Pattern { namespace, pattern: Pattern::new(text).unwrap() }
        }),
        Just(Scope::All),
    ]
}

fn data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(text(), inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

pub(crate) fn event() -> impl Strategy<Value = CacheEvent> {
    let what = (text(), text(), proptest::option::of(data()), any::<u64>(), "[A-Za-z0-9_.-]{1,64}");
    let whom = (any::<[u8; 16]>(), vec(namespace(), 0..4), vec(scope(), 0..8));
    (what, whom, proptest::option::of(text()), any::<bool>()).prop_map(
        |(
            (kind, resource_id, data, timestamp, node),
            (id, affected_namespaces, scopes),
            reason,
            announce,
        )| {
            CacheEvent {
                event_type: EventKind::new(kind),
                resource_id,
                data,
                timestamp,
                source_node: NodeId::new(node).unwrap(),
                event_id: EventId::from_bytes(id),
                affected_namespaces,
                scopes,
                reason,
                announce,
            }
        },
    )
}

pub(crate) fn position() -> impl Strategy<Value = Position> {
    (0..Position::LIMIT, 0..Position::LIMIT).prop_map(|(epoch, seq)| Position::new(epoch, seq))
}

/// A token that its text can hold.
pub(crate) fn token() -> impl Strategy<Value = WriteToken> {
    vec((any::<u32>(), position()), 1..=38).prop_map(|items| {
        let mut token = WriteToken::default();
        items.into_iter().for_each(|(partition, position)| token.add(Partition(partition), position));
        token
    })
}
