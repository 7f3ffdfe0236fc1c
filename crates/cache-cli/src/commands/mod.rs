//! One file for each command.

mod alerts;
mod between;
mod change;
mod diff;
mod doctor;
mod entries;
mod events;
mod explain;
mod health;
mod hot_keys;
mod nodes;
mod slo;
mod stats;
mod watch;

use clap::CommandFactory;
use serde::Serialize;

use crate::arguments::{Cli, Command, Global};
use crate::client::{Client, Token, escaped};
use crate::failure::{Failure, Told, Verdict};
use crate::screen::{Page, Screen, bad, faint, plain};

/// What every command is given.
struct Context {
    global: Global,
    token: Option<Token>,
    clients: Vec<Client>,
    screen: Screen,
}

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> Result<Verdict, Failure> {
    let Cli { global, command } = cli;
    if let Command::Completions { shell } = command {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "cachectl", &mut text);
        use std::io::Write;
        std::io::stdout().write_all(&text)?;
        return Ok(Verdict::Right);
    }
    let token = Token::of(&global)?;
    let client = |url: &String| Client::new(url, &global, token.clone());
    let clients = global.nodes.iter().map(client).collect::<Result<_, _>>()?;
    let screen = Screen::new(global.json, global.table);
    let cx = Context { clients, token, screen, global };
    match command {
        Command::Health(args) => health::run(&cx, &args),
        Command::Stats(args) => stats::run(&cx, &args),
        Command::Get(args) => entries::get(&cx, &args),
        Command::Put(args) => entries::put(&cx, &args),
        Command::Explain(args) => explain::run(&cx, &args),
        Command::Invalidate(args) => change::invalidate(&cx, args),
        Command::Clear(args) => change::clear(&cx, args),
        Command::Watch(args) => watch::run(&cx, &args),
        Command::Nodes => nodes::run(&cx),
        Command::HotKeys(args) => hot_keys::run(&cx, &args),
        Command::Alerts => alerts::run(&cx),
        Command::Events(args) => events::run(&cx, &args),
        Command::Diff(args) => diff::run(&cx, &args),
        Command::Slo(args) => slo::run(&cx, &args),
        Command::Doctor(args) => doctor::run(&cx, &args),
        // Answered above, before a node is looked for.
        Command::Completions { .. } => Ok(Verdict::Right),
    }
}

/// What one of several nodes answered.
#[derive(Serialize)]
struct Of<'a, T> {
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<T>,
    #[serde(flatten)]
    failed: Option<Told>,
}

impl Context {
    /// The one node that is asked.
    fn one(&self) -> Result<&Client, Failure> {
        match &self.clients[..] {
            [client] => Ok(client),
            several => Err(Failure::usage(
                format!("this command asks one node, and --node or CACHECTL_NODE names {}", several.len()),
                "name one with --node URL: what is changed there is changed on all",
            )),
        }
    }

    /// A node that is not among those of `--node`.
    fn other(&self, url: &str) -> Result<Client, Failure> {
        Client::new(url, &self.global, self.token.clone())
    }

    /// Asks every node and shows the answers: one as it is, several as a list. Wrong if one of them is judged so.
    ///
    /// # Errors
    /// The first failure, after the answers of the others were shown.
    fn each<T: Serialize>(
        &self,
        ask: impl Fn(&Client) -> Result<T, Failure>,
        draw: impl Fn(&mut Page, &T),
        wrong: impl Fn(&T) -> bool,
    ) -> Result<Verdict, Failure> {
        if let [client] = &self.clients[..] {
            let answer = ask(client)?;
            self.screen.show(&answer, |page| draw(page, &answer))?;
            return Ok(Verdict::wrong_if(wrong(&answer)));
        }
        let (mut all, mut first) = (Vec::new(), None);
        for client in &self.clients {
            let (answer, failed) = match ask(client) {
                Ok(answer) => (Some(answer), None),
                Err(failure) => {
                    let told = failure.told();
                    first.get_or_insert(failure);
                    (None, Some(told))
                }
            };
            all.push(Of { node: client.node(), answer, failed });
        }
        self.screen.show(&all, |page| {
            for of in &all {
                page.line(&[plain(of.node)]);
                match (&of.answer, &of.failed) {
                    (Some(answer), _) => draw(page, answer),
                    (None, told) => page.line(&[bad(told.as_ref().map_or("", |told| &told.error))]),
                }
                page.gap();
            }
        })?;
        match first {
            Some(failure) => Err(failure),
            None => Ok(Verdict::wrong_if(all.iter().any(|of| of.answer.as_ref().is_some_and(&wrong)))),
        }
    }
}

/// A path with a query of the pairs that have a value.
fn path(base: &str, query: &[(&str, &str)]) -> String {
    let pairs = query.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> =
        pairs.map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    if pairs.is_empty() { base.to_owned() } else { format!("{base}?{}", pairs.join("&")) }
}

/// A note that there is nothing to be shown.
fn nothing(page: &mut Page, what: &str) {
    page.line(&[faint(what)]);
}
