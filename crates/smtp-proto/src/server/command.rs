//! Command lines (RFC 5321 §4.1.1).

use crate::Reply;

/// A command with its arguments, which for MAIL and RCPT are parsed in their turn, when the session
/// knows what they depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// RFC 4954 §4.
    Auth {
        mechanism: &'a str,
        initial: Option<&'a str>,
    },
    /// RFC 3030 §2.
    Bdat {
        size: u64,
        last: bool,
    },
    Data,
    Ehlo(&'a str),
    Helo(Option<&'a str>),
    Help,
    Mail(&'a str),
    Noop,
    Quit,
    Rcpt(&'a str),
    Rset,
    /// RFC 3207 §4.
    StartTls,
    Vrfy,
}

/// Why a line is no command that can be obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandError {
    Arguments,
    /// A browser that somebody sent here: what follows is not meant for us.
    Http,
    NonAscii,
    NotImplemented,
    RecipientSyntax,
    SenderSyntax,
    Unknown,
    UnknownParameter,
}

impl From<CommandError> for Reply {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Arguments => Reply::bad_arguments(),
            CommandError::Http => Reply::not_http(),
            CommandError::NonAscii => Reply::non_ascii_address(),
            CommandError::NotImplemented => Reply::not_implemented(),
            CommandError::RecipientSyntax => Reply::bad_recipient(),
            CommandError::SenderSyntax => Reply::bad_sender(),
            CommandError::Unknown => Reply::unknown_command(),
            CommandError::UnknownParameter => Reply::unknown_parameter(),
        }
    }
}

/// True for a line that begins like AUTH, which may be longer than others.
pub(super) fn is_auth(line: &[u8]) -> bool {
    line.get(..5)
        .is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "))
}

/// Parses a line without its line end.
pub(super) fn parse(line: &[u8]) -> Result<Command<'_>, CommandError> {
    let line = line.trim_ascii_end();
    let end = line
        .iter()
        .position(|b| matches!(b, b' ' | b'\t'))
        .unwrap_or(line.len());
    let (verb, args) = line.split_at_checked(end).unwrap_or((line, &[]));
    let mut upper = [0; 8];
    let name = upper.get_mut(..verb.len()).ok_or(CommandError::Unknown)?;
    name.copy_from_slice(verb);
    name.make_ascii_uppercase();
    let args = std::str::from_utf8(args).map_err(|_| CommandError::Arguments);
    let args = args.map(str::trim_ascii_start);
    match &*name {
        b"AUTH" => auth(args?),
        b"BDAT" => bdat(args?),
        b"DATA" => alone(args?, Command::Data),
        b"EHLO" => greeting_name(args?)?
            .map(Command::Ehlo)
            .ok_or(CommandError::Arguments),
        b"HELO" => greeting_name(args?).map(Command::Helo),
        b"HELP" => Ok(Command::Help),
        b"MAIL" => args.map(Command::Mail),
        b"NOOP" => Ok(Command::Noop),
        b"QUIT" => alone(args?, Command::Quit),
        b"RCPT" => args.map(Command::Rcpt),
        b"RSET" => alone(args?, Command::Rset),
        b"STARTTLS" => alone(args?, Command::StartTls),
        b"VRFY" if args?.is_empty() => Err(CommandError::Arguments),
        b"VRFY" => Ok(Command::Vrfy),
        b"CONNECT" | b"DELETE" | b"GET" | b"HEAD" | b"OPTIONS" | b"POST" | b"PUT" => {
            Err(CommandError::Http)
        }
        b"ETRN" | b"EXPN" | b"SAML" | b"SEND" | b"SOML" | b"TURN" => {
            Err(CommandError::NotImplemented)
        }
        _ => Err(CommandError::Unknown),
    }
}

fn alone<'a>(args: &str, command: Command<'a>) -> Result<Command<'a>, CommandError> {
    if args.is_empty() {
        Ok(command)
    } else {
        Err(CommandError::Arguments)
    }
}

/// `"AUTH" SP sasl-mech [SP initial-response]` (RFC 4954 §8).
fn auth(args: &str) -> Result<Command<'_>, CommandError> {
    let mut words = args.split_ascii_whitespace();
    let mechanism = words.next().ok_or(CommandError::Arguments)?;
    let initial = words.next();
    if words.next().is_some() {
        return Err(CommandError::Arguments);
    }
    Ok(Command::Auth { mechanism, initial })
}

/// `"BDAT" SP chunk-size [SP "LAST"]` (RFC 3030 §2).
fn bdat(args: &str) -> Result<Command<'_>, CommandError> {
    let mut words = args.split_ascii_whitespace();
    let digits = words.next().unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CommandError::Arguments);
    }
    let size = digits.parse().map_err(|_| CommandError::Arguments)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return Err(CommandError::Arguments),
    };
    if words.next().is_some() {
        return Err(CommandError::Arguments);
    }
    Ok(Command::Bdat { size, last })
}

/// What a client calls itself. Many call themselves something that is no domain (RFC 5321 §4.1.4
/// says not to refuse that); what would break a trace field that quotes it is refused.
fn greeting_name(args: &str) -> Result<Option<&str>, CommandError> {
    if args.is_empty() {
        return Ok(None);
    }
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-._:[]+/#~=!".contains(c);
    if args.len() <= 255 && args.chars().all(harmless) {
        Ok(Some(args))
    } else {
        Err(CommandError::Arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_in_any_case() {
        assert_eq!(parse(b"quit"), Ok(Command::Quit));
        assert_eq!(parse(b"Quit  "), Ok(Command::Quit));
        assert_eq!(parse(b"StartTLS"), Ok(Command::StartTls));
        assert_eq!(parse(b"helo"), Ok(Command::Helo(None)));
        assert_eq!(parse(b"HELO  x"), Ok(Command::Helo(Some("x"))));
        assert_eq!(parse(b"EHLO [IPv6:::1]"), Ok(Command::Ehlo("[IPv6:::1]")));
        assert_eq!(parse(b"MAIL FROM: root"), Ok(Command::Mail("FROM: root")));
        assert_eq!(parse(b"noop what ever"), Ok(Command::Noop));
    }

    #[test]
    fn no_commands() {
        for line in [&b""[..], b"X", b" QUIT", b"STARTTLSX", b"\0\xff", b"HELOx"] {
            assert_eq!(parse(line), Err(CommandError::Unknown), "{line:?}");
        }
        for line in [
            &b"QUIT now"[..],
            b"DATA x",
            b"EHLO",
            b"EHLO a b",
            b"HELO (x)",
            "EHLO ñandú.example".as_bytes(),
            b"VRFY",
            b"AUTH",
            b"AUTH PLAIN a b",
            b"BDAT",
            b"BDAT x",
            b"BDAT +1",
            b"BDAT 1 FIRST",
            b"BDAT 1 LAST x",
            b"BDAT 99999999999999999999",
            b"MAIL FROM:<\xff>",
        ] {
            assert_eq!(parse(line), Err(CommandError::Arguments), "{line:?}");
        }
        assert_eq!(parse(b"POST / HTTP/1.1"), Err(CommandError::Http));
        assert_eq!(parse(b"EXPN x"), Err(CommandError::NotImplemented));
    }

    #[test]
    fn chunks() {
        let bdat = |size, last| Ok(Command::Bdat { size, last });
        assert_eq!(parse(b"bdat 0 last"), bdat(0, true));
        assert_eq!(parse(b"BDAT 123"), bdat(123, false));
    }
}
