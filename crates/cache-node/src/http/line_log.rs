//! Logs as JSON lines: one file or stderr, written by a thread of its own.
//!
//! Nothing is lost silently: the queue is bounded, and where it is full the request waits; what cannot be written is counted
//! and told in the node's log. A file is opened again when somebody has moved it away, so that rotation needs no word.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::error;

use crate::config::LogTarget;

/// Lines that may wait to be written.
const QUEUE_MAX: usize = 1024;
/// Bytes that are gathered before they are written together.
const BATCH_BYTES: usize = 64 * 1024;

/// A log that is being written.
pub(crate) struct LineLog {
    lines: mpsc::Sender<Message>,
    failed: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

enum Message {
    Line(Vec<u8>),
    Stop,
}

impl LineLog {
    /// Begins a log.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread started.
    pub(crate) fn open(target: &LogTarget) -> io::Result<Self> {
        let (lines, queue) = mpsc::channel(QUEUE_MAX);
        let failed = Arc::new(AtomicU64::new(0));
        let sink = Sink::open(target)?;
        let writer = std::thread::Builder::new().name("line-log".to_owned()).spawn({
            let failed = failed.clone();
            move || write_all(queue, sink, &failed)
        })?;
        Ok(Self { lines, failed, writer: Mutex::new(Some(writer)) })
    }

    /// Hands a line over, and waits where too many are on their way already.
    pub(crate) async fn write(&self, record: &impl Serialize) {
        let mut line = serde_json::to_vec(record).unwrap_or_default();
        line.push(b'\n');
        if self.lines.send(Message::Line(line)).await.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
            error!("a line of a log came after its end and is lost");
        }
    }

    /// Lines that could not be written.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Writes what is on its way, and ends.
    pub(crate) async fn close(&self) {
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            let _ = self.lines.send(Message::Stop).await;
            let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }
}

fn write_all(mut queue: mpsc::Receiver<Message>, mut sink: Sink, failed: &AtomicU64) {
    let mut ended = false;
    while !ended {
        let (mut batch, mut lines) = (Vec::new(), 0);
        let mut message = queue.blocking_recv();
        loop {
            match message {
                Some(Message::Line(line)) => {
                    batch.extend(line);
                    lines += 1;
                }
                Some(Message::Stop) | None => {
                    ended = true;
                    break;
                }
            }
            if batch.len() >= BATCH_BYTES {
                break;
            }
            match queue.try_recv() {
                Ok(next) => message = Some(next),
                Err(_) => break,
            }
        }
        if let Err(why) = sink.write(&batch) {
            let all = failed.fetch_add(lines, Ordering::Relaxed) + lines;
            error!(lines, all, %why, "lines of a log could not be written and are lost");
        }
    }
}

enum Sink {
    Stderr,
    File { path: PathBuf, file: File },
}

impl Sink {
    fn open(target: &LogTarget) -> io::Result<Self> {
        Ok(match target {
            LogTarget::Stderr => Self::Stderr,
            LogTarget::File(path) => Self::File { path: path.clone(), file: open(path)? },
        })
    }

    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().lock().write_all(batch),
            Self::File { path, file } => {
                let same =
                    |there: Metadata, ours: Metadata| (there.dev(), there.ino()) == (ours.dev(), ours.ino());
                if !path.metadata().is_ok_and(|there| file.metadata().is_ok_and(|ours| same(there, ours))) {
                    *file = open(path)?;
                }
                file.write_all(batch)
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn more_lines_than_may_wait_all_arrive_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = LineLog::open(&LogTarget::File(path.clone())).unwrap();
        for n in 0..5 * QUEUE_MAX {
            log.write(&json!({ "n": n })).await;
        }
        log.close().await;
        let expected: Vec<_> = (0..5 * QUEUE_MAX).map(|n| json!({ "n": n })).collect();
        assert_eq!(lines(&path), expected);
        assert_eq!(log.failed(), 0);
        log.write(&json!(1)).await;
        assert_eq!(log.failed(), 1, "what comes after the end is counted");
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let target = LogTarget::File(path.clone());
        let mut sink = Sink::open(&target).unwrap();
        sink.write(b"1\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        sink.write(b"2\n").unwrap();
        std::fs::remove_file(&path).unwrap();
        sink.write(b"3\n").unwrap();
        assert_eq!((lines(&moved), lines(&path)), (vec![json!(1)], vec![json!(3)]));
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600, "for its owner alone");
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_counted() {
        let log = LineLog::open(&LogTarget::File("/dev/full".into())).unwrap();
        log.write(&json!(1)).await;
        log.close().await;
        assert_eq!(log.failed(), 1);
    }
}
