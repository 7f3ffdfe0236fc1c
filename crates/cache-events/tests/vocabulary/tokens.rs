//! Write tokens and hints: what goes out comes back.

use cache_events::{CacheEvent, Partition, Position, WriteToken, wire};
use proptest::prelude::*;

use crate::samples::{event, position, token};

proptest! {
    #[test]
    fn a_token_reads_back_from_its_text(token in token()) {
        let text = token.to_string();
        prop_assert!(token.fits());
        prop_assert!(text.len() <= 1024);
        prop_assert_eq!(text.parse::<WriteToken>().unwrap(), token.clone());
        prop_assert_eq!(serde_json::from_value::<WriteToken>(serde_json::to_value(&token).unwrap()).unwrap(), token);
    }

    #[test]
    fn of_two_positions_in_an_epoch_the_later_stays(one in position(), other in position(), same: bool, partition: u32) {
        let other = Position::new(if same { one.epoch } else { other.epoch }, other.seq);
        let mut token = WriteToken::single(Partition(partition), one);
        token.add(Partition(partition), other);
        // Which of two epochs is the later one the numbers do not say.
        let kept = if other.epoch == one.epoch { vec![one.max(other)] } else { vec![one, other] };
        prop_assert_eq!(token.positions_in(Partition(partition)).collect::<Vec<_>>(), kept);
        prop_assert_eq!(token.positions().count(), token.positions_in(Partition(partition)).count());
        prop_assert_eq!(token.positions_in(Partition(partition ^ 1)).count(), 0);
    }

    #[test]
    fn an_event_reads_back_from_its_envelope(event in event()) {
        prop_assert_eq!(wire::decode(&wire::encode(&event).unwrap()).unwrap(), event);
    }

    #[test]
    fn an_event_reads_back_from_json(mut event in event()) {
        // JSON knows one kind of absence.
        event.data = event.data.filter(|data| !data.is_null());
        let text = serde_json::to_string(&event).unwrap();
        prop_assert_eq!(serde_json::from_str::<CacheEvent>(&text).unwrap(), event);
    }

    #[test]
    fn a_hint_reads_back(partition: u32, position in position(), envelope in proptest::collection::vec(any::<u8>(), 0..40)) {
        let bytes = wire::encode_hint(Partition(partition), position, &envelope);
        prop_assert_eq!(bytes.len(), wire::HINT_PREFIX_BYTES + envelope.len());
        prop_assert_eq!(wire::decode_hint(&bytes).unwrap(), (Partition(partition), position, &envelope[..]));
    }
}

#[test]
fn positions_that_scripts_cannot_count_are_refused() {
    for position in
        [Position::new(Position::LIMIT, 0), Position::new(0, Position::LIMIT), Position::new(u64::MAX, 0)]
    {
        let text = WriteToken::single(Partition(0), position).to_string();
        assert!(text.parse::<WriteToken>().is_err());
        assert!(wire::decode_hint(&wire::encode_hint(Partition(0), position, b"")).is_err());
    }
}

#[test]
fn a_token_of_39_partitions_does_not_fit() {
    let mut token = WriteToken::default();
    (0..38).for_each(|partition| token.add(Partition(partition), Position::new(1, 1)));
    assert!(token.fits());
    token.add(Partition(38), Position::new(1, 1));
    assert!(!token.fits());
    assert!(token.to_string().parse::<WriteToken>().is_err());
}

#[test]
fn texts_that_are_no_tokens_are_refused() {
    for wrong in [
        "",
        "AQ",
        "!",
        "AgAAAAMAAAAAAAAACQAAAAAAAAEC",
        "AQAAAAMAAAAAAAAACQAAAAAAAAE",
        "AQAAAAMAAAAAAAAACQAAAAAAAAEC==",
    ] {
        assert!(wrong.parse::<WriteToken>().is_err(), "{wrong:?} was read as a token");
    }
}
