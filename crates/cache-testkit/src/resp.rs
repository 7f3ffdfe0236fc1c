//! Just enough of the Redis protocol to tell a server what to do, without a client library under test.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer of Redis (RESP2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A status line, such as `OK`.
    Status(String),
    /// An error line.
    Error(String),
    /// A number.
    Int(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Reply>),
}

impl Reply {
    /// The text of a status or of bytes.
    ///
    /// # Panics
    /// If it is neither.
    pub fn text(&self) -> String {
        match self {
            Self::Status(text) => text.clone(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("not a text: {other:?}"),
        }
    }

    /// The number.
    ///
    /// # Panics
    /// If it is none.
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => panic!("not a number: {other:?}"),
        }
    }
}

/// Sends commands on a connection of their own, one after the other; answers the last answer.
pub(crate) fn call(addr: SocketAddr, commands: &[&[&[u8]]]) -> io::Result<Reply> {
    let stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut last = Reply::Nil;
    for command in commands {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for part in *command {
            bytes.extend(format!("${}\r\n", part.len()).bytes());
            bytes.extend(*part);
            bytes.extend(b"\r\n");
        }
        writer.write_all(&bytes)?;
        last = read(&mut reader)?;
    }
    Ok(last)
}

fn read(reader: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
    let number = || rest.parse::<i64>().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    Ok(match kind {
        "+" => Reply::Status(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Int(number()?),
        "$" => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                reader.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Reply::Bytes(bytes)
            }
        },
        "*" => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(length) => Reply::List((0..length).map(|_| read(reader)).collect::<io::Result<_>>()?),
        },
        _ => return Err(io::ErrorKind::InvalidData.into()),
    })
}
