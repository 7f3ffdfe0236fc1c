//! Tables for people, JSON for programs.
//!
//! Whatever comes from a node may hold what users of the cache chose, so no control character of it reaches the terminal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::Failure;

/// Narrower tables cannot be read; terminals that do not know their width say that it is 0.
const WIDTH_LEAST: u16 = 40;

/// How answers are shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    json: bool,
    colours: bool,
    terminal: bool,
}

/// How a word is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Good,
    Odd,
    Bad,
    Faint,
}

/// A word in a table.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    text: String,
    tone: Tone,
}

/// A word without a judgement.
pub(crate) fn plain(text: impl ToString) -> Word {
    Word { text: clean(&text.to_string()), tone: Tone::Plain }
}

/// What is as it should be.
pub(crate) fn good(text: impl ToString) -> Word {
    Word { tone: Tone::Good, ..plain(text) }
}

/// What should be looked at.
pub(crate) fn odd(text: impl ToString) -> Word {
    Word { tone: Tone::Odd, ..plain(text) }
}

/// What is wrong.
pub(crate) fn bad(text: impl ToString) -> Word {
    Word { tone: Tone::Bad, ..plain(text) }
}

/// What is of less note.
pub(crate) fn faint(text: impl ToString) -> Word {
    Word { tone: Tone::Faint, ..plain(text) }
}

/// Something, or a dash.
pub(crate) fn maybe(value: Option<impl ToString>) -> Word {
    value.map_or_else(|| faint("–"), plain)
}

/// A share of 1 in percent.
pub(crate) fn percent(share: Option<f64>) -> Word {
    maybe(share.map(|share| format!("{:.1} %", share * 100.0)))
}

/// Milliseconds.
pub(crate) fn ms(value: Option<f64>) -> Word {
    maybe(value.map(|ms| if ms < 10.0 { format!("{ms:.3} ms") } else { format!("{ms:.0} ms") }))
}

/// A time span, rounded for reading.
pub(crate) fn span(ms: u64) -> String {
    let rounded = match ms {
        0..10_000 => ms,
        10_000..600_000 => ms / 100 * 100,
        _ => ms / 1000 * 1000,
    };
    humantime::format_duration(Duration::from_millis(rounded)).to_string()
}

/// A text without what steers a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

impl Screen {
    /// JSON where it was asked for, or where no terminal is.
    pub(crate) fn new(json: bool, table: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json: json || !(terminal || table), colours: terminal && !no_color, terminal }
    }

    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Shows an answer: as one JSON document, or drawn.
    pub(crate) fn show<T: Serialize + ?Sized>(
        self,
        answer: &T,
        draw: impl FnOnce(&mut Page),
    ) -> Result<(), Failure> {
        if self.json {
            let text = if self.terminal {
                serde_json::to_string_pretty(answer)
            } else {
                serde_json::to_string(answer)
            };
            return self.say(&text.map_err(|error| Failure::from(std::io::Error::other(error)))?);
        }
        let mut page = self.page();
        draw(&mut page);
        self.say(page.text.trim_end())
    }

    /// An empty page.
    pub(crate) fn page(self) -> Page {
        Page { text: String::new(), colours: self.colours, terminal: self.terminal }
    }

    /// Writes a text and a line break.
    pub(crate) fn say(self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()?;
        Ok(())
    }
}

/// What is drawn for a person.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
    colours: bool,
    terminal: bool,
}

impl Page {
    /// A line of words.
    pub(crate) fn line(&mut self, words: &[Word]) {
        let painted: Vec<String> = words.iter().map(|word| self.painted(word)).collect();
        self.text.push_str(&painted.join(" "));
        self.text.push('\n');
    }

    /// An empty line.
    pub(crate) fn gap(&mut self) {
        self.text.push('\n');
    }

    /// Names and values below each other.
    pub(crate) fn fields(&mut self, rows: impl IntoIterator<Item = (&'static str, Word)>) {
        let rows = rows.into_iter().map(|(name, word)| vec![faint(name), word]);
        self.grid(None, rows.collect());
    }

    /// A table.
    pub(crate) fn table(&mut self, head: &[&str], rows: Vec<Vec<Word>>) {
        self.grid(Some(head), rows);
    }

    /// What was drawn.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn grid(&mut self, head: Option<&[&str]>, rows: Vec<Vec<Word>>) {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        if !self.terminal {
            table.force_no_tty();
        } else if table.width().is_some_and(|width| width >= WIDTH_LEAST) {
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        if !self.colours {
            table.style_text_only();
        }
        if let Some(head) = head {
            table.set_header(head.iter().map(|name| self.cell(&faint(name.to_uppercase()))));
        }
        for row in rows {
            table.add_row(row.iter().map(|word| self.cell(word)).collect::<Vec<_>>());
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.text.push_str(&table.trim_fmt());
        self.text.push('\n');
    }

    fn cell(&self, word: &Word) -> Cell {
        let cell = Cell::new(&word.text);
        match (self.colours, word.tone) {
            (false, _) | (true, Tone::Plain) => cell,
            (true, Tone::Good) => cell.fg(Color::Green),
            (true, Tone::Odd) => cell.fg(Color::Yellow),
            (true, Tone::Bad) => cell.fg(Color::Red),
            (true, Tone::Faint) => cell.fg(Color::DarkGrey),
        }
    }

    fn painted(&self, word: &Word) -> String {
        let code = match word.tone {
            Tone::Plain => return word.text.clone(),
            Tone::Good => 32,
            Tone::Odd => 33,
            Tone::Bad => 31,
            Tone::Faint => 90,
        };
        if self.colours { format!("\u{1b}[{code}m{}\u{1b}[0m", word.text) } else { word.text.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(colours: bool) -> Page {
        Page { text: String::new(), colours, terminal: false }
    }

    #[test]
    fn columns_stand_below_each_other() {
        let mut page = page(false);
        page.table(
            &["name", "state"],
            vec![vec![plain("a"), good("ok")], vec![plain("longer"), bad("gone")]],
        );
        assert_eq!(page.text(), "NAME    STATE\na       ok\nlonger  gone\n");
    }

    #[test]
    fn without_colours_there_is_no_escape() {
        let mut page = page(false);
        page.line(&[bad("x"), faint("y")]);
        page.fields([("name", good("z"))]);
        assert!(!page.text().contains('\u{1b}'), "{:?}", page.text());
    }

    #[test]
    fn what_steers_a_terminal_is_replaced() {
        let mut page = page(false);
        page.fields([("key", plain("a\u{1b}]0;owned\u{7}b\r"))]);
        assert!(!page.text().chars().any(|c| c.is_control() && c != '\n'), "{:?}", page.text());
    }

    #[test]
    fn spans_are_rounded_for_reading() {
        assert_eq!([span(9), span(12_345), span(3_600_123)], ["9ms", "12s 300ms", "1h"]);
    }
}
