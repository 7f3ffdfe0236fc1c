//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

const EXIT_CODES: &str = "\
Exit codes:
  0  all is well
  1  what was looked for is wrong: unhealthy, target missed, alert, difference, problem, nothing cached
  2  what was typed cannot be meant: unknown cache type, no reason, wrong URL
  3  no answer from the node
  4  the node refused: no token, a wrong one, or one without the right
  5  the node could not do it

On a terminal answers are tables; elsewhere, and with --json, each is one JSON document (`watch`: one a line).";

/// Ask the nodes of a cache how they are, and tell them what has become untrue.
#[derive(Debug, Parser)]
#[command(name = "cachectl", version, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct Global {
    /// The node to ask; may be repeated where a command asks several.
    #[arg(long = "node", global = true, value_name = "URL", env = "CACHECTL_NODE", value_delimiter = ',')]
    #[arg(default_value = "http://127.0.0.1:8080")]
    pub(crate) nodes: Vec<String>,
    /// The token to show. Others on this machine can see what is typed here: better set CACHECTL_TOKEN, or use --token-file.
    #[arg(long, global = true, value_name = "TOKEN", env = "CACHECTL_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// A file that holds the token; goes before CACHECTL_TOKEN.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Who vouches for the node's certificate (PEM) [default: the authorities of this machine].
    #[arg(long, global = true, value_name = "FILE", env = "CACHECTL_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The certificate (PEM) that this client shows to the node.
    #[arg(long, global = true, value_name = "FILE", requires = "client_key")]
    pub(crate) client_cert: Option<PathBuf>,
    /// The key (PEM) of --client-cert.
    #[arg(long, global = true, value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
    /// How long an answer may take.
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// JSON, also on a terminal.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Tables, also where no terminal is.
    #[arg(long, global = true, conflicts_with = "json")]
    pub(crate) table: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("must be a number with a unit, such as 500ms, 5s or 2m".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How nodes are; exit code 1 if one is not healthy.
    Health(HealthArgs),
    /// What nodes counted since they started.
    Stats(StatsArgs),
    /// Read a value, and what the node knows about its freshness.
    Get(GetArgs),
    /// Why a read would be answered as it is: what each tier holds, how fresh it is, the latest events. Changes nothing.
    Explain(KeyArgs),
    /// Write a JSON value.
    Put(PutArgs),
    /// Say that something has become untrue: a resource, a tag or a pattern, on all nodes.
    Invalidate(InvalidateArgs),
    /// Drop everything, or all of a cache type, on all nodes.
    Clear(ClearArgs),
    /// Follow the changes as they happen. With several --node it goes on with the next when one is lost.
    Watch(WatchArgs),
    /// The nodes that share a store, as they describe themselves.
    Nodes,
    /// The keys that are read most.
    HotKeys(LimitArgs),
    /// Figures beyond their limits; exit code 1 if an alert stands.
    Alerts,
    /// The latest events that a node applied, newest first.
    Events(EventsArgs),
    /// Compare what two nodes hold; exit code 1 if a difference lasts.
    Diff(DiffArgs),
    /// Figures beside their targets; exit code 1 if one is missed.
    Slo(SloArgs),
    /// Look for what is wrong around nodes and between them; exit code 1 if there is a problem.
    Doctor(DoctorArgs),
    /// Print the completions of a shell.
    Completions {
        /// For which shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// A degraded node, which answers but has lost its proof of freshness, is good enough.
    #[arg(long)]
    pub(crate) allow_degraded: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// All cache types, also those that nobody used.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// Such as gpu_pricing.
    pub(crate) cache_type: String,
    /// Such as H100.
    pub(crate) resource: String,
    /// Parameters of the key.
    #[arg(value_name = "NAME=VALUE", value_parser = parameter)]
    pub(crate) parameters: Vec<(String, String)>,
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("parameters of a key are spelled name=value".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// How fresh it must be: any, bounded, at-most=2s, at-least=TOKEN, latest.
    #[arg(long, value_name = "WISH")]
    pub(crate) freshness: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// The value, as JSON.
    #[arg(long, value_name = "JSON", required_unless_present = "file", conflicts_with = "file")]
    pub(crate) value: Option<String>,
    /// A file with the value; - is the standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Another lifetime than that of the cache type, such as 30s.
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<String>,
    /// A label by which it can be invalidated; may be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cachectl invalidate gpu_pricing H100 --reason 'new list'
  cachectl invalidate gpu_pricing --pattern 'region=us-*' --reason 'new list'
  cachectl invalidate --tag user:7 --reason logout")]
pub(crate) struct InvalidateArgs {
    /// Such as gpu_pricing; a tag or pattern may do without.
    pub(crate) cache_type: Option<String>,
    /// The resource, with all its parameters.
    #[arg(conflicts_with_all = ["tag", "pattern"])]
    pub(crate) resource: Option<String>,
    /// All entries with this label.
    #[arg(long, value_name = "TAG", conflicts_with = "pattern")]
    pub(crate) tag: Option<String>,
    /// The keys that the pattern covers.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) pattern: Option<String>,
    /// Why, for the audit; asked for on a terminal.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ClearArgs {
    /// Only this cache type.
    pub(crate) cache_type: Option<String>,
    /// Why, for the audit; asked for on a terminal.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Do not ask whether it is meant.
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only events of this kind, such as booking_created; may be repeated.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) event_type: Vec<String>,
    /// Only events that touch this cache type.
    #[arg(long, value_name = "TYPE")]
    pub(crate) cache_type: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    /// Go on behind this position (partition:epoch:sequence).
    #[arg(long, value_name = "POSITION")]
    pub(crate) since: Option<String>,
    /// End after so many changes.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// End with code 3 when the stream breaks, instead of connecting again.
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Most lines.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) limit: LimitArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// URL of one node.
    #[arg(value_name = "NODE")]
    pub(crate) left: String,
    /// URL of the other node.
    #[arg(value_name = "NODE")]
    pub(crate) right: String,
    /// Only this cache type; may be repeated [default: all].
    #[arg(long = "cache-type", value_name = "TYPE")]
    pub(crate) cache_types: Vec<String>,
    /// Most entries of each cache type and node that are compared.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) limit: u32,
    /// How long to wait before the second look: longer than the staleness bound of the nodes.
    #[arg(long, value_name = "TIME", default_value = "2500ms", value_parser = duration)]
    pub(crate) settle: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct SloArgs {
    /// A target without samples counts as missed.
    #[arg(long)]
    pub(crate) strict: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Warnings count as problems.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Also ask the nodes that the first one knows of, at the addresses that they give. They are shown the token.
    #[arg(long)]
    pub(crate) all_nodes: bool,
    /// Only what is not as it should be.
    #[arg(long)]
    pub(crate) quiet: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_make_sense() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_token_is_not_in_the_help() {
        let mut command = Cli::command();
        let help = command.render_long_help().to_string();
        assert!(help.contains("CACHECTL_TOKEN") && help.contains("Exit codes"), "{help}");
    }

    #[test]
    fn a_parameter_has_a_name_and_a_value() {
        assert_eq!(parameter("region=us=1"), Ok(("region".into(), "us=1".into())));
        assert!(parameter("region").is_err() && parameter("=x").is_err());
    }
}
