//! The cache types of a node: those of the marketplace, the presets, and what the file says about them or adds.

use std::time::Duration;

use cache_events::Namespace;
use cache_marketplace::namespaces::{CacheTypeSettings, MARKET, PRESETS};
use cache_tiered::{CodecChoice, Degraded, NamespaceSettings, Tiers, Updates};
use figment::value::Dict;

use super::check::{Check, TableCheck};
use super::nearest::nearest;
use super::parse::{duration, truth, whole};

const DAY: Duration = Duration::from_secs(24 * 3600);
const MILLISECOND: Duration = Duration::from_millis(1);

/// One cache type.
#[derive(Debug, Clone)]
pub struct CacheTypePlan {
    /// The name in requests. The namespace's own name works too.
    pub cache_type: String,
    /// Whether its values are free JSON rather than a type of the marketplace.
    pub free_json: bool,
    /// Its rules.
    pub settings: NamespaceSettings,
}

/// What holds for all cache types unless one says otherwise.
pub(crate) struct Common {
    pub(crate) l1_size: usize,
    pub(crate) enable_l1: bool,
    pub(crate) event_driven: bool,
    pub(crate) compression: bool,
    pub(crate) staleness_bound: Duration,
    pub(crate) bound_least: Duration,
}

/// All cache types, with what the file says about them.
pub(crate) fn check(check: &mut Check<'_>, common: &Common, tables: &Dict) -> Vec<CacheTypePlan> {
    let market = MARKET.iter().map(|row| known(row, false, common));
    let mut plans: Vec<CacheTypePlan> =
        market.chain(PRESETS.iter().map(|row| known(row, true, common))).flatten().collect();
    for (name, table) in tables {
        let Some(table) = table.as_dict() else { continue };
        let mut reading = check.namespace(name, table);
        match plans.iter().position(|plan| plan.answers_to(name)) {
            Some(index) => change(&mut reading, &mut plans[index], common),
            None => {
                let names = plans.iter().map(|plan| plan.cache_type.as_str()).collect::<Vec<_>>();
                let Some(mut plan) = declared(&mut reading, name, &names, common) else { continue };
                change(&mut reading, &mut plan, common);
                plans.push(plan);
            }
        }
    }
    plans
}

impl CacheTypePlan {
    /// Whether it is called so: by its cache type or by its namespace.
    pub fn answers_to(&self, name: &str) -> bool {
        self.cache_type == name || self.settings.namespace.as_str() == name
    }

    /// Its settings as they could have been typed: the name, the setting for all cache types that it follows, the value.
    pub(crate) fn described(&self) -> Vec<(&'static str, Option<&'static str>, String)> {
        let settings = &self.settings;
        let time = |duration: Duration| humantime::format_duration(duration).to_string();
        let or_never = |value: Option<String>| value.unwrap_or_else(|| "never".to_owned());
        let updates = match settings.updates {
            Updates::Invalidate => "invalidate",
            Updates::Value => "value",
            Updates::ValueEverywhere => "value_everywhere",
            Updates::Delta => "delta",
        };
        let tiers = match settings.tiers {
            Tiers::Both => "both",
            Tiers::L1Only => "l1",
            Tiers::L2Only => "l2",
        };
        let degraded = match settings.degraded {
            Degraded::Strict => "strict".to_owned(),
            Degraded::Fail => "fail".to_owned(),
            Degraded::BoundedStale(age) => format!("stale:{}", time(age)),
        };
        let values = if self.free_json { "json" } else { "its own" };
        let compress = settings.compress_above_bytes.map(|bytes| bytes.to_string());
        vec![
            ("type", None, values.to_owned()),
            ("ttl", None, time(settings.ttl)),
            ("ttl_max", None, time(settings.ttl_max)),
            ("l1_ttl_max", None, time(settings.l1_ttl_max)),
            ("idle", None, or_never(settings.idle.map(time))),
            ("absent_ttl", None, time(settings.absent_ttl)),
            ("event_driven", None, settings.event_driven.to_string()),
            ("updates", None, updates.to_owned()),
            ("critical", None, settings.critical.to_string()),
            ("l1_entries_max", Some("cache.l1_size"), settings.l1_entries_max.to_string()),
            ("l1_bytes_max", None, settings.l1_bytes_max.to_string()),
            ("tiers", Some("cache.enable_l1_cache"), tiers.to_owned()),
            ("staleness_bound", Some("cache.staleness_bound"), time(settings.staleness_bound)),
            ("degraded", None, degraded),
            ("compress_above_bytes", Some("cache.enable_compression"), or_never(compress)),
            ("value_bytes_max", None, settings.value_bytes_max.to_string()),
            ("loads_max", None, settings.loads_max.to_string()),
            ("load_timeout", None, time(settings.load_timeout)),
        ]
    }
}

fn with_common(namespace: Namespace, ttl: Duration, common: &Common) -> NamespaceSettings {
    let mut settings = NamespaceSettings::new(namespace).ttl(ttl);
    settings.l1_entries_max = common.l1_size;
    settings.staleness_bound = common.staleness_bound;
    settings.event_driven = common.event_driven;
    if !common.enable_l1 {
        settings.tiers = Tiers::L2Only;
    }
    if !common.compression {
        settings.compress_above_bytes = None;
    }
    settings
}

fn known(row: &CacheTypeSettings, free_json: bool, common: &Common) -> Option<CacheTypePlan> {
    // The names of the table are constants that are valid (a test of that crate sees to it).
    let namespace = Namespace::new(row.namespace).ok()?;
    let mut settings = with_common(namespace, row.ttl, common);
    settings.event_driven = row.event_driven && common.event_driven;
    settings.l1_bytes_max = row.budget_bytes;
    if row.critical {
        settings = settings.critical();
    }
    if free_json {
        settings.codec = CodecChoice::Json;
    }
    Some(CacheTypePlan { cache_type: row.cache_type.to_owned(), free_json, settings })
}

/// A cache type that only the file knows. It must say so, or a slip of the finger would make a new one.
fn declared(
    reading: &mut TableCheck<'_>,
    name: &str,
    known: &[&str],
    common: &Common,
) -> Option<CacheTypePlan> {
    match reading.text("type").as_deref() {
        Some("json") => {}
        Some(_) => {
            reading.wrong(
                Some("type"),
                "must be json: a type that only the configuration knows holds free JSON",
            );
            return None;
        }
        None => {
            let meant = nearest(name, known.iter().copied());
            let meant = meant.map(|meant| format!("did you mean {meant}? ")).unwrap_or_default();
            let rule = format!("unknown cache type: {meant}To declare a new one, add type = \"json\"");
            reading.wrong(None, rule);
            return None;
        }
    }
    let namespace = match Namespace::new(name) {
        Ok(namespace) => namespace,
        Err(error) => {
            reading.wrong(None, format!("the name must be {}", error.rule));
            return None;
        }
    };
    let mut settings = with_common(namespace, Duration::from_secs(60), common);
    settings.codec = CodecChoice::Json;
    Some(CacheTypePlan { cache_type: name.to_owned(), free_json: true, settings })
}

fn change(reading: &mut TableCheck<'_>, plan: &mut CacheTypePlan, common: &Common) {
    let free_json = plan.free_json;
    let settings = &mut plan.settings;
    let any = || duration(MILLISECOND, 365 * DAY);
    if !free_json && reading.text("type").is_some() {
        reading.wrong(Some("type"), "the values of this cache type have a type of their own");
    }
    let mut ttl = settings.ttl;
    if reading.set("ttl", &mut ttl, any()) {
        *settings = settings.clone().ttl(ttl);
    }
    if reading.set("ttl_max", &mut settings.ttl_max, any()) && settings.ttl_max < settings.ttl {
        reading.wrong(Some("ttl_max"), "must not be below ttl");
    }
    reading.set("l1_ttl_max", &mut settings.l1_ttl_max, any());
    reading.set("idle", &mut settings.idle, |text| match text {
        "never" => Ok(None),
        text => any()(text).map(Some).map_err(|rule| format!("{rule}, or never")),
    });
    reading.set("absent_ttl", &mut settings.absent_ttl, any());
    if reading.set("event_driven", &mut settings.event_driven, truth)
        && settings.event_driven
        && !common.event_driven
    {
        let rule = "must not be true while cache.enable_event_driven_invalidation is false";
        reading.wrong(Some("event_driven"), rule);
    }
    if reading.set("updates", &mut settings.updates, updates)
        && settings.updates != Updates::Invalidate
        && !settings.event_driven
    {
        reading.wrong(Some("updates"), "must be invalidate where the cache type is not event-driven");
    }
    let mut critical = settings.critical;
    if reading.set("critical", &mut critical, truth) {
        settings.critical = critical;
        settings.degraded = if critical { Degraded::Strict } else { Degraded::BoundedStale(settings.ttl) };
    }
    let count = |most| move |text: &str| whole(1, most)(text).map(|number| number as usize);
    reading.set("l1_entries_max", &mut settings.l1_entries_max, count(100_000_000));
    reading.set("l1_bytes_max", &mut settings.l1_bytes_max, whole(1024, 1 << 40));
    if reading.set("tiers", &mut settings.tiers, tiers) && settings.tiers.l1() && !common.enable_l1 {
        reading.wrong(Some("tiers"), "must be l2 while cache.enable_l1_cache is false");
    }
    let bound = duration(common.bound_least, DAY);
    reading.set("staleness_bound", &mut settings.staleness_bound, bound);
    let degraded_ttl = settings.ttl;
    let typed = reading.set("degraded", &mut settings.degraded, |text| degraded(text, degraded_ttl));
    if typed && settings.critical && matches!(settings.degraded, Degraded::BoundedStale(_)) {
        let rule = "a critical cache type is never served past its bound: strict or fail";
        reading.wrong(Some("degraded"), rule);
    }
    reading.set("compress_above_bytes", &mut settings.compress_above_bytes, |text| match text {
        "never" => Ok(None),
        text => count(1 << 30)(text).map(Some).map_err(|rule| format!("{rule}, or never")),
    });
    reading.set("value_bytes_max", &mut settings.value_bytes_max, count(VALUE_BYTES_MOST));
    reading.set("loads_max", &mut settings.loads_max, count(100_000));
    reading.set("load_timeout", &mut settings.load_timeout, any());
}

/// The most that a record of L2 may hold.
const VALUE_BYTES_MOST: u64 = cache_l2::VALUE_BYTES_LIMIT as u64;

fn updates(text: &str) -> Result<Updates, String> {
    match text {
        "invalidate" => Ok(Updates::Invalidate),
        "value" => Ok(Updates::Value),
        "value_everywhere" => Ok(Updates::ValueEverywhere),
        _ => Err("must be invalidate, value or value_everywhere".to_owned()),
    }
}

fn tiers(text: &str) -> Result<Tiers, String> {
    match text {
        "both" => Ok(Tiers::Both),
        "l1" => Ok(Tiers::L1Only),
        "l2" => Ok(Tiers::L2Only),
        _ => Err("must be both, l1 or l2".to_owned()),
    }
}

fn degraded(text: &str, ttl: Duration) -> Result<Degraded, String> {
    match text {
        "strict" => Ok(Degraded::Strict),
        "fail" => Ok(Degraded::Fail),
        "stale" => Ok(Degraded::BoundedStale(ttl)),
        _ => match text.strip_prefix("stale:").map(|age| humantime::parse_duration(age.trim())) {
            Some(Ok(age)) => Ok(Degraded::BoundedStale(age)),
            _ => Err("must be strict, fail, stale, or stale:<duration> such as stale:30s".to_owned()),
        },
    }
}
