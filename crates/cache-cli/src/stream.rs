//! Server-sent events, read line by line (the format of the HTML standard).

use std::io::BufRead;
use std::time::Duration;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// What kind it is; `message` where that was not said.
    pub(crate) kind: String,
    /// Its data.
    pub(crate) data: String,
}

/// Reads events from lines.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    kind: String,
    data: Option<String>,
    id: Option<String>,
    /// The id of the latest event: where to go on.
    pub(crate) last_id: Option<String>,
    /// How long to wait before connecting again, where the node said so.
    pub(crate) retry: Option<Duration>,
}

impl Parser {
    /// Goes on behind this event, if there is one.
    pub(crate) fn behind(last_id: Option<String>) -> Self {
        Self { last_id, ..Self::default() }
    }

    /// Takes a line without its end; gives an event where the line completes one.
    pub(crate) fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            return self.completed();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" => self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry),
            // A comment (the heartbeat), or a field of later versions.
            _ => {}
        }
        None
    }

    fn completed(&mut self) -> Option<Event> {
        let kind = std::mem::take(&mut self.kind);
        if let Some(id) = self.id.take() {
            self.last_id = Some(id);
        }
        let data = self.data.take()?;
        Some(Event { kind: if kind.is_empty() { "message".to_owned() } else { kind }, data })
    }

    /// Forgets the event that a broken connection left half told.
    pub(crate) fn broken(&mut self) {
        self.kind.clear();
        self.data = None;
        self.id = None;
    }
}

/// Reads lines until an event is complete; nothing at the end of the stream.
pub(crate) fn next(lines: &mut impl BufRead, parser: &mut Parser) -> std::io::Result<Option<Event>> {
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if let Some(event) = parser.line(line.trim_end_matches(['\n', '\r'])) {
            return Ok(Some(event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, parser: &mut Parser) -> Vec<Event> {
        let mut lines = std::io::Cursor::new(text);
        std::iter::from_fn(|| next(&mut lines, parser).unwrap()).collect()
    }

    #[test]
    fn events_comments_and_ids_are_told_apart() {
        let mut parser = Parser::default();
        let text =
            ": hello\n\nid: 0:1:2\nevent: change\ndata: {\"a\":\ndata: 1}\n\nretry: 250\ndata:x\r\n\r\n";
        let events = all(text, &mut parser);
        let event = |kind: &str, data: &str| Event { kind: kind.into(), data: data.into() };
        assert_eq!(events, [event("change", "{\"a\":\n1}"), event("message", "x")]);
        assert_eq!(parser.last_id.as_deref(), Some("0:1:2"));
        assert_eq!(parser.retry, Some(Duration::from_millis(250)));
    }

    #[test]
    fn half_an_event_is_none() {
        let mut parser = Parser::default();
        assert_eq!(all("id: 9\nevent: change\ndata: half", &mut parser), []);
        parser.broken();
        assert_eq!(parser.last_id, None);
        let events = all("data: whole\n\n", &mut parser);
        assert_eq!(events, [Event { kind: "message".into(), data: "whole".into() }]);
    }
}
