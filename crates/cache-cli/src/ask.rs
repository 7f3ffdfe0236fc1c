//! Asking the person at the terminal.

use std::io::{IsTerminal, Write};

use crate::failure::{Failure, Told};

/// Whether somebody is there to be asked: both what we read and where we ask are terminals.
fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Why something is done: what was typed, else what is answered.
///
/// # Errors
/// [`Failure::Usage`] where nobody can be asked or nothing is answered.
pub(crate) fn reason(typed: Option<String>) -> Result<String, Failure> {
    let reason = match typed {
        Some(reason) => reason,
        None if somebody_is_there() => answer("Why (for the audit)? ")?,
        None => String::new(),
    };
    if reason.trim().is_empty() {
        return Err(Failure::usage(
            "no reason was given",
            "say why with --reason TEXT; it goes to the audit",
        ));
    }
    Ok(reason.trim().to_owned())
}

/// Goes on if that was agreed to.
///
/// # Errors
/// [`Failure::Declined`], or [`Failure::Usage`] where nobody can be asked.
pub(crate) fn confirmation(what: &str, agreed: bool) -> Result<(), Failure> {
    if agreed {
        return Ok(());
    }
    if !somebody_is_there() {
        return Err(Failure::usage(
            format!("{what} needs to be confirmed, and nobody is at a terminal"),
            "add --yes",
        ));
    }
    match answer(&format!("{what}. Go on? [y/N] "))?.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Declined(Told::new("nothing was done"))),
    }
}

fn answer(question: &str) -> Result<String, Failure> {
    let mut err = std::io::stderr().lock();
    // Where the question cannot be shown there is no answer either.
    let asked = write!(err, "{question}").and_then(|()| err.flush());
    let mut line = String::new();
    let heard = asked.and_then(|()| std::io::stdin().read_line(&mut line));
    heard
        .map_err(|error| Failure::usage(format!("nothing was answered: {error}"), "say it with an option"))?;
    Ok(line)
}
