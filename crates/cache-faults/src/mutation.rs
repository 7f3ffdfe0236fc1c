//! Whether this build has guards that can be taken out, and how to run it without one.

use std::process::Command;

#[cfg(all(edgecache_mutation, not(debug_assertions)))]
compile_error!("a build from which guards can be taken out is no release");

/// Whether guards can be taken out, by the name in the environment variable `EDGECACHE_MUTATION`.
pub const fn guards_can_be_taken_out() -> bool {
    #[cfg(edgecache_mutation)]
    return true;
    #[cfg(not(edgecache_mutation))]
    return false;
}

/// This program once more, with the guards that it has itself.
///
/// # Errors
/// If the program has no path any more.
pub fn this_program() -> std::io::Result<Command> {
    Ok(Command::new(std::env::current_exe()?))
}

/// This program once more, without a guard: in a process of its own, for a build reads once which guard it goes without.
///
/// # Errors
/// If the program has no path any more.
pub fn without(guard: &str) -> std::io::Result<Command> {
    let mut command = this_program()?;
    command.env("EDGECACHE_MUTATION", guard);
    Ok(command)
}
