use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mail_types::Secret;

use super::{Cursor, ParseError, fetch, list, search, store};
use crate::command::Command;
use crate::{MailboxName, StatusItem};

type Result<T> = std::result::Result<T, ParseError>;

/// Parses a command behind its tag and the space: everything up to the last CRLF, which is not
/// part of it. Literals are in it as they came.
///
/// ```abnf
/// command = tag SP (command-any / command-auth / command-nonauth / command-select) CRLF
/// ```
pub fn parse_command(bytes: &[u8]) -> Result<Command> {
    let mut at = Cursor::new(bytes);
    let name = at
        .keyword()
        .map_err(|_| ParseError::Expected("a command"))?;
    let command = match name.as_str() {
        "UID" => uid(&mut at)?,
        _ => plain(&name, &mut at)?,
    };
    at.end()?;
    Ok(command)
}

fn plain(name: &str, at: &mut Cursor<'_>) -> Result<Command> {
    if let Some(command) = without_arguments(name) {
        return Ok(command);
    }
    match name {
        "AUTHENTICATE" => authenticate(at),
        "COPY" => copy(at, false),
        "CREATE" => create(at),
        "DELETE" => argument(at).map(Command::Delete),
        "ENABLE" => enable(at),
        "EXAMINE" => select(at, true),
        "FETCH" => fetch::fetch(at, false),
        "ID" => id(at),
        "LIST" => list::list(at),
        "LOGIN" => login(at),
        "LSUB" => list::lsub(at),
        "MOVE" => move_(at, false),
        "RENAME" => rename(at),
        "SEARCH" => search::search(at, false),
        "SELECT" => select(at, false),
        "STATUS" => status(at),
        "STORE" => store::store(at, false),
        "SUBSCRIBE" => argument(at).map(Command::Subscribe),
        "UNSUBSCRIBE" => argument(at).map(Command::Unsubscribe),
        // Its message makes it another event, before a line of it comes here.
        "APPEND" => Err(ParseError::Expected("a message as literal")),
        _ => Err(ParseError::UnknownCommand),
    }
}

fn without_arguments(name: &str) -> Option<Command> {
    Some(match name {
        "CAPABILITY" => Command::Capability,
        "CHECK" => Command::Check,
        "CLOSE" => Command::Close,
        "EXPUNGE" => Command::Expunge(None),
        "IDLE" => Command::Idle,
        "LOGOUT" => Command::Logout,
        "NAMESPACE" => Command::Namespace,
        "NOOP" => Command::Noop,
        "STARTTLS" => Command::StartTls,
        "UNSELECT" => Command::Unselect,
        _ => return None,
    })
}

/// ```abnf
/// uid = "UID" SP (copy / fetch / search / store / move / uid-expunge)
/// ```
fn uid(at: &mut Cursor<'_>) -> Result<Command> {
    at.space()?;
    match at.keyword()?.as_str() {
        "COPY" => copy(at, true),
        "EXPUNGE" => {
            at.space()?;
            at.sequence_set().map(|set| Command::Expunge(Some(set)))
        }
        "FETCH" => fetch::fetch(at, true),
        "MOVE" => move_(at, true),
        "SEARCH" => search::search(at, true),
        "STORE" => store::store(at, true),
        _ => Err(ParseError::UnknownCommand),
    }
}

fn argument(at: &mut Cursor<'_>) -> Result<MailboxName> {
    at.space()?;
    at.mailbox()
}

/// ```abnf
/// authenticate = "AUTHENTICATE" SP auth-type [SP (base64 / "=")]
/// ```
fn authenticate(at: &mut Cursor<'_>) -> Result<Command> {
    at.space()?;
    let mechanism = at.keyword()?;
    let mut initial = None;
    if at.eat(b' ') {
        let text = at.take_while(|b| b != b' ');
        initial = Some(decode_sasl(text).ok_or(ParseError::Expected("base64"))?);
    }
    Ok(Command::Authenticate { mechanism, initial })
}

/// A SASL response; `=` alone stands for an empty initial response (RFC 4959 §3).
pub(super) fn decode_sasl(text: &[u8]) -> Option<Secret<Vec<u8>>> {
    if text == b"=" {
        return Some(Secret::new(Vec::new()));
    }
    STANDARD.decode(text).ok().map(Secret::new)
}

/// `copy = "COPY" SP sequence-set SP mailbox`
fn copy(at: &mut Cursor<'_>, uid: bool) -> Result<Command> {
    at.space()?;
    let set = at.sequence_set()?;
    let mailbox = argument(at)?;
    Ok(Command::Copy { uid, set, mailbox })
}

/// `move = "MOVE" SP sequence-set SP mailbox` (RFC 6851 §5)
fn move_(at: &mut Cursor<'_>, uid: bool) -> Result<Command> {
    at.space()?;
    let set = at.sequence_set()?;
    let mailbox = argument(at)?;
    Ok(Command::Move { uid, set, mailbox })
}

/// ```abnf
/// create = "CREATE" SP mailbox [SP "(" "USE" SP "(" [use-attr *(SP use-attr)] ")" ")"]
/// ```
fn create(at: &mut Cursor<'_>) -> Result<Command> {
    let name = argument(at)?;
    // A separator at the end says that names below it will come (RFC 3501 §6.3.3).
    let mailbox = match name.as_str().strip_suffix('/') {
        Some(stripped) => MailboxName::from_utf8(stripped.to_owned()),
        None => name,
    };
    let mut special_use = Vec::new();
    if at.eat(b' ') {
        at.open()?;
        if !at.eat_word("USE (") {
            return Err(ParseError::Unknown("CREATE parameter"));
        }
        while !at.eat(b')') {
            at.expect(b'\\', "an attribute")?;
            special_use.push(format!("\\{}", at.atom()?));
            at.eat(b' ');
        }
        at.close()?;
    }
    Ok(Command::Create {
        mailbox,
        special_use,
    })
}

/// `enable = "ENABLE" 1*(SP capability)` (RFC 5161 §4)
fn enable(at: &mut Cursor<'_>) -> Result<Command> {
    let mut names = Vec::new();
    at.space()?;
    loop {
        names.push(at.keyword()?);
        if !at.eat(b' ') {
            return Ok(Command::Enable(names));
        }
    }
}

/// ```abnf
/// id               = "ID" SP id-params-list
/// id-params-list   = "(" [string SP nstring *(SP string SP nstring)] ")" / nil
/// ```
fn id(at: &mut Cursor<'_>) -> Result<Command> {
    at.space()?;
    let mut fields = Vec::new();
    if at.eat_word("NIL") {
        return Ok(Command::Id(fields));
    }
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    at.open()?;
    while !at.eat(b')') {
        let field = text(at.string()?);
        at.space()?;
        fields.push((field, at.nstring()?.map(text)));
        at.eat(b' ');
    }
    Ok(Command::Id(fields))
}

/// `login = "LOGIN" SP userid SP password`
fn login(at: &mut Cursor<'_>) -> Result<Command> {
    at.space()?;
    let user = at.astring()?;
    at.space()?;
    let password = Secret::new(at.astring()?);
    Ok(Command::Login { user, password })
}

/// `rename = "RENAME" SP mailbox SP mailbox`
fn rename(at: &mut Cursor<'_>) -> Result<Command> {
    let from = argument(at)?;
    let to = argument(at)?;
    Ok(Command::Rename { from, to })
}

/// ```abnf
/// select        = "SELECT" SP mailbox [SP "(" select-param *(SP select-param) ")"]
/// select-param =/ "CONDSTORE"
/// ```
fn select(at: &mut Cursor<'_>, read_only: bool) -> Result<Command> {
    let mailbox = argument(at)?;
    let mut condstore = false;
    if at.eat(b' ') {
        at.open()?;
        loop {
            match at.keyword()?.as_str() {
                "CONDSTORE" => condstore = true,
                _ => return Err(ParseError::Unknown("SELECT parameter")),
            }
            if at.eat(b')') {
                break;
            }
            at.space()?;
        }
    }
    Ok(Command::Select {
        mailbox,
        read_only,
        condstore,
    })
}

/// `status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"`
fn status(at: &mut Cursor<'_>) -> Result<Command> {
    let mailbox = argument(at)?;
    at.space()?;
    let items = status_items(at)?;
    Ok(Command::Status { mailbox, items })
}

pub(super) fn status_items(at: &mut Cursor<'_>) -> Result<Vec<StatusItem>> {
    at.open()?;
    let mut items = Vec::new();
    loop {
        let name = at.keyword()?;
        let item = StatusItem::ALL.into_iter().find(|i| i.name() == name);
        items.push(item.ok_or(ParseError::Unknown("STATUS item"))?);
        if at.eat(b')') {
            return Ok(items);
        }
        at.space()?;
    }
}
