//! Where traces and metrics go, and when figures are alarming.

use std::time::Duration;

use super::check::Check;
use super::parse::{duration, share};
use super::secret::Secret;
use crate::telemetry::{AlertName, AlertSettings, Limits};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// What a node tells a collector.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// `None` = nothing.
    pub otlp: Option<OtlpConfig>,
}

/// A collector of OpenTelemetry, over OTLP with HTTP and protobuf.
#[derive(Debug, Clone)]
pub struct OtlpConfig {
    /// Its URL without `/v1/…`.
    pub endpoint: String,
    /// Headers that it asks for.
    pub headers: Vec<(String, Secret)>,
    /// Share of the traces that begin here which are told, 0 to 1. What another service began is told if that service says so.
    pub sample_ratio: f64,
    /// How often figures are told.
    pub metrics_every: Duration,
}

pub(super) fn telemetry(check: &mut Check<'_>) -> TelemetryConfig {
    let endpoint = check.read("telemetry.otlp_endpoint", endpoint);
    let headers = check.read("telemetry.otlp_headers", headers).unwrap_or_default();
    let sample_ratio = check.get("telemetry.trace_sample_ratio", 0.0, share);
    let metrics_every =
        check.get("telemetry.otlp_interval", SECOND, duration(Duration::from_millis(100), HOUR));
    TelemetryConfig {
        otlp: endpoint.map(|endpoint| OtlpConfig { endpoint, headers, sample_ratio, metrics_every }),
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    match rest.map(|rest| rest.split('/').next().unwrap_or_default()) {
        Some(host) if !host.is_empty() && !text.contains(char::is_whitespace) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("must be the URL of a collector that speaks OTLP over HTTP, such as http://127.0.0.1:4318"
            .to_owned()),
    }
}

/// `name=value,name=value`, values with percent signs as in URLs.
fn headers(text: &str) -> Result<Vec<(String, Secret)>, String> {
    let one = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim().to_ascii_lowercase();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?.into_owned();
        let sendable = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        (!name.is_empty() && name.bytes().all(plain) && sendable).then(|| (name, Secret::new(value)))
    };
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs
        .map(one)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| "must be headers such as authorization=Bearer%20abc,x-tenant=7".to_owned())
}

/// The limits of alerts.
pub(super) fn alerts(check: &mut Check<'_>) -> AlertSettings {
    let mut settings = AlertSettings::default();
    for name in AlertName::ALL {
        let (warning, critical) = match name {
            AlertName::HitRatio => ("telemetry.hit_ratio_warning", "telemetry.hit_ratio_critical"),
            AlertName::EventQueue => ("telemetry.event_queue_warning", "telemetry.event_queue_critical"),
            AlertName::EventLatency => {
                ("telemetry.event_latency_warning_ms", "telemetry.event_latency_critical_ms")
            }
            AlertName::RedisMemory => ("telemetry.redis_memory_warning", "telemetry.redis_memory_critical"),
            AlertName::ConnectionFailures => {
                ("telemetry.connection_failures_warning", "telemetry.connection_failures_critical")
            }
        };
        let most = if name.unit() == "%" { 100.0 } else { 1e9 };
        let default = settings.limits(name);
        let limits = Limits {
            warning: check.get(warning, default.warning, number(most)),
            critical: check.get(critical, default.critical, number(most)),
        };
        let worse = if name.bad_below() {
            limits.critical < limits.warning
        } else {
            limits.critical > limits.warning
        };
        if !worse {
            let direction = if name.bad_below() { "below" } else { "above" };
            check.wrong(critical, format!("must be {direction} {warning}, which is {}", limits.warning));
        }
        settings = settings.with(name, limits);
    }
    settings.raise_after = check.get("telemetry.alert_raise_after", SECOND, duration(Duration::ZERO, HOUR));
    settings.clear_after = check.get("telemetry.alert_clear_after", SECOND, duration(Duration::ZERO, HOUR));
    settings.clear_margin = check.get("telemetry.alert_clear_margin", 0.0, |text| match share(text) {
        Ok(margin) if margin <= 0.5 => Ok(margin),
        _ => Err("must be a number from 0 to 0.5".to_owned()),
    });
    settings
}

fn number(most: f64) -> impl Fn(&str) -> Result<f64, String> {
    move |text| {
        let number = text.parse::<f64>().ok().filter(|number| (0.0..=most).contains(number));
        number.ok_or_else(|| format!("must be a number from 0 to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_and_loses_its_last_slash() {
        assert_eq!(endpoint("http://otel:4318/").as_deref(), Ok("http://otel:4318"));
        assert_eq!(endpoint("https://otel/prefix").as_deref(), Ok("https://otel/prefix"));
        for wrong in ["otel:4318", "grpc://otel:4317", "http://", "http:// otel"] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_are_pairs_with_decoded_values() {
        let read = headers("Authorization=Bearer%20a%3Db, x-tenant=7,").expect("right");
        let read: Vec<_> = read.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(read, [("authorization", "Bearer a=b"), ("x-tenant", "7")]);
        for wrong in ["authorization", "a b=c", "=x", "a=%0a"] {
            assert!(headers(wrong).is_err(), "{wrong}");
        }
    }
}
