//! The offers feed: a CSV file in which each row is a change of one provider's offers of one model.
//!
//! ```text
//! ts,gpu_model,provider,offers,min_usd_per_gpu_hour,avg_usd_per_gpu_hour,regions
//! 2025-10-19T21:01:58Z,A100_80GB_PCIe,hyperstack,5,1.35,1.36,CA|US
//! ```
//!
//! A bad line is an error that names its number; reading goes on behind it.

use std::io::Read;

use crate::ledger::{OFFERS_MAX, Offer, check_name, check_price};
use crate::{MicroUsd, region_of};

/// The columns, found by their names in the first line, in any order.
const COLUMNS: [&str; 7] =
    ["ts", "gpu_model", "provider", "offers", "min_usd_per_gpu_hour", "avg_usd_per_gpu_hour", "regions"];

/// One row of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferRow {
    /// When it was observed, in milliseconds since the Unix epoch.
    pub observed_at: u64,
    /// What the provider offers from then on.
    pub offer: Offer,
}

/// A line that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct FeedError {
    /// The number of the line, from 1 (the heading).
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

/// Reads a feed row by row.
///
/// ```
/// let text = "ts,gpu_model,provider,offers,min_usd_per_gpu_hour,avg_usd_per_gpu_hour,regions\n\
///             2025-10-19T21:01:58Z,H100,vultr,2,1.65,1.7,US\n\
///             yesterday,H100,vultr,2,1.65,1.7,US\n";
/// let mut feed = cache_marketplace::OfferFeed::new(text.as_bytes())?;
/// assert_eq!(feed.next().unwrap()?.offer.region, "us-east");
/// assert_eq!(feed.next().unwrap().unwrap_err().line, 3);
/// # Ok::<(), cache_marketplace::FeedError>(())
/// ```
pub struct OfferFeed<R> {
    records: csv::ByteRecordsIntoIter<R>,
    columns: [usize; COLUMNS.len()],
    fields: usize,
    ended: bool,
}

impl<R: Read> OfferFeed<R> {
    /// Reads the heading.
    ///
    /// # Errors
    /// [`FeedError`] at line 1 if it cannot be read or a column is missing.
    pub fn new(input: R) -> Result<Self, FeedError> {
        let at_start = |why: String| FeedError { line: 1, why };
        // No quoting: the format has none, and a stray quote must not swallow the lines behind it.
        let mut reader = csv::ReaderBuilder::new().flexible(true).quoting(false).from_reader(input);
        let heading = reader.headers().map_err(|error| at_start(error.to_string()))?.clone();
        let mut columns = [0; COLUMNS.len()];
        for (place, name) in columns.iter_mut().zip(COLUMNS) {
            let found = heading.iter().position(|column| column.trim_start_matches('\u{feff}') == name);
            *place = found.ok_or_else(|| at_start(format!("the heading has no column {name:?}")))?;
        }
        let fields = heading.len();
        Ok(Self { records: reader.into_byte_records(), columns, fields, ended: false })
    }

    fn row(&self, record: &csv::ByteRecord) -> Result<OfferRow, String> {
        if record.len() != self.fields {
            return Err(format!("{} fields instead of {}", record.len(), self.fields));
        }
        let text = |column: usize| {
            let bytes = record.get(self.columns[column]).unwrap_or_default();
            std::str::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", COLUMNS[column]))
        };
        let wrong = |column: usize, why: &dyn std::fmt::Display| format!("{}: {why}", COLUMNS[column]);
        let time: jiff::Timestamp = text(0)?.parse().map_err(|error: jiff::Error| wrong(0, &error))?;
        let observed_at = u64::try_from(time.as_millisecond()).map_err(|_| wrong(0, &"before 1970"))?;
        let (model, provider) = (text(1)?, text(2)?);
        check_name(COLUMNS[1], model).map_err(|error| error.to_string())?;
        check_name(COLUMNS[2], provider).map_err(|error| error.to_string())?;
        let count: u32 = text(3)?.parse().map_err(|_| wrong(3, &format!("{:?} is not a count", text(3))))?;
        if count > OFFERS_MAX {
            return Err(wrong(3, &format!("{count}; the limit is {OFFERS_MAX}")));
        }
        let price = |column: usize| match (text(column)?, count) {
            ("", 0) => Ok(MicroUsd::ZERO),
            ("", _) => Err(wrong(column, &"empty, though there are offers")),
            (amount, _) => {
                let price = amount.parse::<MicroUsd>().map_err(|error| wrong(column, &error))?;
                check_price(COLUMNS[column], price).map_err(|error| error.to_string())?;
                Ok(price)
            }
        };
        let (min_price, avg_price) = (price(4)?, price(5)?);
        if avg_price < min_price {
            return Err(wrong(5, &format!("the mean {avg_price} is below the lowest {min_price}")));
        }
        let region = region_of(text(6)?, provider).to_owned();
        let offer =
            Offer { provider: provider.into(), gpu_model: model.into(), region, count, min_price, avg_price };
        Ok(OfferRow { observed_at, offer })
    }
}

impl<R: Read> Iterator for OfferFeed<R> {
    type Item = Result<OfferRow, FeedError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        Some(match self.records.next()? {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                self.row(&record).map_err(|why| FeedError { line, why })
            }
            Err(error) => {
                // Nothing but the input itself can fail here, and it stays broken.
                self.ended = true;
                let line = self.records.reader().position().line();
                Err(FeedError { line, why: error.to_string() })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "ts,gpu_model,provider,offers,min_usd_per_gpu_hour,avg_usd_per_gpu_hour,regions\n";

    fn read(lines: &str) -> Vec<Result<OfferRow, FeedError>> {
        OfferFeed::new(format!("{HEADING}{lines}").as_bytes()).unwrap().collect()
    }

    #[test]
    fn a_row_is_read_exactly() {
        let rows = read("2025-10-19T21:01:58Z,H100_80GB_SXM5,hyperstack,5,1.35,1.36,CA|US\n");
        let offer = Offer {
            provider: "hyperstack".into(),
            gpu_model: "H100_80GB_SXM5".into(),
            region: "us-west".into(),
            count: 5,
            min_price: MicroUsd(1_350_000),
            avg_price: MicroUsd(1_360_000),
        };
        assert_eq!(rows, [Ok(OfferRow { observed_at: 1_760_907_718_000, offer })]);
    }

    #[test]
    fn offers_that_are_gone_need_no_price() {
        let rows = read("2025-10-19T21:01:58Z,H100,p,0,,,\n");
        assert_eq!(rows[0].as_ref().unwrap().offer.count, 0);
    }

    #[test]
    fn a_bad_line_is_told_by_number_and_field_and_reading_goes_on() {
        let good = "2025-10-19T21:01:58Z,H100,p,1,1.0,1.0,US\n";
        let bad = [
            ("yesterday,H100,p,1,1.0,1.0,US", "ts"),
            ("1969-10-19T21:01:58Z,H100,p,1,1.0,1.0,US", "ts"),
            ("2025-10-19T21:01:58Z,,p,1,1.0,1.0,US", "gpu_model"),
            ("2025-10-19T21:01:58Z,all,p,1,1.0,1.0,US", "gpu_model"),
            ("2025-10-19T21:01:58Z,H100,,1,1.0,1.0,US", "provider"),
            ("2025-10-19T21:01:58Z,H100,p,-1,1.0,1.0,US", "offers"),
            ("2025-10-19T21:01:58Z,H100,p,4000000000,1.0,1.0,US", "offers"),
            ("2025-10-19T21:01:58Z,H100,p,1,,1.0,US", "min_usd_per_gpu_hour"),
            ("2025-10-19T21:01:58Z,H100,p,1,1.0,1.0000001,US", "avg_usd_per_gpu_hour"),
            ("2025-10-19T21:01:58Z,H100,p,1,2.0,1.0,US", "avg_usd_per_gpu_hour"),
            ("2025-10-19T21:01:58Z,H100,p,1,1.0", "5 fields instead of 7"),
            ("\"2025-10-19T21:01:58Z,H100,p,1,1.0,1.0,US", "ts"),
        ];
        let lines: String = bad.iter().map(|(line, _)| format!("{good}{line}\n")).collect();
        let rows = read(&(lines + good));
        assert_eq!(rows.len(), bad.len() * 2 + 1);
        assert_eq!(rows.iter().filter(|row| row.is_ok()).count(), bad.len() + 1);
        for (at, (line, field)) in bad.iter().enumerate() {
            let error = rows[at * 2 + 1].as_ref().unwrap_err();
            assert_eq!(error.line, at as u64 * 2 + 3, "{line}");
            assert!(error.why.contains(field), "{line}: {}", error.why);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_a_bad_line() {
        let bytes = [HEADING.as_bytes(), b"2025-10-19T21:01:58Z,H\xff00,p,1,1.0,1.0,US\n"].concat();
        let rows: Vec<_> = OfferFeed::new(&bytes[..]).unwrap().collect();
        let error = rows[0].as_ref().unwrap_err();
        assert_eq!((error.line, error.why.as_str()), (2, "gpu_model is not UTF-8"));
    }

    #[test]
    fn a_heading_without_a_column_is_refused() {
        for text in ["", "ts,gpu_model\n", "a,b\n1,2\n"] {
            assert_eq!(OfferFeed::new(text.as_bytes()).err().map(|error| error.line), Some(1), "{text:?}");
        }
    }

    #[test]
    fn an_input_that_breaks_ends_the_feed_with_its_error() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("the disk is gone"))
            }
        }
        let mut feed = OfferFeed::new(HEADING.as_bytes().chain(Broken)).unwrap();
        assert!(feed.next().unwrap().unwrap_err().why.contains("the disk is gone"));
        assert!(feed.next().is_none());
    }
}
