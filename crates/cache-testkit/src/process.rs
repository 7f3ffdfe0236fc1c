//! Processes that stand still for a while.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

/// Stops a process (SIGSTOP): it does nothing, holds what it holds, and does not know of it.
///
/// # Panics
/// If it has ended.
pub fn pause(child: &Child) {
    signal(child, Signal::STOP);
}

/// Lets a stopped process go on (SIGCONT).
///
/// # Panics
/// If it has ended.
pub fn resume(child: &Child) {
    signal(child, Signal::CONT);
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("a signal to a child of ours");
}

/// The program that runs, to be started once more as another process.
///
/// # Panics
/// If the machine cannot tell.
pub fn this_program() -> std::path::PathBuf {
    std::env::current_exe().expect("the path of this program")
}
