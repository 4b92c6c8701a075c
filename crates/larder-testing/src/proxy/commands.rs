//! Finds the commands in what a Redis client sends, however it is cut into pieces.

/// The longest name and the longest line that are kept; what is longer is cut.
const MOST_KEPT: usize = 64;

/// Reads requests: arrays of texts, or lines as a person types them. What is neither is skipped line by line.
#[derive(Debug, Default)]
pub(super) struct CommandReader {
    state: State,
    line: Vec<u8>,
    name: Vec<u8>,
    /// Texts of the present command that are still to come.
    texts: u64,
    named: bool,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// In a line: the head of an array, the head of a text, or a command as a person types it.
    #[default]
    Line,
    /// In a text, with so many bytes left, and in its line end.
    Text { left: u64, end: u8 },
}

impl CommandReader {
    /// Takes the next piece and names each command that ends in it, in upper case.
    pub(super) fn read(&mut self, mut piece: &[u8], mut command: impl FnMut(String)) {
        while let Some((&byte, rest)) = piece.split_first() {
            match self.state {
                State::Line if byte == b'\n' => self.end_line(&mut command),
                State::Line => keep(&mut self.line, &[byte]),
                State::Text { left: 0, end: 1 } => self.end_text(&mut command),
                State::Text { left: 0, end } => self.state = State::Text { left: 0, end: end - 1 },
                State::Text { left, end } => {
                    let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    if !self.named {
                        keep(&mut self.name, &piece[..length]);
                    }
                    self.state = State::Text { left: left - length as u64, end };
                    piece = &piece[length..];
                    continue;
                }
            }
            piece = rest;
        }
    }

    fn end_line(&mut self, command: &mut impl FnMut(String)) {
        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
        self.line.clear();
        if let Some(length) = line.strip_prefix('$').filter(|_| self.texts > 0) {
            self.state = State::Text { left: length.parse().unwrap_or(0), end: 2 };
        } else if let Some(texts) = line.strip_prefix('*') {
            self.texts = texts.parse().unwrap_or(0);
        } else if let Some(name) = line.split_whitespace().next() {
            command(name.to_ascii_uppercase());
        }
    }

    fn end_text(&mut self, command: &mut impl FnMut(String)) {
        self.state = State::Line;
        self.named = true;
        self.texts -= 1;
        if self.texts == 0 {
            command(String::from_utf8_lossy(&self.name).to_ascii_uppercase());
            self.name.clear();
            self.named = false;
        }
    }
}

fn keep(kept: &mut Vec<u8>, more: &[u8]) {
    let room = MOST_KEPT - kept.len();
    kept.extend_from_slice(&more[..more.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: &[u8] = b"*1\r\n$4\r\nping\r\n*3\r\n$3\r\nSET\r\n$3\r\n*1\n\r\n$7\r\n$4\r\nGET\r\n*0\r\nPING\r\n\
        *2\r\n$3\r\nget\r\n$0\r\n\r\ninfo all\n";

    fn commands(pieces: impl Iterator<Item = Vec<u8>>) -> Vec<String> {
        let (mut reader, mut names) = (CommandReader::default(), Vec::new());
        pieces.for_each(|piece| reader.read(&piece, |name| names.push(name)));
        names
    }

    #[test]
    fn commands_are_found_however_they_are_cut() {
        for length in 1..=REQUESTS.len() {
            let names = commands(REQUESTS.chunks(length).map(<[u8]>::to_vec));
            assert_eq!(names, ["PING", "SET", "PING", "GET", "INFO"], "in pieces of {length}");
        }
    }

    #[test]
    fn a_command_counts_when_it_is_whole() {
        let cut = REQUESTS.len() - 1;
        assert_eq!(commands([REQUESTS[..cut].to_vec()].into_iter()).len(), 4);
    }

    #[test]
    fn what_is_no_request_is_skipped() {
        let names = commands([b"$5\r\n\0\xff\r\n*x\r\n*1\r\n$x\r\n\r\n*1\r\n$4\r\nPING\r\n".to_vec()].into_iter());
        assert_eq!(names.last().map(String::as_str), Some("PING"));
    }
}
