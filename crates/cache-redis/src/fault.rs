//! What can go wrong with a command, by what may have been done.

use bb8_redis::redis::{ErrorKind, RedisError, ServerErrorKind};
use cache_bus::TransportError;
use cache_l2::StoreError;

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
        }
    }

    /// The error of a step that writes.
    pub(crate) fn of_write(self) -> StoreError {
        match self {
            Self::NotDone(message) => StoreError::Unavailable { message, source: None },
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
            Fault::NotDone(message) | Fault::Unknown(message) | Fault::Refused(message) => {
                Self::Unavailable { message }
            }
            Fault::Fenced(message) => Self::Fenced { message },
        }
    }
}

/// What the server said, or nothing if the connection broke. Only codes count, for texts differ between versions; but
/// servers before 7.0 bury the code of a script's error in the text.
fn judge(error: &RedisError) -> Option<Fault> {
    let code = error.code()?;
    let text = format!("{code} {}", error.detail().unwrap_or_default());
    let says = |word: &str| code == word || text.contains(&format!("-{word} "));
    let later = [
        "LOADING",
        "BUSY",
        "TRYAGAIN",
        "CLUSTERDOWN",
        "MASTERDOWN",
        "MOVED",
        "ASK",
        "NOSCRIPT",
        "UNKILLABLE",
    ];
    if error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading) || later.iter().any(|word| says(word))
    {
        return Some(Fault::NotDone(text));
    }
    Some(Fault::Refused(text))
}
