//! Many nodes on one database and one Redis, all real: the load test in which one node is killed, and the figures.
//!
//! `cargo xtask market` runs both; `cargo xtask market -- --load` or `-- --figures` one of them.

mod figures;
mod load;
mod world;

use clap::Parser;

/// What to run.
#[derive(Parser, Clone)]
struct Args {
    /// Only the load test.
    #[arg(long)]
    load: bool,
    /// Only the figures.
    #[arg(long)]
    figures: bool,
    /// Nodes of the load test; the last of them is a process of its own, and is killed.
    #[arg(long, default_value_t = 8)]
    nodes: usize,
    /// Clients, spread over the nodes.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Booking attempts of all clients together.
    #[arg(long, default_value_t = 10_000)]
    attempts: usize,
    /// GPUs that they fight for.
    #[arg(long, default_value_t = 100)]
    gpus: u32,
    /// Rounds of each figure.
    #[arg(long, default_value_t = 1_000)]
    rounds: usize,
    /// Is the node that is going to be killed, on this database.
    #[arg(long, requires = "redis", hide = true)]
    node_on: Option<String>,
    /// Its Redis.
    #[arg(long, hide = true)]
    redis: Option<String>,
    /// When bookings of the load test begin, in Unix milliseconds.
    #[arg(long, default_value_t = 0, hide = true)]
    from: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let (Some(database), Some(redis)) = (&args.node_on, &args.redis) {
        return load::be_killed(&args, database, redis).await;
    }
    if args.load || !args.figures {
        load::run(&args).await?;
    }
    if args.figures || !args.load {
        figures::run(args.rounds).await?;
    }
    Ok(())
}
