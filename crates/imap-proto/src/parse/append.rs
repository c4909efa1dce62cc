use super::Cursor;
use crate::command::{Append, AppendNext, FlagList};
use crate::{DateTime, ParseError, Tag};

/// What a line that ends with a literal's head begins.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AppendHead {
    /// APPEND up to its message.
    Message(Append),
    /// Another command, or APPEND whose mailbox is the literal.
    Other,
}

/// ```abnf
/// append = "APPEND" SP mailbox [SP flag-list] [SP date-time] SP literal
/// ```
/// `command` ends with the literal's `{n}` CRLF.
pub(crate) fn parse_append(command: &[u8]) -> Result<AppendHead, ParseError> {
    let mut at = Cursor::new(command);
    let tag = at.take_while(|b| b != b' ');
    if Tag::parse(tag).is_none() || !at.eat(b' ') || !at.eat_word("APPEND ") {
        return Ok(AppendHead::Other);
    }
    let mailbox = match at.mailbox() {
        Err(ParseError::Incomplete) => return Ok(AppendHead::Other),
        mailbox => mailbox?,
    };
    at.space()?;
    let AppendNext { flags, date, size } = message(&mut at)?;
    Ok(AppendHead::Message(Append {
        mailbox,
        flags,
        date,
        size,
    }))
}

/// What follows a message of APPEND up to the next one's octets (RFC 3502 §6.3.11):
///
/// ```abnf
/// append-message = SP [flag-list SP] [date-time SP] literal
/// ```
pub(crate) fn parse_next(line: &[u8]) -> Result<AppendNext, ParseError> {
    let mut at = Cursor::new(line);
    at.space()?;
    message(&mut at)
}

fn message(at: &mut Cursor<'_>) -> Result<AppendNext, ParseError> {
    let mut flags = FlagList::default();
    if at.peek() == Some(b'(') {
        flags = at.flag_list()?;
        at.space()?;
    }
    let mut date = None;
    if at.peek() == Some(b'"') {
        let text = at.quoted()?;
        date = Some(DateTime::parse(&text).ok_or(ParseError::BadDate)?);
        at.space()?;
    }
    let size = at.literal_head()?;
    at.end()?;
    Ok(AppendNext { flags, date, size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_types::SystemFlag;

    // The example of RFC 3501 §6.3.11.
    #[test]
    fn heads() {
        let Ok(AppendHead::Message(append)) =
            parse_append(b"A003 APPEND saved-messages (\\Seen x) {310}\r\n")
        else {
            panic!("not an APPEND");
        };
        assert_eq!(append.mailbox.as_str(), "saved-messages");
        assert!(append.flags.system.has(SystemFlag::Seen));
        assert_eq!(append.flags.keywords, ["x"]);
        assert_eq!((append.date, append.size), (None, 310));
        let dated = parse_append(b"a append {1+}\r\nx \"17-Jul-1996 02:44:25 -0700\" {9+}\r\n");
        let Ok(AppendHead::Message(append)) = dated else {
            panic!("{dated:?}");
        };
        assert_eq!(append.date.unwrap().seconds, 837_596_665);
        assert_eq!(parse_append(b"a APPEND {5}\r\n"), Ok(AppendHead::Other));
        assert_eq!(parse_append(b"a LOGIN {5}\r\n"), Ok(AppendHead::Other));
        assert!(parse_append(b"a APPEND x y {5}\r\n").is_err());
        assert_eq!(parse_next(b" (\\Seen) {7+}\r\n").unwrap().size, 7);
        assert!(parse_next(b"{7}\r\n").is_err() && parse_next(b" x {7}\r\n").is_err());
    }
}
