//! Traces: which key was asked for, request by request.
//!
//! Two formats, each plain or compressed with zstd: numbers of 32 bits, little-endian, or text with a key a
//! line. Keys are renumbered by first appearance, so that arrays can be indexed by them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ruzstd::decoding::StreamingDecoder;

/// What a file begins with that is compressed with zstd.
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Bytes of a trace at most, uncompressed, so that a small hostile file does not fill the memory.
const TRACE_BYTES_MAX: u64 = 2 << 30;
/// Bytes looked at to tell text from numbers.
const SNIFFED_BYTES: usize = 4_096;

/// How the requests are written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text if its beginning is printable and has line breaks, numbers otherwise.
    #[default]
    Auto,
    /// Numbers of 32 bits, little-endian, one a request.
    U32le,
    /// Text, a key a line; empty lines are left out.
    Text,
}

/// Requests in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The name of the file up to the first dot.
    pub name: String,
    /// Keys as numbers below [`keys`](Self::keys), in order of first appearance.
    pub requests: Vec<u32>,
    /// Distinct keys.
    pub keys: usize,
}

impl Trace {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, is empty, too long, damaged, or not in the format; the message says what to do.
    pub fn read(path: &Path, format: Format) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.split('.').find(|part| !part.is_empty()).unwrap_or("trace");
        let read = || {
            let mut bytes = Vec::new();
            let file = File::open(path)?;
            ensure!(file.metadata()?.is_file(), "not a file; name one trace, or a folder with --all");
            file.take(TRACE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            Self::parse(name, bytes, format)
        };
        read().with_context(|| format!("cannot use the trace {}", path.display()))
    }

    /// Takes the bytes of a file for a trace.
    ///
    /// # Errors
    /// See [`read`](Self::read).
    pub fn parse(name: &str, bytes: Vec<u8>, format: Format) -> Result<Self> {
        let bytes = if bytes.starts_with(&ZSTD_MAGIC) { decompress(&bytes)? } else { bytes };
        ensure!(!bytes.is_empty(), "it is empty; a trace has a request or more");
        ensure!(
            bytes.len() as u64 <= TRACE_BYTES_MAX,
            "it is longer than {TRACE_BYTES_MAX} bytes; use a part of it"
        );
        let is_text = match format {
            Format::Auto => looks_like_text(&bytes),
            Format::U32le => false,
            Format::Text => true,
        };
        let (requests, keys) = if is_text { from_text(&bytes)? } else { from_numbers(&bytes)? };
        ensure!(!requests.is_empty(), "it has no request; a trace has a request or more");
        Ok(Self { name: name.to_owned(), requests, keys })
    }
}

/// Gives each key its number.
fn renumber<K: Eq + std::hash::Hash>(keys: impl Iterator<Item = K>) -> (Vec<u32>, usize) {
    let mut known = HashMap::new();
    let requests = keys
        .map(|key| {
            let next = known.len() as u32;
            *known.entry(key).or_insert(next)
        })
        .collect();
    (requests, known.len())
}

fn from_numbers(bytes: &[u8]) -> Result<(Vec<u32>, usize)> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    ensure!(
        rest.is_empty(),
        "its {} bytes are no whole count of 32-bit numbers; it is cut off, or of another format (see --format)",
        bytes.len()
    );
    Ok(renumber(numbers.iter().map(|number| u32::from_le_bytes(*number))))
}

fn from_text(bytes: &[u8]) -> Result<(Vec<u32>, usize)> {
    let text = std::str::from_utf8(bytes).context("it is not UTF-8 text; try --format u32le")?;
    Ok(renumber(text.lines().map(str::trim).filter(|line| !line.is_empty())))
}

/// Numbers of a trace are small as a rule, so every fourth byte is 0, which no text has.
fn looks_like_text(bytes: &[u8]) -> bool {
    let beginning = &bytes[..bytes.len().min(SNIFFED_BYTES)];
    let printable = |&byte: &u8| byte >= 0x20 && byte != 0x7F || matches!(byte, b'\n' | b'\r' | b'\t');
    beginning.iter().all(printable) && beginning.contains(&b'\n')
}

/// All frames of the file.
fn decompress(mut compressed: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while !compressed.is_empty() {
        if !compressed.starts_with(&ZSTD_MAGIC) {
            bail!("something follows the compressed data; compress it again with zstd");
        }
        let damaged = "its zstd data is damaged or cut off; copy or compress it again";
        let mut decoder = StreamingDecoder::new(&mut compressed).context(damaged)?;
        let room = (TRACE_BYTES_MAX + 1).saturating_sub(bytes.len() as u64);
        (&mut decoder).take(room).read_to_end(&mut bytes).context(damaged)?;
        if bytes.len() as u64 > TRACE_BYTES_MAX {
            // The caller says that it is too long.
            break;
        }
        let frame = decoder.into_frame_decoder();
        if let Some(told) = frame.get_checksum_from_data() {
            ensure!(frame.get_calculated_checksum() == Some(told), damaged);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "aab" thrice as a zstd frame with a checksum would need a compressor; this is a frame of one raw block.
    fn raw_frame(content: &[u8]) -> Vec<u8> {
        let mut frame = ZSTD_MAGIC.to_vec();
        // Single segment, content size of one byte; then a last raw block.
        frame.extend([0x20, content.len() as u8]);
        frame.extend(&((content.len() as u32) << 3 | 1).to_le_bytes()[..3]);
        frame.extend(content);
        frame
    }

    fn numbers(of: &[u32]) -> Vec<u8> {
        of.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn parse(bytes: Vec<u8>) -> Result<Trace> {
        Trace::parse("t", bytes, Format::Auto)
    }

    #[test]
    fn numbers_are_renumbered_plain_or_compressed() {
        let plain = numbers(&[7, 900_000, 7, 3]);
        let trace = parse(plain.clone()).unwrap();
        assert_eq!((trace.requests.as_slice(), trace.keys), (&[0, 1, 0, 2][..], 3));
        assert_eq!(parse(raw_frame(&plain)).unwrap(), trace);
        // Two frames, one behind the other, as a compressor with threads makes them.
        let frames = [raw_frame(&plain[..8]), raw_frame(&plain[8..])].concat();
        assert_eq!(parse(frames).unwrap(), trace);
    }

    #[test]
    fn text_has_a_key_a_line() {
        let trace = parse(b"gpu-1\nb\n\ngpu-1\r\nc".to_vec()).unwrap();
        assert_eq!((trace.requests.as_slice(), trace.keys), (&[0, 1, 0, 2][..], 3));
    }

    #[test]
    fn the_format_can_be_forced() {
        let bytes = b"ab\nc".to_vec();
        assert_eq!(Trace::parse("t", bytes.clone(), Format::Text).unwrap().requests.len(), 2);
        assert_eq!(Trace::parse("t", bytes, Format::U32le).unwrap().requests.len(), 1);
    }

    #[test]
    fn what_is_no_trace_is_told_with_its_cure() {
        let cut = raw_frame(&numbers(&[1, 2]));
        for (bytes, word) in [
            (vec![], "empty"),
            (raw_frame(&[]), "empty"),
            (vec![1, 0, 0, 0, 2], "--format"),
            (b"\n\n".to_vec(), "no request"),
            (cut[..cut.len() - 1].to_vec(), "cut off"),
            ([raw_frame(&[1, 0, 0, 0]), vec![1]].concat(), "follows"),
        ] {
            let error = format!("{:#}", parse(bytes).unwrap_err());
            assert!(error.contains(word), "{error} should tell {word}");
        }
        let error = Trace::parse("t", vec![0xFF, b'\n'], Format::Text).unwrap_err();
        assert!(format!("{error:#}").contains("u32le"));
    }
}
