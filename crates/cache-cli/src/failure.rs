//! What can go wrong, and the exit code of each.

use std::fmt;
use std::io;

use serde::Serialize;

/// What was looked for is wrong: a node is unhealthy, a target is missed, nodes differ, nothing is cached.
pub(crate) const EXIT_WRONG: u8 = 1;
/// What was typed cannot be meant (clap uses the same number).
const EXIT_USAGE: u8 = 2;
/// No answer from the node.
const EXIT_UNREACHABLE: u8 = 3;
/// The node did not let us: no token, a wrong one, or one without the right.
const EXIT_REFUSED: u8 = 4;
/// The node could not do it.
const EXIT_NODE: u8 = 5;

/// What a command that ran to its end came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Right,
    /// What was looked for is wrong.
    Wrong,
}

impl Verdict {
    /// Wrong if it is so.
    pub(crate) fn wrong_if(wrong: bool) -> Self {
        if wrong { Self::Wrong } else { Self::Right }
    }
}

/// Why a command did not run to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What was typed cannot be meant.
    Usage(Told),
    /// No answer.
    Unreachable(Told),
    /// No right.
    Refused(Told),
    /// The node could not do it, or answered what is no answer.
    Node(Told),
    /// The person at the terminal said no.
    Declined(Told),
    /// Nobody reads what we write any more.
    Closed,
}

/// Cause and cure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Told {
    /// What is wrong.
    pub(crate) error: String,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cure: Option<String>,
}

impl Told {
    pub(crate) fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), cure: None }
    }

    pub(crate) fn cure(self, cure: impl Into<String>) -> Self {
        Self { cure: Some(cure.into()), ..self }
    }
}

impl Failure {
    pub(crate) fn usage(error: impl Into<String>, cure: impl Into<String>) -> Self {
        Self::Usage(Told::new(error).cure(cure))
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Declined(_) => EXIT_WRONG,
            Self::Usage(_) => EXIT_USAGE,
            Self::Unreachable(_) => EXIT_UNREACHABLE,
            Self::Refused(_) => EXIT_REFUSED,
            Self::Node(_) => EXIT_NODE,
        }
    }

    /// Cause and cure.
    pub(crate) fn told(&self) -> Told {
        match self {
            Self::Usage(told)
            | Self::Unreachable(told)
            | Self::Refused(told)
            | Self::Node(told)
            | Self::Declined(told) => told.clone(),
            Self::Closed => Told::new("nobody reads the output"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.told();
        f.write_str(&crate::screen::clean(&told.error))?;
        match &told.cure {
            Some(cure) => write!(f, "\n  cure: {}", crate::screen::clean(cure)),
            None => Ok(()),
        }
    }
}

/// Writing to stdout failed.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Node(Told::new(format!("cannot write the output: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_an_exit_code_of_its_own() {
        let told = Told::new("x");
        let codes = [
            Failure::Usage(told.clone()),
            Failure::Unreachable(told.clone()),
            Failure::Refused(told.clone()),
            Failure::Node(told),
        ]
        .map(|failure| failure.exit_code());
        assert_eq!(codes, [2, 3, 4, 5]);
        let closed = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(closed.exit_code(), 0);
    }

    #[test]
    fn a_node_cannot_steer_the_terminal() {
        let failure = Failure::Node(Told::new("a\u{1b}[2Jb").cure("c\u{7}d"));
        let shown = failure.to_string();
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown:?}");
    }
}
