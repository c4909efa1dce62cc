//! Passwords: asked for without echo, read, or made up.

use std::io::{self, BufRead, IsTerminal, Write};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use rand::Rng;

use crate::failure::Failure;

/// No l, 1, o, 0, i: they are read out and typed.
const LETTERS: &[u8] = b"abcdefghjkmnpqrstuvwxyz23456789";
/// 5 groups of 4 of 31 letters: 99 bits.
const GROUPS: usize = 5;

/// A password, and whether its owner has yet to be told.
pub(crate) struct Password {
    pub(crate) text: String,
    pub(crate) generated: bool,
}

/// Gets a password in the way the command line wants it.
pub(crate) fn obtain(from_stdin: bool, address: &str) -> Result<Password, Failure> {
    let given = |text| Password {
        text,
        generated: false,
    };
    if from_stdin {
        return read_line().map(given);
    }
    if !io::stdin().is_terminal() {
        return Ok(Password {
            text: generate(),
            generated: true,
        });
    }
    let first = ask(&format!("Password for {address} (empty: make one up): "))?;
    if first.is_empty() {
        return Ok(Password {
            text: generate(),
            generated: true,
        });
    }
    if ask("Once more: ")? != first {
        return Err(Failure::Usage("the two are not the same".to_owned()));
    }
    Ok(given(first))
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let text = line.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err(Failure::Usage(
            "there is no password on standard input".to_owned(),
        ));
    }
    Ok(text.to_owned())
}

fn ask(prompt: &str) -> Result<String, Failure> {
    let mut terminal = io::stderr();
    write!(terminal, "{prompt}")?;
    terminal.flush()?;
    let _quiet = Quiet::start()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    writeln!(terminal)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// The terminal does not show what is typed as long as this lives.
struct Quiet(Termios);

impl Quiet {
    fn start() -> Result<Self, Failure> {
        let before = tcgetattr(io::stdin()).map_err(io::Error::from)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent).map_err(io::Error::from)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _ = tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &self.0);
    }
}

/// A password that nobody guesses and anybody can type.
pub(crate) fn generate() -> String {
    let mut random = rand::rng();
    let group = |_| -> String {
        let letter = |_| {
            let at = random.random_range(0..LETTERS.len());
            LETTERS.get(at).copied().map_or('x', char::from)
        };
        (0..4).map(letter).collect()
    };
    (0..GROUPS).map(group).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ones_differ() {
        let (one, other) = (generate(), generate());
        assert_eq!(one.len(), 24);
        assert_ne!(one, other);
    }
}
