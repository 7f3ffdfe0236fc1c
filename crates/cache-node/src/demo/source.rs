//! Where the offers come from: a file, repeated when it ends unless it is replayed once, or a market made up from a seed.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cache_marketplace::{OfferFeed, OfferRow, SeededMarket};

/// Bad lines that are shown one by one; beyond that they are only counted.
const SHOWN_MAX: u64 = 20;

/// An endless stream of offers.
pub(crate) struct Feed {
    rows: Rows,
    once: bool,
    pub(crate) bad_lines: u64,
}

enum Rows {
    File { path: PathBuf, reader: Box<OfferFeed<BufReader<File>>>, rows_in_pass: u64, first_pass: bool },
    Seeded(Box<SeededMarket>),
}

fn reader(path: &Path) -> anyhow::Result<OfferFeed<BufReader<File>>> {
    let file = File::open(path).with_context(|| {
        format!("cannot read the feed {}: give a file of offers with --feed, or leave it out", path.display())
    })?;
    OfferFeed::new(BufReader::new(file)).with_context(|| format!("{} is no feed of offers", path.display()))
}

impl Feed {
    pub(crate) fn open(path: Option<&Path>, seed: u64, once: bool) -> anyhow::Result<Self> {
        let rows = match path {
            None => Rows::Seeded(Box::new(SeededMarket::new(seed))),
            Some(path) => Rows::File {
                path: path.to_owned(),
                reader: Box::new(reader(path)?),
                rows_in_pass: 0,
                first_pass: true,
            },
        };
        let mut feed = Self { rows, once, bad_lines: 0 };
        if let Rows::File { path, .. } = &feed.rows {
            // A file without one good line would be repeated for ever.
            let name = path.display().to_string();
            anyhow::ensure!(reader(path)?.any(|row| row.is_ok()), "the feed {name} has no usable line");
        }
        feed.bad_lines = 0;
        Ok(feed)
    }

    /// The next row. A bad line is told (once) and passed over; `None` = the file has become unreadable, or is over and
    /// was to be replayed once.
    pub(crate) fn next(&mut self) -> Option<OfferRow> {
        loop {
            match &mut self.rows {
                Rows::Seeded(market) => return market.next(),
                Rows::File { path, reader: open, rows_in_pass, first_pass } => match open.next() {
                    Some(Ok(row)) => {
                        *rows_in_pass += 1;
                        return Some(row);
                    }
                    Some(Err(error)) => {
                        if *first_pass {
                            self.bad_lines += 1;
                            match self.bad_lines {
                                n if n <= SHOWN_MAX => eprintln!("{}: {error}; skipped", path.display()),
                                n if n == SHOWN_MAX + 1 => {
                                    eprintln!("{}: further bad lines …", path.display())
                                }
                                _ => {}
                            }
                        }
                    }
                    None if *rows_in_pass == 0 || self.once => return None,
                    None => match reader(path) {
                        Ok(again) => {
                            **open = again;
                            (*rows_in_pass, *first_pass) = (0, false);
                        }
                        Err(error) => {
                            eprintln!("{error:#}");
                            return None;
                        }
                    },
                },
            }
        }
    }
}
