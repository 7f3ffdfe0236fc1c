//! The binary of a node.

use std::process::ExitCode;

use cache_node::cli::{self, Cli};
use cache_node::node;
use clap::Parser;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let logging = cli.log_to_stderr();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::refuse(format!("no threads can be started: {error}")),
    };
    runtime.block_on(async {
        match node::shutdown_on_signals() {
            Ok(shutdown) => cli.run(logging, shutdown).await,
            Err(error) => cli::refuse(format!("signals cannot be received: {error}")),
        }
    })
}
