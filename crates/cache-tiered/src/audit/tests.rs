//! A whole cache whose L1 misses a flush of which the auditor hears. Nothing but a fault of the fence can bring that about, so
//! the test takes its place.

use std::sync::Arc;
use std::time::Duration;

use cache_bus::FlushCause;
use cache_embedded::{EmbeddedConfig, EmbeddedServer};
use cache_events::{Clock, Namespace, NodeId, Partition};
use cache_policy::PolicyKind;
use cache_testkit::ManualClock;

use super::{AuditSettings, Cause};
use crate::receive::LocalSpace;
use crate::settings::{NamespaceSettings, NodeSettings};
use crate::{TieredCache, TypedCache};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_flush_that_was_not_carried_out_is_found_and_named() {
    for broken in [true, false] {
        let clock = Arc::new(ManualClock::default());
        let shared = Arc::new(EmbeddedServer::new(EmbeddedConfig::default(), clock.clone()));
        let audit =
            AuditSettings { rate: 1.0, every: Duration::from_secs(3_600), ..AuditSettings::default() };
        let node = NodeId::new("a").expect("a valid name");
        let namespace = Namespace::new("text").expect("a valid name");
        let cache =
            TieredCache::builder(node, shared.clone(), shared, |entries| PolicyKind::Sieve.family(entries))
                .clock(clock.clone())
                .settings(NodeSettings { audit: Some(audit), ..NodeSettings::default() })
                .namespace::<String>(NamespaceSettings::new(namespace))
                .start()
                .expect("valid settings");
        assert!(cache.sync(SOON).await);
        let text: TypedCache<String> = cache.namespace("text").expect("declared");
        let key = text.key("k").expect("valid");
        let _ = text.put(&key, "old".into()).await.expect("acknowledged");
        text.get(&key).await.expect("readable").expect("there");
        let epoch = cache.position(Partition(0)).epoch + 1;
        if broken {
            text.space.audit().expect("watched").flushed(Partition(0), epoch, FlushCause::Epoch);
        }
        for _ in 0..5 {
            clock.advance(Duration::from_millis(500));
            assert!(cache.sync(SOON).await);
        }
        assert!(text.resident(&key).is_some(), "it was not flushed");
        cache.audit_now().await;
        let found = cache.violations().pop().map(|(_, found)| found).unwrap_or_default();
        assert_eq!(
            found.first().map(|found| found.cause),
            broken.then_some(Cause::DeadEpoch { epoch }),
            "{found:?} at {}",
            clock.now()
        );
        cache.stop().await;
    }
}
