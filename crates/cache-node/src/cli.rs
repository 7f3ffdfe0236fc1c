//! The command line.

mod configuration;
mod probe;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Sources};
use crate::demo::{self, DemoArgs};
use crate::logging::Logging;
use crate::node;
use crate::reload::Reloader;
use crate::telemetry::otlp::Traces;
use probe::Trust;

/// The exit code for what the caller must mend: a wrong configuration, an address in use, an unreadable file.
const EXIT_REFUSED: u8 = 2;

/// The exit code of a node that is of no use.
const EXIT_SICK: u8 = 1;

/// A cache node: memory in front of a shared store, kept coherent by events.
#[derive(Debug, Parser)]
#[command(name = "cache-node", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node with an HTTP interface; in one process without REDIS_URL, on Redis with it.
    Serve(SourceArgs),
    /// Look at a configuration without starting a node.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Ask the node that listens here whether it is of use: exit code 0 or 1. Over TLS where its configuration names a
    /// certificate.
    Health(HealthArgs),
    /// Replay a GPU market on several nodes in this process and judge every read.
    Demo(DemoArgs),
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say everything that is wrong, with exit code 2, or that all is right, with 0.
    Check(SourceArgs),
    /// Show every setting that is in effect, and where its value comes from. Secrets are not shown.
    Show {
        #[command(flatten)]
        sources: SourceArgs,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// All settings of all cache types too.
        #[arg(long)]
        all: bool,
    },
}

/// The flags of a node. Everything else is set in the file or the environment.
#[derive(Debug, Args)]
struct SourceArgs {
    /// Host and port to listen on [default: 127.0.0.1:8080]; port 0 takes any free one.
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Each node may have a marketplace of its own in memory, although nodes share a Redis.
    #[arg(long)]
    allow_private_ledger: bool,
    /// development, staging or production.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
}

#[derive(Debug, Args)]
struct HealthArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// Trust certificates of these authorities (PEM), over TLS; without it the one that the configuration names.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The name that must be in the certificate [default: the host of the address].
    #[arg(long, value_name = "HOST", requires = "ca")]
    name: Option<String>,
}

impl Cli {
    /// Logs to stderr what `RUST_LOG` asks for, else what is of note: for a server all of its fate, for the demo only what
    /// goes wrong, beside its own report.
    pub fn log_to_stderr(&self) -> Logging {
        Logging::to_stderr(match self.command {
            Command::Serve(_) => "info",
            Command::Demo(_) | Command::Config { .. } | Command::Health(_) => "error",
        })
    }

    /// Does what was asked, until it is done or `shutdown` is cancelled.
    pub async fn run(self, logging: Logging, shutdown: CancellationToken) -> ExitCode {
        match self.command {
            Command::Serve(args) => serve(args, logging, shutdown).await,
            Command::Config { command } => configuration(command),
            Command::Health(args) => health(args).await,
            Command::Demo(args) => demo::run(args, shutdown).await,
        }
    }
}

impl SourceArgs {
    /// With the environment of this process.
    fn sources(self) -> Sources {
        let mut sources = Sources { file: self.config, ..Sources::default() }.process_env();
        let private = self.allow_private_ledger.then(|| "true".to_owned());
        let flags = [
            ("listen", "--listen", self.listen),
            ("profile", "--profile", self.profile),
            ("database.allow_private_ledger", "--allow-private-ledger", private),
        ];
        sources.flags =
            flags.into_iter().filter_map(|(path, flag, value)| Some((path, flag, value?))).collect();
        sources
    }
}

fn configuration(command: ConfigCommand) -> ExitCode {
    let (told, sources) = match command {
        ConfigCommand::Check(sources) => (Told::Check, sources),
        ConfigCommand::Show { sources, json, all } => (Told::Show { json, all }, sources),
    };
    let reading = match config::read(&sources.sources()) {
        Ok(reading) => reading,
        Err(errors) => return refuse(errors),
    };
    let text = match told {
        Told::Check => configuration::checked(&reading),
        Told::Show { json: true, all } => configuration::shown_as_json(&reading, all),
        Told::Show { json: false, all } => configuration::shown(&reading, all),
    };
    // Whoever asked may have closed the pipe.
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}

enum Told {
    Check,
    Show { json: bool, all: bool },
}

async fn health(args: HealthArgs) -> ExitCode {
    let HealthArgs { sources, ca, name } = args;
    let config = match config::load(&sources.sources()) {
        Ok(config) => config,
        Err(errors) => return refuse(errors),
    };
    match probe::health(&config.http, Trust { ca: ca.as_deref(), name: name.as_deref() }).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "cache-node: {error:#}");
            ExitCode::from(EXIT_SICK)
        }
    }
}

async fn serve(args: SourceArgs, logging: Logging, shutdown: CancellationToken) -> ExitCode {
    let sources = args.sources();
    let reading = match config::read(&sources) {
        Ok(reading) => reading,
        Err(errors) => return refuse(errors),
    };
    let telemetry = reading.config.telemetry.otlp.as_ref();
    let traces = telemetry.map(|otlp| Traces::start(otlp, &reading.config.identity)).transpose();
    let traces = match traces {
        Ok(traces) => traces.inspect(|traces| logging.traces().fill(traces)),
        Err(error) => return refuse(format!("{error:#}")),
    };
    let reloader = Reloader::new(sources, &reading, logging);
    let ran = node::run(reading.config, reloader, shutdown).await;
    if let Some(traces) = traces {
        traces.stop().await;
    }
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(format!("{error:#}")),
    }
}

/// Says on stderr what the caller must mend, and gives the exit code for that.
pub fn refuse(why: impl std::fmt::Display) -> ExitCode {
    // Nobody is left to tell if stderr is closed.
    let _ = writeln!(std::io::stderr(), "cache-node: {why}");
    ExitCode::from(EXIT_REFUSED)
}
