//! Limits: what is just allowed comes back whole, what is just over is refused before anything is sent.

use cache_events::wire::{self, ENVELOPE_BYTES_MAX, ENVELOPE_SCOPES_MAX, WireError};
use cache_events::{KEY_BYTES_MAX, Key, Namespace, NodeId, PARAMS_MAX, Scope, Tag};
use serde_json::{Value, json};

use crate::samples::{full_event, namespace_named};

#[test]
fn a_thousand_scopes_travel_and_one_more_does_not() {
    let mut event = full_event();
    let namespace = namespace_named("gpu_avail");
    let resource = |number: usize| Scope::Resource {
        namespace: namespace.clone(),
        resource: format!("gpu-{number:032}"),
    };
    event.scopes = (0..ENVELOPE_SCOPES_MAX).map(resource).collect();
    assert_eq!(wire::decode(&wire::encode(&event).unwrap()).unwrap(), event);
    event.scopes.push(Scope::All);
    assert_eq!(wire::encode(&event), Err(WireError::TooLarge { unit: "scopes", size: 1001, max: 1000 }));
}

#[test]
fn a_decoder_counts_the_scopes_too() {
    let mut event = full_event();
    event.scopes = vec![Scope::All; 250];
    let mut bytes = wire::encode(&event).unwrap();
    let run = bytes.windows(250).position(|window| window.iter().all(|&byte| byte == 5)).unwrap();
    assert_eq!(bytes[run - 1], 250);
    // 1,001 takes three bytes: 251 announces a 16-bit number.
    bytes.splice(run - 1..run, [251, 0xe9, 0x03]);
    bytes.splice(run + 2..run + 2, std::iter::repeat_n(5, 751));
    assert_eq!(wire::decode(&bytes), Err(WireError::TooLarge { unit: "scopes", size: 1001, max: 1000 }));
}

#[test]
fn an_envelope_of_64_kib_travels_and_one_byte_more_does_not() {
    let mut event = full_event();
    event.reason = Some(String::new());
    let rest = wire::encode(&event).unwrap().len();
    // The length of a long text takes four more bytes than that of an empty one below 2^16, two bytes more.
    let room = ENVELOPE_BYTES_MAX - rest - 2;
    event.reason = Some("r".repeat(room));
    let bytes = wire::encode(&event).unwrap();
    assert_eq!(bytes.len(), ENVELOPE_BYTES_MAX);
    assert_eq!(wire::decode(&bytes).unwrap(), event);
    event.reason = Some("r".repeat(room + 1));
    let refused =
        WireError::TooLarge { unit: "bytes", size: ENVELOPE_BYTES_MAX + 1, max: ENVELOPE_BYTES_MAX };
    assert_eq!(wire::encode(&event), Err(refused.clone()));
    assert_eq!(wire::decode(&[bytes, vec![0]].concat()), Err(refused));
}

#[test]
fn an_envelope_full_of_tiny_fields_travels() {
    let mut event = full_event();
    event.affected_namespaces = vec![namespace_named("n"); 20_000];
    event.scopes = vec![Scope::Resource { namespace: namespace_named("n"), resource: "r".into() }; 1_000];
    let bytes = wire::encode(&event).unwrap();
    assert_eq!(wire::decode(&bytes).unwrap(), event);
}

#[test]
fn data_nested_too_deep_to_read_back_is_not_sent() {
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let mut event = full_event();
    event.data = Some(nested(wire::DATA_DEPTH_MAX));
    assert_eq!(wire::decode(&wire::encode(&event).unwrap()).unwrap(), event);
    event.data = Some(nested(wire::DATA_DEPTH_MAX + 1));
    assert!(matches!(wire::encode(&event), Err(WireError::TooLarge { unit: "levels of data", .. })));
    event.data =
        Some(Value::Object([("deep".to_owned(), nested(wire::DATA_DEPTH_MAX))].into_iter().collect()));
    assert!(matches!(wire::encode(&event), Err(WireError::TooLarge { unit: "levels of data", .. })));
}

#[test]
fn keys_end_at_4096_bytes_and_64_parameters() {
    let ns = namespace_named("ns");
    let room = KEY_BYTES_MAX - "ns//".len();
    assert_eq!(Key::new(&ns, "a".repeat(room)).unwrap().to_string().len(), KEY_BYTES_MAX);
    assert!(Key::new(&ns, "a".repeat(room + 1)).is_err());
    // An escaped byte counts as the three that it is spelled with.
    assert_eq!(Key::new(&ns, "/".repeat(room / 3)).unwrap().to_string().len(), KEY_BYTES_MAX);
    assert!(Key::new(&ns, "/".repeat(room / 3 + 1)).is_err());
    let pair = |bytes: usize| Key::builder(&ns, "r").param("p", "%".repeat(bytes)).build();
    let escaped_room = (KEY_BYTES_MAX - "ns/r/p=".len()) / 3;
    assert!(pair(escaped_room).is_ok() && pair(escaped_room + 1).is_err());
    let with = |count: usize| {
        (0..count).fold(Key::builder(&ns, "r"), |builder, at| builder.param(format!("p{at}"), "")).build()
    };
    assert_eq!(with(PARAMS_MAX).unwrap().params().len(), PARAMS_MAX);
    assert!(with(PARAMS_MAX + 1).is_err());
    assert!(Key::new(&ns, "").is_err());
    assert!(Key::builder(&ns, "r").param("", "v").build().is_err());
    let twice = Key::builder(&ns, "r").param("a", "1").param("a", "1").build().unwrap_err();
    assert!(twice.to_string().contains("\"a\"") && twice.to_string().contains("twice"), "{twice}");
}

#[test]
fn names_hold_what_they_may_hold() {
    assert!(Namespace::new("a".repeat(64)).is_ok() && Namespace::new("a".repeat(65)).is_err());
    assert!(Tag::new("ü".repeat(64)).is_ok() && Tag::new("ü".repeat(65)).is_err());
    assert!(NodeId::new("edge_node_0A.b-c").is_ok() && NodeId::new("a b").is_err());
    for wrong in ["", "A", "a/b", "a b", "ä", "a*"] {
        let error = Namespace::new(wrong).unwrap_err();
        assert_eq!((error.what, error.value.as_str()), ("namespace", wrong));
        assert!(serde_json::from_value::<Namespace>(json!(wrong)).is_err());
    }
    assert!(
        Tag::new("line\nbreak").is_err() && Tag::new("\u{7f}").is_err() && Tag::new("a tag / * ?").is_ok()
    );
}
