use super::{Cursor, ParseError};
use crate::StoreMode;
use crate::command::{Command, FlagList};

type Result<T> = std::result::Result<T, ParseError>;

/// ```abnf
/// store           = "STORE" SP sequence-set [SP "(" "UNCHANGEDSINCE" SP mod-sequence-valzer ")"]
///                   SP store-att-flags
/// store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag)))
/// ```
pub(super) fn store(at: &mut Cursor<'_>, uid: bool) -> Result<Command> {
    at.space()?;
    let set = at.sequence_set()?;
    at.space()?;
    let mut unchanged_since = None;
    if at.eat(b'(') {
        if !at.eat_word("UNCHANGEDSINCE ") {
            return Err(ParseError::Unknown("STORE modifier"));
        }
        unchanged_since = Some(at.number()?);
        at.close()?;
        at.space()?;
    }
    let mode = match at.peek() {
        Some(b'+') => StoreMode::Add,
        Some(b'-') => StoreMode::Remove,
        _ => StoreMode::Replace,
    };
    if mode != StoreMode::Replace {
        at.eat(if mode == StoreMode::Add { b'+' } else { b'-' });
    }
    if !at.eat_word("FLAGS") {
        return Err(ParseError::Unknown("STORE item"));
    }
    let silent = at.eat_word(".SILENT");
    at.space()?;
    Ok(Command::Store {
        uid,
        set,
        mode,
        silent,
        flags: flags(at)?,
        unchanged_since,
    })
}

fn flags(at: &mut Cursor<'_>) -> Result<FlagList> {
    if at.peek() == Some(b'(') {
        return at.flag_list();
    }
    let mut flags = FlagList::default();
    loop {
        at.flag(&mut flags)?;
        if !at.eat(b' ') {
            return Ok(flags);
        }
    }
}
