//! The project's own commands: `cargo xtask ci`, `test`, `bench`, `simulate`, `it`, `sim`, `model`,
//! `faults`, `market`, `mutations`, `explore`, `screenshot`, `tidy`.

mod chromium;
mod mutations;
mod postgres_server;
mod redis_server;
mod schedules;
mod steps;
mod tidy;

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use steps::{Command, Step};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands.")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// All that must hold before a change lands: format, lints, tidy, tests, documentation.
    Ci,
    /// Unit, integration and documentation tests; arguments go to the test runner.
    Test {
        /// For example `-p cache-l1`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Tests against a real Redis or Valkey server.
    It {
        /// Arguments for the test runner.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Benchmarks.
    Bench {
        /// One of the files in the folder `benches/benches`; all if left out.
        name: Option<String>,
        /// Fewer samples: enough to see that it works, not to quote.
        #[arg(long)]
        short: bool,
        /// For `l1`: one JSON array instead of a table, and nothing else on the standard output.
        #[arg(long)]
        json: bool,
        /// For `l1`: instructions instead of time; needs valgrind.
        #[arg(long)]
        instructions: bool,
        /// Arguments for the benchmark itself.
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Replays a trace of requests against every policy and peer; `--help` tells its options.
    #[command(disable_help_flag = true)]
    Simulate {
        /// For example `--trace requests.txt`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs schedules of many nodes with faults, each from its seed; `--help` tells its options.
    #[command(disable_help_flag = true)]
    Sim {
        /// For example `--seeds 1000`, or `--seed 42 --trace`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Explores the model of the protocol in every order of steps; `--help` tells its options.
    #[command(disable_help_flag = true)]
    Model {
        /// For example `--large`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Real servers, one fault after the other, and what readers saw; `--help` tells its options. With `--controls` from a
    /// build in which guards can be taken out.
    #[command(disable_help_flag = true)]
    Faults {
        /// For example `--short`, `--json` or `--only FLUSHALL`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Many nodes on one PostgreSQL and one Redis: the load test in which a node is killed, and what bookings take;
    /// `--help` tells its options.
    #[command(disable_help_flag = true)]
    Market {
        /// For example `--load` or `--figures`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Takes guards out of the protocol and of L1, one by one: tests must notice.
    Mutations {
        /// Only guards whose name contains this.
        only: Option<String>,
        /// Only guards of this crate.
        #[arg(short, long)]
        package: Option<String>,
        /// Fewer random cases, and explorations only of the guards of races.
        #[arg(long)]
        short: bool,
    },
    /// Explores the orders in which the threads of L1 can take turns.
    Explore {
        /// Orders tried a test; 2,000 if left out.
        #[arg(long)]
        rounds: Option<u32>,
    },
    /// Takes the pictures of the dashboard in `docs/images`, while a demo runs; needs a browser and three minutes.
    Screenshot,
    /// The rules of the house that no compiler knows: layers, absences, documents, lengths.
    Tidy,
}

fn main() -> ExitCode {
    run(Args::parse().task).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> Result<ExitCode> {
    let steps = match task {
        Task::Ci => ci(),
        Task::Test { args } => {
            let [redis, postgres, browser] = programs();
            vec![redis, postgres, browser, unit_tests("tests", &[], &args), doc_tests(&args)]
        }
        Task::It { args } => {
            let [redis, postgres, browser] = programs();
            vec![redis, postgres, browser, unit_tests("tests with real servers", WITH_SERVERS, &args)]
        }
        Task::Bench { name, short, json, instructions, mut args } => {
            let options = [("--json", json), ("--instructions", instructions)];
            for (option, _) in options.into_iter().filter(|(_, given)| *given) {
                ensure!(name.as_deref() == Some("l1"), "{option} is for `cargo xtask bench l1`");
                args.push(option.to_owned());
            }
            let command = bench(name.as_deref(), &known_benches()?, short, &args)?;
            if json {
                return command.run_as_is();
            }
            vec![Step::command("benchmarks", command)]
        }
        Task::Simulate { args } => return simulate(&args)?.run_as_is(),
        Task::Sim { args } => return schedules::program("sim", &args)?.run_as_is(),
        Task::Model { args } => return schedules::program("model", &args)?.run_as_is(),
        Task::Faults { args } => {
            redis_server::find_or_install()?;
            return faults(&args)?.run_as_is();
        }
        Task::Market { args } => {
            redis_server::find_or_install()?;
            postgres_server::find_or_install()?;
            return market(&["run", "--quiet", "--release"], args.iter().map(String::as_str)).run_as_is();
        }
        Task::Mutations { only, package, short } => {
            let done = mutations::run(only.as_deref(), package.as_deref(), short);
            return done.map(|()| ExitCode::SUCCESS);
        }
        Task::Explore { rounds } => return mutations::explore(rounds).map(|()| ExitCode::SUCCESS),
        Task::Screenshot => vec![
            chromium_step(),
            Step::command("the demo", Command::cargo(["build", "-p", "cache-node", "--bins"])),
            Step::command("pictures", Command::cargo(["run", "-p", "cache-node", "--example", "screenshot"])),
        ],
        Task::Tidy => vec![tidy_step()],
    };
    steps::run(&steps).map(|()| ExitCode::SUCCESS)
}

/// The crates whose tests start servers.
const WITH_SERVERS: &[&str] = &["cache-redis", "cache-tiered", "cache-node"];

fn ci() -> Vec<Step> {
    let mut steps = vec![
        Step::command("format", Command::cargo(["fmt", "--all", "--", "--check"])),
        Step::command(
            "lints",
            Command::cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        ),
        tidy_step(),
        redis_step(),
        postgres_step(),
        chromium_step(),
        unit_tests("tests", &[], &[]),
        doc_tests(&[]),
        schedules::step("schedules with faults", "sim", &["--seeds", "1000"]),
        schedules::step("model of the protocol", "model", &[]),
        Step::command("faults on real servers", Command::cargo(FAULTS.iter().chain(&["--short"]))),
        Step::command(
            "bookings under load, a node killed",
            market(&["run", "--quiet"], LOAD_SHORT.iter().copied()),
        ),
        Step::inner(
            "mutations, short",
            "cargo xtask mutations --short -p cache-l1 (and -p cache-bus)",
            mutations::run_in_ci,
        ),
        Step::command(
            "documentation",
            Command::cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
        ),
    ];
    steps.push(match steps::cargo_has("deny") {
        true => Step::command("licences and advisories", Command::cargo(["deny", "check"])),
        false => Step::skipped("licences and advisories", "cargo-deny is not installed"),
    });
    steps
}

/// The line that runs the fault matrix.
const FAULTS: &[&str] = &["run", "--quiet", "-p", "cache-faults", "--"];

fn faults(args: &[String]) -> Result<Command> {
    let mut command = Command::cargo(FAULTS);
    command.push(args.iter().map(String::as_str));
    if args.iter().any(|arg| arg == "--controls") {
        // In a folder of its own: nothing else must be built with the switch.
        let target = steps::target()?.join("mutations").display().to_string();
        command = command.env("RUSTFLAGS", mutations::SWITCH).env("CARGO_TARGET_DIR", &target);
    }
    Ok(command)
}

/// A load test that takes seconds.
const LOAD_SHORT: &[&str] = &["--load", "--nodes=4", "--clients=16", "--attempts=1600", "--gpus=20"];

fn market<'a>(cargo: &[&str], args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::cargo(cargo);
    command.push(["-p", "cache-marketplace-sql", "--example", "market", "--"]);
    command.push(args);
    command
}

fn tidy_step() -> Step {
    Step::inner("tidy", "cargo xtask tidy", tidy::run)
}

fn redis_step() -> Step {
    Step::inner("redis server", "command -v redis-server valkey-server", redis_server::find_or_install)
}

fn postgres_step() -> Step {
    Step::inner(
        "PostgreSQL server",
        "ls /usr/lib/postgresql/*/bin/postgres",
        postgres_server::find_or_install,
    )
}

fn chromium_step() -> Step {
    Step::inner("browser", "command -v chromium google-chrome-stable", chromium::find_or_install)
}

/// What tests start.
fn programs() -> [Step; 3] {
    [redis_step(), postgres_step(), chromium_step()]
}

/// By nextest where it is installed, which runs tests of all crates side by side.
fn unit_tests(name: &'static str, packages: &[&str], args: &[String]) -> Step {
    let nextest = steps::cargo_has("nextest");
    let mut command =
        Command::cargo(if nextest { &["nextest", "run"][..] } else { &["test", "--all-targets"] });
    command.push(packages.iter().flat_map(|package| ["-p", *package]));
    if packages.is_empty() && !names_packages(args) {
        command.push(["--workspace"]);
    }
    if !nextest {
        // `cargo test` would run each benchmark once as a test.
        command.args.retain(|arg| arg != "--all-targets");
        command.push(["--lib", "--bins", "--tests"]);
    }
    command.push(args.iter().map(String::as_str));
    Step::command(name, command)
}

fn doc_tests(args: &[String]) -> Step {
    let mut command = Command::cargo(["test", "--doc"]);
    if !names_packages(args) {
        command.push(["--workspace"]);
        return Step::command("documentation tests", command);
    }
    // Filters are for the other runner; packages are for both.
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "-p" || arg == "--package" {
            command.push([arg.as_str()].into_iter().chain(rest.next().map(String::as_str)));
        }
    }
    Step::command("documentation tests", command)
}

fn names_packages(args: &[String]) -> bool {
    args.iter().any(|arg| arg == "-p" || arg == "--package")
}

/// All benchmarks are named one by one: the library's empty test harness would not know their options.
fn bench(name: Option<&str>, known: &[String], short: bool, args: &[String]) -> Result<Command> {
    let names: Vec<&str> = match name {
        Some(name) if known.iter().any(|known| known == name) => vec![name],
        Some(name) => bail!("there is no benchmark {name:?}; there are: {}", known.join(", ")),
        None => known.iter().map(String::as_str).collect(),
    };
    let mut command = Command::cargo(["bench", "-p", "edgecache-benches"]);
    command.push(names.into_iter().flat_map(|name| ["--bench", name]));
    if short || !args.is_empty() {
        command.push(["--"]);
        command.push(short.then_some("--quick"));
        command.push(args.iter().map(String::as_str));
    }
    Ok(command)
}

fn simulate(args: &[String]) -> Result<Command> {
    let manifest = steps::root()?.join("Cargo.toml").display().to_string();
    let mut command = Command::cargo(["run", "--release", "--manifest-path", manifest.as_str()]);
    command.push(["-p", "edgecache-benches", "--bin", "simulate", "--"]);
    command.push(args.iter().map(String::as_str));
    Ok(command)
}

fn known_benches() -> Result<Vec<String>> {
    let folder = steps::root()?.join("benches/benches");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: &Step) -> String {
        step.repeat()
    }

    #[test]
    fn arguments_reach_both_test_runners() {
        let args = ["-p", "cache-l1", "evict"].map(str::to_owned);
        assert!(line(&unit_tests("t", &[], &args)).ends_with("-p cache-l1 evict"));
        assert_eq!(line(&doc_tests(&args)), "cargo test --doc -p cache-l1");
        assert_eq!(line(&doc_tests(&[])), "cargo test --doc --workspace");
        assert!(!line(&unit_tests("t", &[], &args)).contains("--workspace"));
        assert!(line(&unit_tests("t", &[], &[])).contains("--workspace"));
    }

    #[test]
    fn a_benchmark_is_named_and_shortened() {
        let known = ["hit", "propagation"].map(str::to_owned);
        let of = |name, short, args: &[String]| {
            bench(name, &known, short, args).map(|command| line(&Step::command("b", command)))
        };
        let all = "cargo bench -p edgecache-benches --bench hit --bench propagation";
        assert_eq!(of(None, false, &[]).unwrap(), all);
        let short = of(Some("hit"), true, &["l1".to_owned()]).unwrap();
        assert_eq!(short, "cargo bench -p edgecache-benches --bench hit -- --quick l1");
        assert!(of(Some("hti"), false, &[]).unwrap_err().to_string().contains("hit, propagation"));
    }

    #[test]
    fn the_arguments_parse() {
        use clap::CommandFactory;
        Args::command().debug_assert();
        assert!(Args::try_parse_from(["xtask", "test", "-p", "cache-l1"]).is_ok());
        assert!(Args::try_parse_from(["xtask", "bench", "hit", "--short", "--", "--noplot"]).is_ok());
        assert!(Args::try_parse_from(["xtask", "bench", "l1", "--json", "--", "get"]).is_ok());
        assert!(Args::try_parse_from(["xtask", "publish"]).is_err());
    }

    #[test]
    fn the_arguments_of_simulate_are_its_own() {
        for args in [&["--trace", "t", "--json"][..], &["--help"], &["--all", "traces"]] {
            let typed = ["xtask", "simulate"].iter().chain(args).copied();
            let Task::Simulate { args: passed } = Args::try_parse_from(typed).unwrap().task else {
                panic!("another task");
            };
            assert_eq!(passed, args);
        }
        let command = simulate(&["--trace".to_owned(), "a b".to_owned()]).unwrap();
        assert!(line(&Step::command("s", command)).ends_with("--bin simulate -- --trace 'a b'"));
    }
}
