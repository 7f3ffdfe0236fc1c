//! Clients of many nodes book the same GPUs; one node is killed in mid-run. Nothing may be booked twice or lost.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cache_marketplace::{
    BookOutcome, BookingRequest, BookingStatus, Ledger, LedgerError, MarketError, Marketplace, audit,
};
use cache_testkit::{PostgresServer, RedisServer, this_program};
use tokio::task::JoinSet;

use crate::Args;
use crate::world::{Node, stopwatch};

const HALF_HOUR: u64 = 1_800_000;
/// How often an attempt is repeated whose outcome is unknown.
const ASKED_MAX: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client asks for, decided by its number alone: about every tenth attempt repeats the one before.
fn attempts(args: &Args, client: usize) -> Vec<BookingRequest> {
    let mut rng = fastrand::Rng::with_seed(client as u64);
    let mut requests: Vec<BookingRequest> = Vec::new();
    for number in 0..args.attempts / args.clients {
        let again = requests.last().cloned().filter(|_| rng.u8(..10) == 0);
        requests.push(again.unwrap_or_else(|| {
            let start_time = args.from + rng.u64(0..48) * HALF_HOUR;
            BookingRequest {
                booking_id: format!("{client}-{number}"),
                gpu_id: format!("p/H100/{}", rng.u32(1..=args.gpus)),
                user_id: format!("user-{client}"),
                start_time,
                end_time: start_time + rng.u64(1..4) * HALF_HOUR,
            }
        }));
    }
    requests
}

/// What came of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Came {
    Created,
    Conflict,
    Replay,
}

/// Asks, and asks again when it is unknown whether it happened. `new` says that this was not asked for before.
async fn attempt(market: &Marketplace, request: BookingRequest, new: bool) -> anyhow::Result<Came> {
    let mut asked = 1;
    let outcome = loop {
        match market.create_booking(request.clone()).await {
            Err(MarketError::Ledger(LedgerError::Unavailable(_))) if asked < ASKED_MAX => asked += 1,
            made => break made?.outcome,
        }
    };
    match outcome {
        BookOutcome::Booked { repeated: false, .. } => Ok(Came::Created),
        BookOutcome::Booked { repeated: true, .. } if new && asked > 1 => Ok(Came::Created),
        BookOutcome::Booked { repeated: true, .. } => Ok(Came::Replay),
        BookOutcome::Conflict { .. } => Ok(Came::Conflict),
        other => bail!("{other:?}"),
    }
}

/// The clients of the last node, told line by line, until somebody kills this process.
pub(crate) async fn be_killed(args: &Args, database: &str, redis: &str) -> anyhow::Result<()> {
    let node = Node::start("killed", database, redis).await?;
    let mut clients = JoinSet::new();
    for client in clients_of(args, args.nodes - 1) {
        let (market, requests) = (node.market.clone(), attempts(args, client));
        clients.spawn(async move {
            for (number, request) in requests.iter().enumerate() {
                let new = !requests[..number].contains(request);
                let came = attempt(&market, request.clone(), new).await?;
                // One write, so that a line is there whole or not at all.
                std::io::stdout().lock().write_all(format!("{client} {number} {came:?}\n").as_bytes())?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    // Whoever started this ends it.
    std::future::pending().await
}

fn clients_of(args: &Args, node: usize) -> impl Iterator<Item = usize> {
    (0..args.clients).filter({
        let nodes = args.nodes;
        move |client| client % nodes == node
    })
}

pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let (postgres, server) = (PostgresServer::start(), RedisServer::start());
    let (database, redis) = (postgres.url(), server.url());
    let began = stopwatch();
    let mut nodes = Vec::new();
    for number in 0..args.nodes - 1 {
        nodes.push(Node::start(&format!("node-{number}"), &database, &redis).await?);
    }
    nodes[0].offer("H100", args.gpus).await?;
    let args = Args { from: nodes[0].now() + 3_600_000, ..args.clone() };

    let mut clients = JoinSet::new();
    for (number, node) in nodes.iter().enumerate() {
        for client in clients_of(&args, number) {
            let (market, requests) = (node.market.clone(), attempts(&args, client));
            clients.spawn(async move {
                let mut came = HashMap::new();
                for (number, request) in requests.iter().enumerate() {
                    let new = !requests[..number].contains(request);
                    *came.entry(attempt(&market, request.clone(), new).await?).or_insert(0_u64) += 1;
                }
                anyhow::Ok(came)
            });
        }
    }
    let doomed = start_doomed(&args, &database, &redis)?;
    let told = tokio::task::spawn_blocking({
        let of_it: usize =
            clients_of(&args, args.nodes - 1).map(|client| attempts(&args, client).len()).sum();
        move || kill_in_mid_run(doomed, of_it / 2)
    });
    let told = told.await??;
    let mut came: HashMap<Came, u64> = HashMap::new();
    for outcome in told.values() {
        *came.entry(*outcome).or_default() += 1;
    }
    while let Some(done) = clients.join_next().await {
        for (outcome, count) in done?? {
            *came.entry(outcome).or_default() += count;
        }
    }
    // What the dead node did not tell about is asked again, on another one: who does not know asks again.
    let mut found_done = 0;
    for client in clients_of(&args, args.nodes - 1) {
        let requests = attempts(&args, client);
        for (number, request) in requests.iter().enumerate() {
            if told.contains_key(&(client, number)) {
                continue;
            }
            let first_time = !requests[..number].contains(request);
            let outcome = attempt(&nodes[0].market, request.clone(), false).await?;
            // Committed by the dead node, but never told.
            found_done += u64::from(first_time && outcome == Came::Replay);
            *came.entry(outcome).or_default() += 1;
        }
    }
    let of = |outcome| came.get(&outcome).copied().unwrap_or_default();
    let (created, conflicts, replays) = (of(Came::Created), of(Came::Conflict), of(Came::Replay));
    let attempted = (args.attempts / args.clients * args.clients) as u64;
    ensure!(created + conflicts + replays == attempted, "{came:?} is not {attempted}");

    // The events that the dead node left behind are published by the others.
    let left = nodes[0].ledger.backlog(nodes[0].now()).await?.waiting;
    settle(&nodes).await?;
    let bookings = nodes[0].ledger.bookings("", u32::MAX).await?;
    ensure!(bookings.len() as u64 == created + found_done, "{} bookings", bookings.len());
    let mut taken: HashMap<&str, Vec<(u64, u64)>> = HashMap::new();
    for booking in bookings.iter().filter(|booking| booking.status == BookingStatus::Active) {
        taken.entry(&booking.gpu_id).or_default().push((booking.start_time, booking.end_time));
    }
    let mut overlaps = 0;
    for times in taken.values_mut() {
        times.sort_unstable();
        overlaps += times.windows(2).filter(|pair| pair[0].1 > pair[1].0).count();
    }
    ensure!(overlaps == 0, "{overlaps} bookings overlap");
    for ((client, number), outcome) in &told {
        let request = &attempts(&args, *client)[*number];
        let kept = bookings.iter().any(|booking| booking.booking_id == request.booking_id);
        ensure!(kept || *outcome == Came::Conflict, "{} was acknowledged and is gone", request.booking_id);
    }
    let (mut compared, mut from_l1) = (0, 0);
    for node in &nodes {
        // Twice: the second time from L1, where it is kept.
        for _ in 0..2 {
            let comparison = audit::compare(&node.market).await?;
            ensure!(comparison.different == 0, "{:#?}", comparison.told);
            compared += comparison.compared;
            from_l1 += comparison.from_l1;
        }
    }
    println!(
        "{} nodes, {} clients, {attempted} attempts on {} GPUs in {:.1} s (PostgreSQL, Redis): {created} created + \
         {conflicts} conflicts + {replays} replays, 0 overlaps",
        args.nodes,
        args.clients,
        args.gpus,
        began.elapsed().as_secs_f64(),
    );
    println!(
        "killed with SIGKILL after {} answers: none of them lost, {found_done} bookings committed but not told were \
         found by asking again, {left} events in the outbox at the end of the run and 0 after the relays; \
         {compared} answers of the other nodes equal to the database, {from_l1} of them from L1",
        told.len(),
    );
    for node in nodes {
        node.stop().await;
    }
    Ok(())
}

fn start_doomed(args: &Args, database: &str, redis: &str) -> anyhow::Result<Child> {
    let numbers = [
        ("--nodes", args.nodes as u64),
        ("--clients", args.clients as u64),
        ("--attempts", args.attempts as u64),
        ("--gpus", args.gpus.into()),
        ("--from", args.from),
    ];
    let mut command = Command::new(this_program());
    command.args(["--node-on", database, "--redis", redis]);
    command.args(numbers.iter().flat_map(|(name, number)| [(*name).to_owned(), number.to_string()]));
    Ok(command.stdout(Stdio::piped()).spawn()?)
}

/// Hears what the node tells until it has told enough, kills it, and hears the rest that was on its way.
fn kill_in_mid_run(mut doomed: Child, after: usize) -> anyhow::Result<HashMap<(usize, usize), Came>> {
    let lines = BufReader::new(doomed.stdout.take().context("its output is piped")?).lines();
    let mut told = HashMap::new();
    for line in lines {
        let line = line?;
        let mut words = line.split(' ');
        let (Some(client), Some(number), Some(came)) = (words.next(), words.next(), words.next()) else {
            bail!("{line:?}");
        };
        let came = match came {
            "Created" => Came::Created,
            "Conflict" => Came::Conflict,
            _ => Came::Replay,
        };
        told.insert((client.parse()?, number.parse()?), came);
        if told.len() == after {
            doomed.kill()?;
        }
    }
    doomed.wait()?;
    ensure!(told.len() >= after, "it ended by itself after {} answers", told.len());
    Ok(told)
}

/// Waits until no event waits, and every node has heard all.
async fn settle(nodes: &[Node]) -> anyhow::Result<()> {
    let settled = async {
        while nodes[0].ledger.backlog(nodes[0].now()).await?.waiting > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, settled).await.context("events stay in the outbox")??;
    for node in nodes {
        ensure!(node.market.cache().sync(PATIENCE).await, "a node could not sync");
    }
    Ok(())
}
