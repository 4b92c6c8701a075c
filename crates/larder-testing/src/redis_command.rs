//! Just enough of the Redis protocol to prepare a test and to look at its outcome without a client library.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long a reply may take; a paused server gives none.
const PATIENCE: Duration = Duration::from_secs(10);

/// The deepest nesting of arrays and the longest text that are read.
const MOST_DEPTH: u8 = 8;
const MOST_BYTES: usize = 512 << 20;

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends an inline command and answers the first line of the reply, as it came.
    pub(crate) fn inline(&mut self, command: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        self.line()
    }

    /// Sends a command and answers its reply as text; an error reply is an error.
    pub(crate) fn run(&mut self, arguments: &[&str]) -> io::Result<String> {
        let mut request = format!("*{}\r\n", arguments.len());
        for argument in arguments {
            write!(request, "${}\r\n{argument}\r\n", argument.len()).map_err(io::Error::other)?;
        }
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut reply = String::new();
        self.reply(&mut reply, 0)?;
        Ok(reply)
    }

    fn reply(&mut self, out: &mut String, depth: u8) -> io::Result<()> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| unexpected(&line))?;
        match kind {
            "+" | ":" => out.push_str(rest),
            // Within an array, as `EXEC` answers it, an error is one element among others.
            "-" if depth > 0 => out.push_str(&line),
            "-" => return Err(io::Error::other(format!("the server answers: {rest}"))),
            "$" => self.bulk(rest, out)?,
            "*" if depth < MOST_DEPTH => {
                let elements: i64 = rest.parse().map_err(|_| unexpected(&line))?;
                if elements < 0 {
                    out.push_str("(nil)");
                }
                for element in 0..elements {
                    if element > 0 {
                        out.push('\n');
                    }
                    self.reply(out, depth + 1)?;
                }
            }
            _ => return Err(unexpected(&line)),
        }
        Ok(())
    }

    fn bulk(&mut self, length: &str, out: &mut String) -> io::Result<()> {
        let length: i64 = length.parse().map_err(|_| unexpected(length))?;
        let Ok(length) = usize::try_from(length) else {
            out.push_str("(nil)");
            return Ok(());
        };
        if length > MOST_BYTES {
            return Err(unexpected("a text of more than 512 MiB"));
        }
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        out.push_str(&String::from_utf8_lossy(&bytes[..length]));
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a reply that is expected here: {what:?}"))
}
