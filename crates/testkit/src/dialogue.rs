use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};

use crate::PATIENCE;

/// A conversation in lines with a server, as somebody with telnet has it.
#[derive(Debug)]
pub struct Dialogue {
    reader: BufReader<TcpStream>,
}

impl Dialogue {
    /// Connects.
    pub fn connect(address: impl Into<SocketAddr>) -> Result<Self> {
        let address = address.into();
        let stream = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            reader: BufReader::new(stream),
        })
    }

    /// Sends octets as they are.
    pub fn send_raw(&mut self, octets: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(octets)?;
        Ok(())
    }

    /// Sends a line.
    pub fn send(&mut self, line: &str) -> Result<()> {
        self.send_raw(format!("{line}\r\n").as_bytes())
    }

    /// The next line without its line end, or `None` at the end of the conversation.
    pub fn line(&mut self) -> Result<Option<String>> {
        let mut line = Vec::new();
        self.reader
            .read_until(b'\n', &mut line)
            .context("no line came")?;
        if line.is_empty() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line);
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// Reads an SMTP reply with all its lines, and fails unless it begins so.
    pub fn expect(&mut self, start: &str) -> Result<String> {
        let mut reply = String::new();
        loop {
            let line = self.line()?.context("the server closed the connection")?;
            reply.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
            reply.push('\n');
        }
        ensure!(reply.starts_with(start), "wanted {start}, got {reply}");
        Ok(reply)
    }

    /// Sends a command and reads the reply, which has to begin so.
    pub fn command(&mut self, line: &str, start: &str) -> Result<String> {
        self.send(line)?;
        self.expect(start).with_context(|| format!("after {line}"))
    }

    /// Reads IMAP lines up to the one that begins with the tag; gives all of them.
    pub fn until_tagged(&mut self, tag: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?.context("the server closed the connection")?;
            let done = line.starts_with(&format!("{tag} "));
            lines.push(line);
            if done {
                return Ok(lines);
            }
        }
    }

    /// Sends an IMAP command and fails unless it ends with OK.
    pub fn imap(&mut self, tag: &str, command: &str) -> Result<Vec<String>> {
        self.send(&format!("{tag} {command}"))?;
        let lines = self.until_tagged(tag)?;
        let ok = lines
            .last()
            .is_some_and(|line| line.starts_with(&format!("{tag} OK")));
        ensure!(ok, "{command}: {lines:?}");
        Ok(lines)
    }

    /// So many octets, such as a literal.
    pub fn octets(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut octets = vec![0; count];
        self.reader.read_exact(&mut octets)?;
        Ok(octets)
    }

    /// All that comes until the server closes the connection.
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest)?;
        Ok(rest)
    }
}
