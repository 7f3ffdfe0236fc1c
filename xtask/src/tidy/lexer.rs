//! Just enough of Rust's lexer to tell code from comments, texts and tests.

/// What to blank out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Texts {
    Keep,
    Blank,
}

/// The code with comments, and if asked texts, turned into spaces; lines and columns stay where they are.
pub(crate) fn code(text: &str, texts: Texts) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, blank) = match &bytes[at..] {
            [b'/', b'/', ..] => (line_end(bytes, at), true),
            [b'/', b'*', ..] => (block_comment_end(bytes, at), true),
            [b'"', ..] => (string_end(bytes, at + 1), texts == Texts::Blank),
            [b'r', b'"' | b'#', ..] if !is_word(bytes, at) => {
                let end = raw_string_end(bytes, at + 1);
                (end, texts == Texts::Blank && end > at + 1)
            }
            [b'\'', ..] => {
                let end = char_end(bytes, at);
                (end, texts == Texts::Blank && end > at + 1)
            }
            _ => (at + 1, false),
        };
        if blank {
            out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        at = end;
    }
    // Bytes of characters were blanked as a whole, so this loses nothing.
    String::from_utf8_lossy(&out).into_owned()
}

/// The line on which the byte stands, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The places of items for tests alone (`#[cfg(test)] …`), in code without texts.
pub(crate) fn test_items(code: &str) -> Vec<std::ops::Range<usize>> {
    let mut items = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(") {
        let start = from + found;
        let Some(close) = code[start..].find(']').map(|close| start + close) else { break };
        from = close;
        let condition = &code[start + 6..close];
        let words = condition.split(|c: char| !c.is_alphanumeric() && c != '_');
        if words.clone().any(|word| word == "test") && !words.clone().any(|word| word == "not") {
            let body = code[close..].find(['{', ';']).map_or(code.len(), |body| close + body);
            let end = if code[body..].starts_with('{') { braces_end(code, body) } else { body };
            items.push(start..end);
            from = end;
        }
    }
    items
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut end) = (0, at);
    while end < bytes.len() {
        match &bytes[end..] {
            [b'/', b'*', ..] => (depth, end) = (depth + 1, end + 2),
            [b'*', b'/', ..] => (depth, end) = (depth - 1, end + 2),
            _ => end += 1,
        }
        if depth == 0 {
            break;
        }
    }
    end.min(bytes.len())
}

/// From behind the opening quote to behind the closing one.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// From behind the `r`; an identifier such as `r#type` is no text.
fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(at + hashes) != Some(&b'"') {
        return at;
    }
    let closing = [&b"\""[..], &b"#".repeat(hashes)].concat();
    let body = at + hashes + 1;
    let found = bytes[body..].windows(closing.len()).position(|window| window == closing);
    found.map_or(bytes.len(), |found| body + found + closing.len())
}

/// A character; a lifetime is left alone.
fn char_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => {
            // The escaped character may itself be a quote.
            let behind = (at + 3).min(bytes.len());
            let closing = bytes[behind..].iter().position(|byte| *byte == b'\'');
            closing.map_or(bytes.len(), |closing| behind + closing + 1)
        }
        Some(_) => {
            let character = std::str::from_utf8(&bytes[at + 1..(at + 5).min(bytes.len())]);
            let valid = character.unwrap_or_else(|error| {
                std::str::from_utf8(&bytes[at + 1..at + 1 + error.valid_up_to()]).unwrap_or_default()
            });
            let width = valid.chars().next().map_or(1, char::len_utf8);
            if bytes.get(at + 1 + width) == Some(&b'\'') { at + 2 + width } else { at + 1 }
        }
        None => bytes.len(),
    }
}

fn is_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn braces_end(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_told_from_code() {
        let rows = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x // y\" z", 1)"#, "f(            , 1)"),
            (r##"r#"a " b"# + r#type"##, "           + r#type"),
            ("'\"' 'a 'x' b'\\''", "    'a     b    "),
            ("'ä' <'a>", "     <'a>"),
            ("var\"x\"", "var   "),
        ];
        for (text, expected) in rows {
            assert_eq!(code(text, Texts::Blank), expected, "{text}");
        }
        assert_eq!(code("a(\"b // c\") // d", Texts::Keep), "a(\"b // c\")     ");
    }

    #[test]
    fn unfinished_code_does_not_trip_the_lexer() {
        for text in ["\"abc", "/* abc", "r##\"abc\"#", "'", "'\\", "'\\x", "ä'ö", "\"\\"] {
            assert_eq!(code(text, Texts::Blank).matches('\n').count(), 0, "{text}");
        }
    }

    #[test]
    fn items_for_tests_are_found_whole() {
        let text =
            "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { {} } }\nfn c() {}\n#[cfg(not(test))]\nfn d() {}";
        let items = test_items(text);
        assert_eq!(items.len(), 1);
        assert_eq!(&text[items[0].clone()], "#[cfg(test)]\nmod tests { fn b() { {} } }");
        assert_eq!(test_items("#[cfg(all(test, unix))] mod tests;").len(), 1);
        assert_eq!(test_items("#[cfg(test").len(), 0);
    }
}
