//! The way to the collector: blocking, since the thread of the SDK waits for it, and with a limit for everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use parking_lot::Mutex;
use tracing::{info, warn};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::config::OtlpConfig;

/// How often it is said that the collector is away.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Longest answer of a collector.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Sends one request after the other.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    failures: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Client {
    pub(super) fn new(config: &OtlpConfig, answer_max: Duration) -> anyhow::Result<Self> {
        let mut agent = Agent::config_builder().http_status_as_error(false).timeout_global(Some(answer_max));
        if config.endpoint.starts_with("https:") {
            let found = rustls_native_certs::load_native_certs();
            anyhow::ensure!(
                !found.certs.is_empty(),
                "no root certificates are on this machine: {:?}",
                found.errors
            );
            let roots: Vec<_> = found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::new_with_certs(&roots))
                .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
            agent = agent.tls_config(tls.build());
        }
        Ok(Self {
            agent: agent.build().new_agent(),
            endpoint: config.endpoint.clone(),
            failures: AtomicU64::new(0),
            told: Mutex::new(None),
        })
    }

    /// Sends one message; what goes wrong is logged, and then it is lost.
    pub(super) fn tell(&self, request: Request<Bytes>) {
        self.judge(&self.send(request));
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let (parts, mut body) = self.agent.run(Request::from_parts(parts, &body[..]))?.into_parts();
        let bytes = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Response::from_parts(parts, bytes.into()))
    }

    /// Says now and then that the collector does not take what it is sent, and once that it does again.
    fn judge(&self, answer: &Result<Response<Bytes>, HttpError>) {
        let why = match answer {
            Ok(answer) if answer.status().is_success() => {
                let failures = self.failures.swap(0, Ordering::Relaxed);
                if failures > 0 && self.told.lock().take().is_some() {
                    info!(endpoint = self.endpoint, failures, "the collector takes telemetry again");
                }
                return;
            }
            Ok(answer) => format!("it answered {}", answer.status()),
            Err(error) => error.to_string(),
        };
        self.failures.fetch_add(1, Ordering::Relaxed);
        let (mut told, now) = (self.told.lock(), stopwatch());
        if told.is_none_or(|told| now - told >= TOLD_EVERY) {
            *told = Some(now);
            warn!(endpoint = self.endpoint, why, "telemetry is dropped: the collector does not take it");
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.send(request);
        self.judge(&answer);
        answer
    }
}

#[expect(clippy::disallowed_methods, reason = "only limits how often a warning is repeated")]
fn stopwatch() -> Instant {
    Instant::now()
}
