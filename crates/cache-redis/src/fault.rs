//! What can go wrong with a command, by what may have been done.

use bb8_redis::redis::{ErrorKind, RedisError, ServerErrorKind};
use cache_bus::TransportError;
use cache_l2::StoreError;

use crate::topology::Endpoint;

/// Why a command has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// Nothing was done; later it may work.
    #[error("{0}")]
    NotDone(String),
    /// It may or may not have been done.
    #[error("{0}")]
    Unknown(String),
    /// Nothing was done, and later it does not work either.
    #[error("{0}")]
    Refused(String),
    /// The deployment in Redis is not ours.
    #[error("{0}")]
    Fenced(String),
    /// Nothing was done: another node of the Cluster has the slot, this one where that is known.
    #[error("the slot has moved")]
    Moved(Option<Endpoint>),
    /// Nothing was done: the slot is moving, and another node has the keys already.
    #[error("the slot is moving to {0}")]
    Ask(Endpoint),
    /// Nothing was done: the slot is moving, and its keys are in two places.
    #[error("{0}")]
    Torn(String),
}

impl Fault {
    /// Judges the error of a command that was sent.
    pub(crate) fn of_command(error: &RedisError) -> Self {
        match judge(error) {
            Some(judged) => judged,
            // Gone in mid-command, or an answer that is none: who knows.
            None => Self::Unknown(error.to_string()),
        }
    }

    /// Judges an error from connecting, where nothing can have been done.
    pub(crate) fn of_connecting(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Refused(error.to_string()),
            _ => judge(error).unwrap_or_else(|| Self::NotDone(error.to_string())),
        }
    }

    /// Puts in front what was tried.
    #[must_use]
    pub(crate) fn while_doing(self, what: &str) -> Self {
        match self {
            Self::NotDone(message) => Self::NotDone(format!("{what}: {message}")),
            Self::Unknown(message) => Self::Unknown(format!("{what}: {message}")),
            Self::Refused(message) => Self::Refused(format!("{what}: {message}")),
            Self::Fenced(message) => Self::Fenced(format!("{what}: {message}")),
            Self::Torn(message) => Self::Torn(format!("{what}: {message}")),
            redirection @ (Self::Moved(_) | Self::Ask(_)) => redirection,
        }
    }

    /// While masters change, one that cannot write is no reason to give up: another one will be found.
    #[must_use]
    pub(crate) fn while_masters_change(self) -> Self {
        match self {
            Self::Refused(message) if is_of_a_master_that_was(&message) => Self::NotDone(message),
            other => other,
        }
    }

    /// Whether the server says that it is a replica.
    pub(crate) fn is_of_a_replica(&self) -> bool {
        matches!(self, Self::Refused(message) if message.contains("READONLY"))
    }

    /// The error of a step that writes.
    pub(crate) fn of_write(self) -> StoreError {
        match self {
            Self::NotDone(message) | Self::Torn(message) => StoreError::Unavailable { message, source: None },
            Self::Moved(_) | Self::Ask(_) => {
                StoreError::Unavailable { message: self.to_string(), source: None }
            }
            Self::Unknown(message) => StoreError::Unknown { message },
            Self::Refused(message) => StoreError::Refused { message },
            Self::Fenced(message) => StoreError::Fenced { message },
        }
    }

    /// The error of a step that only reads: there, unknown and not done are the same.
    pub(crate) fn of_read(self) -> StoreError {
        match self {
            Self::Unknown(message) => StoreError::Unavailable { message, source: None },
            other => other.of_write(),
        }
    }
}

impl From<Fault> for TransportError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Fenced(message) => Self::Fenced { message },
            other => Self::Unavailable { message: other.to_string() },
        }
    }
}

fn is_of_a_master_that_was(message: &str) -> bool {
    message.contains("READONLY") || message.contains("NOREPLICAS")
}

/// What the server said, or nothing if the connection broke. Only codes count, for texts differ between versions; but
/// servers before 7.0 bury the code of a script's error in the text.
fn judge(error: &RedisError) -> Option<Fault> {
    let code = error.code()?;
    let text = format!("{code} {}", error.detail().unwrap_or_default());
    let says = |word: &str| code == word || text.contains(&format!("-{word} "));
    let elsewhere = || Endpoint::parse(error.redirect_node()?.0, None);
    match code {
        "MOVED" => return Some(Fault::Moved(elsewhere())),
        "ASK" => return Some(elsewhere().map_or(Fault::NotDone(text), Fault::Ask)),
        "TRYAGAIN" => return Some(Fault::Torn(text)),
        _ => {}
    }
    // A script that had begun when the slot moved on: what it did until then is done.
    if text.contains("non local key") || text.contains("Multi keys request invalid") {
        return Some(Fault::Unknown(text));
    }
    let later = ["LOADING", "BUSY", "CLUSTERDOWN", "MASTERDOWN", "NOSCRIPT", "UNKILLABLE"];
    if error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading) || later.iter().any(|word| says(word))
    {
        return Some(Fault::NotDone(text));
    }
    Some(Fault::Refused(text))
}
