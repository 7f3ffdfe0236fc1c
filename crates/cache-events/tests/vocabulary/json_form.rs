//! The JSON form of events: what the public channel carries.

use cache_events::{CacheEvent, EventKind, NodeId};
use serde_json::{Value, json};

use crate::samples::full_event;

#[test]
fn the_public_fields_have_their_contractual_names() {
    let value = serde_json::to_value(full_event()).unwrap();
    assert_eq!(value["event_type"], "pricing_updated");
    assert_eq!(value["resource_id"], "H100");
    assert_eq!(value["data"], json!({"price": 1_650_000}));
    assert_eq!(value["timestamp"], 1_760_000_000_123_u64);
    assert_eq!(value["source_node"], "edge_node_1f2e3d4c");
    assert_eq!(value["event_id"], "0199c82c-c07b-7102-8304-05060708090a");
    assert_eq!(value["affected_namespaces"], json!(["gpu_pricing", "order_book"]));
    assert_eq!(
        value["scopes"],
        json!([
            {"key": "gpu_pricing/H100/region=us-east"},
            {"resource": {"namespace": "gpu_pricing", "resource": "A100"}},
            {"tag": "provider:runpod"},
            {"namespace": "order_book"},
            {"pattern": {"namespace": "gpu_pricing", "pattern": "region=us-*"}},
            "all",
        ])
    );
    let mut fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    let mut expected = vec![
        "event_type",
        "resource_id",
        "data",
        "timestamp",
        "source_node",
        "event_id",
        "affected_namespaces",
        "scopes",
        "reason",
        "announce",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
}

#[test]
fn the_seven_contractual_fields_are_enough() {
    let event: CacheEvent = serde_json::from_value(json!({
        "event_type": "manual_invalidation",
        "resource_id": "everything",
        "data": null,
        "timestamp": 1,
        "source_node": "n",
        "event_id": "0199c82c-c07b-7102-8304-05060708090a",
        "affected_namespaces": [],
    }))
    .unwrap();
    assert_eq!(event.event_type, EventKind::MANUAL_INVALIDATION);
    assert_eq!(event.source_node, NodeId::new("n").unwrap());
    assert!(event.announce && event.scopes.is_empty() && event.data.is_none() && event.reason.is_none());
}

#[test]
fn a_missing_or_wrong_field_is_named() {
    let whole = serde_json::to_value(full_event()).unwrap();
    for field in ["event_type", "resource_id", "timestamp", "source_node", "event_id", "affected_namespaces"]
    {
        let mut without = whole.clone();
        without.as_object_mut().unwrap().remove(field);
        let error = serde_json::from_value::<CacheEvent>(without).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
    let mut wrong = whole;
    wrong["affected_namespaces"] = Value::from(vec!["Not A Namespace"]);
    let error = serde_json::from_value::<CacheEvent>(wrong).unwrap_err().to_string();
    assert!(error.contains("namespace") && error.contains("Not A Namespace"), "{error}");
}
