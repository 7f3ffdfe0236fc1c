//! Results as text.

use super::{Replay, Row};

/// Hit ratios in percent: a line a subject, a column a capacity.
pub fn table(replay: &Replay) -> String {
    let cells: Vec<&[Row]> = replay.cells().collect();
    let head = cells.iter().filter_map(|cell| cell.first()).map(|row| match row.asked {
        super::Capacity::Entries(entries) => format!("{entries}"),
        percent @ super::Capacity::Percent(_) => format!("{} ({percent})", row.capacity),
    });
    let mut lines = vec![[format!("hit ratio in %, {}", replay.trace)].into_iter().chain(head).collect()];
    for subject in replay.subjects() {
        let ratios = cells.iter().map(|cell| {
            let row = cell.iter().find(|row| row.subject == subject);
            row.map_or("–".to_owned(), |row| percent(row.hit_ratio))
        });
        lines.push([subject.to_owned()].into_iter().chain(ratios).collect());
    }
    let title = format!("{}: {} requests, {} keys\n\n", replay.trace, replay.requests, replay.keys);
    title + &markdown(&lines)
}

/// With two digits behind the point.
pub(crate) fn percent(ratio: f64) -> String {
    format!("{:.2}", ratio * 100.0)
}

/// A table whose first line is the head and first column is words; columns are aligned to be read as it is.
pub fn markdown(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            text += &if column == 0 { format!("| {cell:<width$} ") } else { format!("| {cell:>width$} ") };
        }
        text += "|\n";
        if at == 0 {
            for (column, &width) in widths.iter().enumerate() {
                text += &if column == 0 {
                    format!("|{:-<1$}", "", width + 2)
                } else {
                    format!("|{:-<1$}:", "", width + 1)
                };
            }
            text += "|\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Capacity;
    use super::super::subject::Side;
    use super::*;

    #[test]
    fn a_line_a_subject_and_a_column_a_capacity() {
        let row = |capacity, subject, hit_ratio| Row {
            capacity,
            subject,
            hit_ratio,
            side: Side::Fixed,
            asked: if capacity == 5 { Capacity::Percent(0.5) } else { Capacity::Entries(capacity) },
        };
        let rows = vec![row(5, "lru", 0.125), row(5, "sieve", 0.2), row(9, "lru", 0.5)];
        let text = table(&Replay { trace: "t".into(), requests: 8, keys: 1_000, rows });
        let wanted = "\
t: 8 requests, 1000 keys

| hit ratio in %, t | 5 (0.5 %) |     9 |
|-------------------|----------:|------:|
| lru               |     12.50 | 50.00 |
| sieve             |     20.00 |     – |
";
        assert_eq!(text, wanted);
    }
}
