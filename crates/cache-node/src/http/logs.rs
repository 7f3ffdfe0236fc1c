//! What is written down about requests: the audit log, of who invalidated or administered what and why, and the access log,
//! of everything. Lines of JSON; no header and no body is in them, and so no token.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::line_log::LineLog;
use super::observe::rfc3339;
use super::route::Access;
use crate::config::{LogTarget, RequestLogs, TokenScope};

/// What a handler says about an invalidation, for the audit log. An extension of its answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Touched {
    /// What was invalidated.
    pub(crate) scopes: Vec<String>,
    /// Why.
    pub(crate) reason: Option<String>,
}

/// The logs of requests, as the configuration wants them now.
pub(crate) struct Logs {
    wanted: RequestLogs,
    audit: Option<Arc<LineLog>>,
    access: Option<Arc<LineLog>>,
}

impl Logs {
    /// Opens them.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub(crate) fn open(wanted: &RequestLogs) -> anyhow::Result<Self> {
        let open = |setting: &str, target: &Option<LogTarget>| {
            let opened = target.as_ref().map(|target| LineLog::open(target).map(Arc::new)).transpose();
            opened.with_context(|| {
                format!("{setting} cannot be written: name a file in a folder that the node may write")
            })
        };
        let audit = open("audit.log", &wanted.audit)?;
        // One file, one writer.
        let access = match &wanted.access {
            Some(target) if wanted.audit.as_ref() == Some(target) => audit.clone(),
            target => open("audit.access_log", target)?,
        };
        Ok(Self { wanted: wanted.clone(), audit, access })
    }

    pub(crate) fn are_of(&self, wanted: &RequestLogs) -> bool {
        self.wanted == *wanted
    }

    /// Whether a request with that access may have to be written down.
    pub(crate) fn wants(&self, access: Access) -> bool {
        let changes = matches!(access, Access::Needs(scope) if scope != TokenScope::Read);
        self.access.is_some() || (changes && self.audit.is_some())
    }

    /// Writes down what has been answered, where it is wanted.
    pub(crate) async fn write(&self, access: Access, answered: Answered) {
        let refused = answered.outcome == "refused";
        let audited = match access {
            Access::Needs(TokenScope::Invalidate | TokenScope::Admin) => true,
            Access::Needs(TokenScope::Write) => refused || self.wanted.audit_writes,
            Access::Needs(TokenScope::Read) | Access::Anybody | Access::Public => false,
        };
        for (log, wanted, name) in [(&self.audit, audited, "audit"), (&self.access, true, "access")] {
            if let (Some(log), true) = (log, wanted) {
                log.write(&Line { log: name, answered: &answered }).await;
            }
        }
    }

    /// Lines that could not be written.
    pub(crate) fn failed(&self) -> u64 {
        [&self.audit, &self.access].into_iter().flatten().map(|log| log.failed()).sum()
    }

    /// Writes what is on its way, and ends.
    pub(crate) async fn close(&self) {
        for log in [&self.audit, &self.access].into_iter().flatten() {
            log.close().await;
        }
    }
}

/// A request, before it is answered.
pub(crate) struct Asked {
    request_id: String,
    address: IpAddr,
    method: String,
    route: Option<&'static str>,
    path: String,
}

impl Asked {
    pub(crate) fn of(
        request: &Request,
        route: Option<&'static str>,
        address: IpAddr,
        id: &HeaderValue,
    ) -> Self {
        Self {
            request_id: id.to_str().unwrap_or_default().to_owned(),
            address,
            method: request.method().to_string(),
            route,
            path: request.uri().path().to_owned(),
        }
    }

    /// The same once it is answered; `wall` in Unix milliseconds.
    pub(crate) fn answered(
        self,
        wall: u64,
        token: Option<&str>,
        touched: Touched,
        status: StatusCode,
        took_ms: u64,
    ) -> Answered {
        let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::TOO_MANY_REQUESTS]
            .contains(&status);
        let outcome = match status {
            _ if refused => "refused",
            status if status.is_success() => "done",
            _ => "failed",
        };
        Answered {
            time: rfc3339(wall).unwrap_or_default(),
            request_id: self.request_id,
            token: token.map(str::to_owned),
            address: self.address,
            method: self.method,
            route: self.route,
            path: self.path,
            scopes: touched.scopes,
            reason: touched.reason,
            status: status.as_u16(),
            outcome,
            took_ms,
        }
    }
}

/// A request that was answered, as a line tells it.
#[derive(Serialize)]
pub(crate) struct Answered {
    /// When it was answered.
    time: String,
    request_id: String,
    /// The name of the token that was shown; nothing where none was asked for, or none was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    address: IpAddr,
    method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'static str>,
    path: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    status: u16,
    /// `done`, `refused` (401, 403, 429) or `failed`.
    outcome: &'static str,
    took_ms: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    log: &'static str,
    #[serde(flatten)]
    answered: &'a Answered,
}
