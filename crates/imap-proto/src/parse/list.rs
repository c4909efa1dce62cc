use super::command::status_items;
use super::{Cursor, ParseError};
use crate::command::{Command, ListReturn, ListSelect};

type Result<T> = std::result::Result<T, ParseError>;

/// ```abnf
/// list = "LIST" [SP list-select-opts] SP mailbox SP mbox-or-pat [SP list-return-opts]
/// ```
/// (RFC 5258 §6, RFC 5819 §5, RFC 6154 §6)
pub(super) fn list(at: &mut Cursor<'_>) -> Result<Command> {
    at.space()?;
    let mut select = ListSelect::default();
    if at.peek() == Some(b'(') {
        select.extended = true;
        options(at, |at, name| select_option(at, name, &mut select))?;
        at.space()?;
    }
    let reference = reference(at)?;
    at.space()?;
    let mut patterns = Vec::new();
    if at.eat(b'(') {
        select.extended = true;
        while !at.eat(b')') {
            patterns.push(at.list_mailbox()?);
            at.eat(b' ');
        }
    } else {
        patterns.push(at.list_mailbox()?);
    }
    let mut returns = ListReturn::default();
    if at.eat(b' ') {
        select.extended = true;
        if !at.eat_word("RETURN ") {
            return Err(ParseError::Expected("RETURN"));
        }
        options(at, |at, name| return_option(at, name, &mut returns))?;
    }
    Ok(Command::List {
        reference,
        patterns,
        select,
        returns,
    })
}

/// `lsub = "LSUB" SP mailbox SP list-mailbox`
pub(super) fn lsub(at: &mut Cursor<'_>) -> Result<Command> {
    at.space()?;
    let reference = reference(at)?;
    at.space()?;
    let pattern = at.list_mailbox()?;
    Ok(Command::Lsub { reference, pattern })
}

fn reference(at: &mut Cursor<'_>) -> Result<String> {
    let octets = at.astring()?;
    crate::mailbox_name::decode(&octets).map_err(|_| ParseError::BadMailboxName)
}

fn options<F>(at: &mut Cursor<'_>, mut option: F) -> Result<()>
where
    F: FnMut(&mut Cursor<'_>, &str) -> Result<()>,
{
    at.open()?;
    if at.eat(b')') {
        return Ok(());
    }
    loop {
        let name = at.keyword()?;
        option(at, &name)?;
        if at.eat(b')') {
            return Ok(());
        }
        at.space()?;
    }
}

fn select_option(_: &mut Cursor<'_>, name: &str, select: &mut ListSelect) -> Result<()> {
    match name {
        "RECURSIVEMATCH" => select.recursive_match = true,
        // Mailboxes of other servers: there are none.
        "REMOTE" => {}
        "SPECIAL-USE" => select.special_use = true,
        "SUBSCRIBED" => select.subscribed = true,
        _ => return Err(ParseError::Unknown("LIST selection option")),
    }
    Ok(())
}

fn return_option(at: &mut Cursor<'_>, name: &str, returns: &mut ListReturn) -> Result<()> {
    match name {
        "CHILDREN" => returns.children = true,
        "SPECIAL-USE" => returns.special_use = true,
        "STATUS" => {
            at.space()?;
            returns.status = status_items(at)?;
        }
        "SUBSCRIBED" => returns.subscribed = true,
        _ => return Err(ParseError::Unknown("LIST return option")),
    }
    Ok(())
}
