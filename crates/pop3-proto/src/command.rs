//! Command lines (RFC 1939 §3): a keyword of three or four letters and arguments.

/// A command that parses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// RFC 5034 §4: `AUTH [mechanism [initial-response]]`
    Auth(Option<(String, Option<String>)>),
    /// RFC 2449 §5
    Capa,
    Dele(u32),
    List(Option<u32>),
    Noop,
    Pass(String),
    Quit,
    Retr(u32),
    Rset,
    Stat,
    /// RFC 2595 §4
    Stls,
    Top(u32, u32),
    Uidl(Option<u32>),
    User(String),
}

/// Why a line is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    Arguments,
    Unknown,
}

impl Command {
    /// Parses a line without its line end.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Bad> {
        let text = std::str::from_utf8(line).map_err(|_| Bad::Unknown)?;
        let (keyword, rest) = match text.split_once(' ') {
            Some((keyword, rest)) => (keyword, Some(rest)),
            None => (text.trim_end(), None),
        };
        let mut words = rest.unwrap_or_default().split_ascii_whitespace();
        let command = match keyword.to_ascii_uppercase().as_str() {
            "AUTH" => {
                let mechanism = words.next().map(str::to_ascii_uppercase);
                Self::Auth(mechanism.map(|name| (name, words.next().map(str::to_owned))))
            }
            "CAPA" => Self::Capa,
            "DELE" => Self::Dele(number(words.next())?),
            "LIST" => Self::List(optional(words.next())?),
            "NOOP" => Self::Noop,
            // A password may hold spaces; all behind the first one is it.
            "PASS" => {
                return rest
                    .map(|rest| Self::Pass(rest.to_owned()))
                    .ok_or(Bad::Arguments);
            }
            "QUIT" => Self::Quit,
            "RETR" => Self::Retr(number(words.next())?),
            "RSET" => Self::Rset,
            "STAT" => Self::Stat,
            "STLS" => Self::Stls,
            "TOP" => Self::Top(number(words.next())?, lines(words.next())?),
            "UIDL" => Self::Uidl(optional(words.next())?),
            "USER" => Self::User(words.next().ok_or(Bad::Arguments)?.to_owned()),
            _ => return Err(Bad::Unknown),
        };
        if words.next().is_some() {
            Err(Bad::Arguments)
        } else {
            Ok(command)
        }
    }
}

/// A message number, which is never 0.
fn number(word: Option<&str>) -> Result<u32, Bad> {
    lines(word).and_then(|number| {
        if number == 0 {
            Err(Bad::Arguments)
        } else {
            Ok(number)
        }
    })
}

fn lines(word: Option<&str>) -> Result<u32, Bad> {
    let word = word.ok_or(Bad::Arguments)?;
    if !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Bad::Arguments);
    }
    word.parse().map_err(|_| Bad::Arguments)
}

fn optional(word: Option<&str>) -> Result<Option<u32>, Bad> {
    word.map(|word| number(Some(word))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_commands() {
        let parse = |text: &str| Command::parse(text.as_bytes());
        assert_eq!(parse("quit"), Ok(Command::Quit));
        assert_eq!(
            parse("USER ana@aula.test"),
            Ok(Command::User("ana@aula.test".into()))
        );
        assert_eq!(
            parse("PASS  two words "),
            Ok(Command::Pass(" two words ".into()))
        );
        assert_eq!(parse("top 1 0"), Ok(Command::Top(1, 0)));
        assert_eq!(parse("LIST"), Ok(Command::List(None)));
        let auth = Some(("PLAIN".to_owned(), Some("=".to_owned())));
        assert_eq!(parse("auth plain ="), Ok(Command::Auth(auth)));
        for bad in [
            "RETR",
            "RETR 0",
            "RETR +1",
            "RETR 1 2",
            "TOP 1",
            "LIST x",
            "DELE 99999999999",
        ] {
            assert_eq!(parse(bad), Err(Bad::Arguments), "{bad}");
        }
        for bad in ["", "XYZ", "RETR1", " QUIT"] {
            assert_eq!(parse(bad), Err(Bad::Unknown), "{bad:?}");
        }
        assert_eq!(Command::parse(b"\xff\xfe"), Err(Bad::Unknown));
    }
}
