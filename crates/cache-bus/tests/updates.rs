//! What hints bring beside their events is handed out only while nothing later was applied.

use bytes::Bytes;
use cache_bus::{Action, Answer, BusConfig, Cargo, Missing, Protocol, Told};
use cache_events::wire::{self, CargoKind};
use cache_events::{CacheEvent, Partition, Position};

const P: Partition = Partition(0);
const NOW: u64 = 1_000;

fn event() -> CacheEvent {
    cache_testkit::event(Vec::new())
}

fn cargo() -> Cargo {
    Cargo { kind: CargoKind::Record, bytes: Bytes::from_static(b"a record") }
}

/// A node that stands at the beginning of epoch 7.
fn live() -> Protocol {
    let mut protocol = Protocol::new(1, &BusConfig::default(), 1, NOW);
    protocol.subscribed(NOW);
    answer(&mut protocol, Position::new(7, 0));
    protocol
}

fn answer(protocol: &mut Protocol, head: Position) {
    let id = protocol.request_sync(NOW, P) - 1;
    protocol.answered(NOW, P, id, NOW, Answer { head, missing: Missing::Reset(Vec::new()) });
    while protocol.next_action().is_some() {}
}

/// Whether what a hint brings at this position is handed out; `None` if nothing is applied.
fn handed_out(protocol: &mut Protocol, position: Position) -> Option<bool> {
    protocol.hint(NOW, P, position, Told::Update(event(), Box::new(cargo())));
    let mut out = None;
    while let Some(action) = protocol.next_action() {
        if let Action::Apply { position: at, cargo: brought, .. } = action {
            assert_eq!(at, position);
            assert!(brought.as_deref().is_none_or(|brought| *brought == cargo()));
            out = Some(brought.is_some());
        }
    }
    out
}

fn at(seq: u64) -> Position {
    Position::new(7, seq)
}

#[test]
fn what_comes_in_order_is_handed_out_once() {
    let mut protocol = live();
    assert_eq!(handed_out(&mut protocol, at(1)), Some(true));
    assert_eq!(handed_out(&mut protocol, at(2)), Some(true));
    assert_eq!(handed_out(&mut protocol, at(1)), None);
    assert_eq!(handed_out(&mut protocol, at(2)), None);
}

#[test]
fn what_comes_after_something_later_is_an_invalidation() {
    let mut protocol = live();
    assert_eq!(handed_out(&mut protocol, at(3)), Some(true), "nothing later is known");
    assert_eq!(handed_out(&mut protocol, at(1)), Some(false));
    assert_eq!(handed_out(&mut protocol, at(2)), Some(false));
    assert_eq!(protocol.position(P), at(3));
    assert_eq!(handed_out(&mut protocol, at(4)), Some(true));
}

#[test]
fn what_comes_after_a_later_write_of_ones_own_is_an_invalidation() {
    let mut protocol = live();
    protocol.wrote(NOW, P, at(2));
    assert_eq!(handed_out(&mut protocol, at(1)), Some(false));
    assert_eq!(handed_out(&mut protocol, at(3)), Some(true));
    // In an epoch that is still to be adopted.
    protocol.wrote(NOW, P, Position::new(8, 2));
    assert_eq!(handed_out(&mut protocol, at(4)), Some(false));
    answer(&mut protocol, Position::new(8, 0));
    assert_eq!(handed_out(&mut protocol, Position::new(8, 1)), Some(false));
    assert_eq!(handed_out(&mut protocol, Position::new(8, 3)), Some(true));
}

#[test]
fn what_cannot_be_taken_apart_is_unreadable() {
    let envelope = wire::encode(&event()).unwrap();
    let carrier = wire::encode_carrier(&envelope, CargoKind::Record, &cargo().bytes);
    let told = |bytes: &[u8]| Told::of_hint(&Bytes::copy_from_slice(bytes));
    assert_eq!(told(&carrier), Told::Update(event(), Box::new(cargo())));
    assert_eq!(told(&envelope), Told::Event(event()));
    assert_eq!(told(&[]), Told::Marker);
    for cut in 1..carrier.len() - cargo().bytes.len() {
        assert_eq!(told(&carrier[..cut]), Told::Unreadable, "{cut} bytes");
    }
    for (place, byte) in [(1, 9), (2, 9), (3, 0xff), (6, carrier[6] - 1), (7, 0)] {
        let mut broken = carrier.clone();
        broken[place] = byte;
        assert_eq!(told(&broken), Told::Unreadable, "byte {place}");
    }
    // A log has no carriers.
    assert_eq!(Told::of(&carrier), Told::Unreadable);
    let large = wire::encode_carrier(&envelope, CargoKind::Delta, &vec![0; wire::ENVELOPE_BYTES_MAX]);
    assert_eq!(told(&large), Told::Unreadable);
}
