//! A server process of which the log is read, from its start until it is killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;

/// A process that runs. It is killed (SIGKILL) with this value.
#[derive(Debug)]
pub(crate) struct Launched {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Launched {
    /// Starts a process and reads what it writes, until a line contains one of these texts. If it ends before, the error is
    /// all that it has written.
    pub(crate) fn start(mut command: Command, ready: &[&str]) -> Result<Self, String> {
        let failed = |error: std::io::Error| error.to_string();
        let (output, input) = std::io::pipe().map_err(failed)?;
        command.stdin(Stdio::null()).stdout(input.try_clone().map_err(failed)?).stderr(input);
        let child = command.spawn().map_err(failed)?;
        // The last writing ends of ours: from here on the output ends with the process.
        drop(command);
        let mut launched = Self { child, log: Arc::default(), reader: None };
        let mut lines = BufReader::new(output);
        loop {
            let mut line = String::new();
            let read = lines.read_line(&mut line).unwrap_or(0);
            launched.log.lock().push_str(&line);
            if ready.iter().any(|ready| line.contains(ready)) {
                break;
            }
            if read == 0 {
                return Err(launched.log());
            }
        }
        // Goes on reading, else the server would block on its own log.
        let sink = launched.log.clone();
        launched.reader = Some(std::thread::spawn(move || {
            let mut line = String::new();
            while matches!(lines.read_line(&mut line), Ok(read) if read > 0) {
                sink.lock().push_str(&line);
                line.clear();
            }
        }));
        Ok(launched)
    }

    /// The process.
    pub(crate) fn child(&self) -> &Child {
        &self.child
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().clone()
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // A stopped process is killed as well. One that has ended already is only waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_is_written_to_either_stream_is_the_log() {
        let launched = Launched::start(shell("echo one >&2; echo it is ready; exec cat"), &["is ready"]);
        assert_eq!(launched.unwrap().log(), "one\nit is ready\n");
    }

    #[test]
    fn one_that_ends_before_it_is_ready_is_an_error_with_its_log() {
        let failed = Launched::start(shell("echo no port; exit 1"), &["is ready"]);
        assert_eq!(failed.unwrap_err(), "no port\n");
    }
}
