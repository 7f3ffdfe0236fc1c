//! Steps: run one after the other, each with its time, until one fails.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A program with its arguments.
pub(crate) struct Command {
    program: String,
    pub(crate) args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Command {
    pub(crate) fn cargo<S: AsRef<str>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::new("cargo", args)
    }

    pub(crate) fn new<S: AsRef<str>>(program: &str, args: impl IntoIterator<Item = S>) -> Self {
        let args = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        Self { program: program.to_owned(), args, env: Vec::new() }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn push<'a>(&mut self, args: impl IntoIterator<Item = &'a str>) {
        self.args.extend(args.into_iter().map(str::to_owned));
    }

    /// Runs it at the root of the workspace.
    pub(crate) fn run(&self) -> Result<()> {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().cloned()).current_dir(root()?);
        let status = command.status().with_context(|| format!("cannot start {}", self.program))?;
        ensure!(status.success(), "{} ended with {status}", self.program);
        Ok(())
    }

    /// Runs it where the caller is and passes its exit code on; prints nothing itself.
    pub(crate) fn run_as_is(&self) -> Result<ExitCode> {
        let mut command = std::process::Command::new(&self.program);
        let status = command.args(&self.args).envs(self.env.iter().cloned()).status();
        let status = status.with_context(|| format!("cannot start {}", self.program))?;
        // Without a code it was a signal.
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// The line to type for it.
    fn line(&self) -> String {
        let quoted = |text: &str| match text.contains(' ') {
            true => format!("'{text}'"),
            false => text.to_owned(),
        };
        let env = self.env.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
        let words = [self.program.as_str()].into_iter().chain(self.args.iter().map(String::as_str));
        env.chain(words.map(quoted)).collect::<Vec<_>>().join(" ")
    }
}

enum Work {
    Command(Command),
    Inner { repeat: &'static str, run: fn() -> Result<()> },
    Skipped(&'static str),
}

/// One step of a command.
pub(crate) struct Step {
    name: &'static str,
    work: Work,
}

impl Step {
    pub(crate) fn command(name: &'static str, command: Command) -> Self {
        Self { name, work: Work::Command(command) }
    }

    /// A step that is a function of this program; `repeat` is the line that runs it alone.
    pub(crate) fn inner(name: &'static str, repeat: &'static str, run: fn() -> Result<()>) -> Self {
        Self { name, work: Work::Inner { repeat, run } }
    }

    pub(crate) fn skipped(name: &'static str, why: &'static str) -> Self {
        Self { name, work: Work::Skipped(why) }
    }

    /// The line that runs the step alone.
    pub(crate) fn repeat(&self) -> String {
        match &self.work {
            Work::Command(command) => command.line(),
            Work::Inner { repeat, .. } => (*repeat).to_owned(),
            Work::Skipped(why) => format!("# {why}"),
        }
    }

    fn run(&self) -> Result<()> {
        match &self.work {
            Work::Command(command) => command.run(),
            Work::Inner { run, .. } => run(),
            Work::Skipped(_) => Ok(()),
        }
    }
}

/// Runs the steps; stops at the first that fails, saying how to repeat it.
pub(crate) fn run(steps: &[Step]) -> Result<()> {
    let mut summary = Vec::new();
    for step in steps {
        println!("\n── {}: {}", step.name, step.repeat());
        let (outcome, took) = timed(|| step.run());
        let verdict = match (&outcome, &step.work) {
            (Err(_), _) => "FAILED",
            (Ok(()), Work::Skipped(_)) => "skipped",
            (Ok(()), _) => "ok",
        };
        summary.push(format!("{:>8.1} s  {verdict:<8} {}", took.as_secs_f64(), step.name));
        if let Err(error) = outcome {
            print_summary(&summary);
            bail!("{error:#}\n\n{} failed; repeat it alone with:\n  {}", step.name, step.repeat());
        }
    }
    print_summary(&summary);
    Ok(())
}

fn print_summary(summary: &[String]) {
    println!("\n── summary\n{}", summary.join("\n"));
}

#[expect(clippy::disallowed_methods, reason = "the stopwatch of the steps")]
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

/// Whether cargo knows the subcommand.
pub(crate) fn cargo_has(subcommand: &str) -> bool {
    let output = std::process::Command::new("cargo").args([subcommand, "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}

/// Where cargo builds.
pub(crate) fn target() -> Result<PathBuf> {
    Ok(std::env::var_os("CARGO_TARGET_DIR").map_or(root()?.join("target"), PathBuf::from))
}

/// The root of the workspace.
pub(crate) fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the folder xtask has no parent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_can_be_typed() {
        let command = Command::cargo(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(command.line(), "RUSTDOCFLAGS='-D warnings' cargo doc --no-deps");
    }

    #[test]
    fn the_first_failure_stops_the_run_and_says_how_to_repeat_it() {
        let steps = [
            Step::command("good", Command::new("true", [""; 0])),
            Step::inner("bad", "cargo xtask bad", || bail!("it broke")),
            Step::inner("never", "", || panic!("a step behind a failed one ran")),
        ];
        let error = run(&steps).unwrap_err().to_string();
        assert!(error.contains("it broke") && error.contains("cargo xtask bad"), "{error}");
        assert!(run(&steps[..1]).is_ok());
        assert!(run(&[Step::command("failing", Command::new("false", [""; 0]))]).is_err());
        assert!(run(&[Step::skipped("not here", "why")]).is_ok());
    }
}
