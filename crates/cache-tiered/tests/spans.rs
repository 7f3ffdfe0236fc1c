//! Which reads make spans for traces.

mod support;

use std::fmt::Debug;
use std::sync::Arc;

use cache_tiered::TRACES;
use parking_lot::Mutex;
use support::{node, server, text};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Takes spans for traces, and keeps what they are called and say.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<String>>>);

impl Taken {
    /// Those that came since the last call.
    fn new_ones(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Subscriber for Taken {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target() == TRACES
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut said = Said(span.metadata().name().to_owned());
        span.record(&mut said);
        let mut taken = self.0.lock();
        taken.push(said.0);
        Id::from_u64(taken.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

#[tokio::test]
async fn a_read_of_many_keys_makes_one_span_where_l1_does_not_answer_all_and_none_where_it_does() {
    let (server, clock) = server();
    let cache = node(&server, &clock, "a").await;
    let text = text(&cache);
    let keys: Vec<_> = (0..4).map(|n| text.key(format!("k{n}")).expect("valid")).collect();
    for key in &keys[..2] {
        let _ = text.put(key, "put".into()).await.expect("acknowledged");
    }
    let taken = Taken::default();
    let _taking = tracing::subscriber::set_default(taken.clone());
    assert_eq!(text.get_many(&keys).await.expect("readable").iter().flatten().count(), 2);
    assert_eq!(taken.new_ones(), [r#"cache.read_many cache.namespace="text" cache.keys=4 cache.missing=2"#]);
    assert_eq!(text.get_many(&keys[..2]).await.expect("readable").iter().flatten().count(), 2);
    assert!(text.get(&keys[0]).await.expect("readable").is_some());
    assert_eq!(taken.new_ones(), [""; 0], "hits make none");
    assert!(text.get(&keys[2]).await.expect("readable").is_none());
    assert_eq!(taken.new_ones(), [r#"cache.read cache.namespace="text" cache.key=text/k2/"#]);
}
