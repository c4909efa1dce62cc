use std::collections::HashMap;

use mail_rpc::directory::Resolution;
use mail_types::{Action, EmailAddress, EnhancedCode, Outcome, StatusClass};
use queue_store::{Message, Notify, Progress, Recipient, Route};

use super::Router;
use super::resolution::{Change, Resolved};

/// One run over a message's recipients.
pub(super) struct Expansion<'a> {
    router: &'a Router,
    message: &'a Message,
    out: Resolved,
    /// The mailbox or address that was seen, and the place of the recipient that has it.
    seen: HashMap<String, u32>,
    /// What is still to be resolved: the top is next.
    todo: Vec<Todo>,
}

struct Todo {
    /// The recipient's place.
    index: u32,
    address: EmailAddress,
    original: Option<String>,
    notify: Notify,
    /// The aliases that led here, folded, outermost first.
    path: Vec<String>,
}

impl<'a> Expansion<'a> {
    pub(super) fn new(router: &'a Router, message: &'a Message) -> Self {
        let mut seen = HashMap::new();
        let mut todo = Vec::new();
        for (index, recipient) in (0..).zip(&message.recipients) {
            match &recipient.progress {
                Progress::Unrouted => todo.push(Todo {
                    index,
                    address: recipient.address.clone(),
                    original: recipient.original.clone(),
                    notify: recipient.notify,
                    path: path_of(message, recipient),
                }),
                Progress::Finished | Progress::Waiting(_) => {
                    seen.insert(recipient.address.folded(), index);
                    if let Progress::Waiting(route @ Route::Local { .. }) = &recipient.progress {
                        seen.insert(key(route, &recipient.address), index);
                    }
                }
            }
        }
        // Off the end, so the first recipient is resolved first.
        todo.reverse();
        Self {
            router,
            message,
            out: Resolved::default(),
            seen,
            todo,
        }
    }

    pub(super) async fn run(mut self) -> Resolved {
        while let Some(todo) = self.todo.pop() {
            self.resolve(todo).await;
        }
        self.out
    }

    async fn resolve(&mut self, todo: Todo) {
        let folded = todo.address.folded();
        if todo.path.contains(&folded) {
            let why = format!(
                "the alias leads back to itself: {} {folded}",
                todo.path.join(" ")
            );
            return self.fail(&todo, EnhancedCode::ROUTING_LOOP, why);
        }
        if let Some(first) = self.seen.get(&folded).copied() {
            return self.duplicate(&todo, first);
        }
        match self.router.directory.resolve(&todo.address).await {
            Ok(Resolution::Account(account)) => {
                self.seen.insert(folded, todo.index);
                let route = Route::Local {
                    account: account.id,
                    quota_bytes: account.quota_bytes,
                };
                self.route(&todo, route);
            }
            Ok(Resolution::NotLocal) => {
                self.seen.insert(folded, todo.index);
                let route = self.router.settings().routes.route(&todo.address.domain);
                self.route(&todo, route);
            }
            Ok(Resolution::NoSuchUser) => {
                self.fail(
                    &todo,
                    EnhancedCode::NO_SUCH_USER,
                    "no such user here".into(),
                );
            }
            Ok(Resolution::Alias(targets)) => {
                self.seen.insert(folded.clone(), todo.index);
                self.expand(todo, folded, &targets);
            }
            Err(reason) => {
                let outcome = Outcome::local(EnhancedCode::DIRECTORY_FAILURE, reason);
                self.change(todo.index, Change::Unavailable(outcome));
            }
        }
    }

    /// Different addresses may be one mailbox.
    fn route(&mut self, todo: &Todo, route: Route) {
        let key = key(&route, &todo.address);
        match self.seen.get(&key).copied() {
            Some(first) if first != todo.index => self.duplicate(todo, first),
            _ => {
                self.seen.insert(key, todo.index);
                self.change(todo.index, Change::Route(route));
            }
        }
    }

    fn expand(&mut self, todo: Todo, folded: String, targets: &[EmailAddress]) {
        let settings = self.router.settings();
        if todo.path.len() >= settings.alias_depth {
            let why = format!(
                "aliases lead to aliases more than {} deep",
                settings.alias_depth
            );
            return self.fail(&todo, EnhancedCode::ROUTING_LOOP, why);
        }
        if self.out.added.len() + targets.len() > settings.alias_width {
            let why = format!(
                "aliases lead to more than {} addresses",
                settings.alias_width
            );
            let status = EnhancedCode::TOO_MANY_RECIPIENTS.with_class(StatusClass::Permanent);
            return self.fail(&todo, status, why);
        }
        let mut path = todo.path;
        path.push(folded);
        // RFC 3461 §5.2.7.1: what the sender asked for goes on with the message, and who the
        // recipient was for him.
        let original = todo.original.clone();
        let original = original.unwrap_or_else(|| original_recipient(&todo.address));
        let start = self.todo.len();
        for target in targets {
            let mut recipient = Recipient::new(target.clone(), Some(original.clone()), todo.notify);
            recipient.parent = Some(todo.index);
            let place = self.message.recipients.len() + self.out.added.len();
            self.out.added.push(recipient);
            self.todo.push(Todo {
                index: u32::try_from(place).unwrap_or(u32::MAX),
                address: target.clone(),
                original: Some(original.clone()),
                notify: todo.notify,
                path: path.clone(),
            });
        }
        // The first is resolved first.
        if let Some(new) = self.todo.get_mut(start..) {
            new.reverse();
        }
        let targets = targets.len();
        self.change(
            todo.index,
            Change::Finish(expanded(format!("alias of {targets}"))),
        );
    }

    /// The same mailbox again: it gets the message once, and the sender hears all he asked for.
    fn duplicate(&mut self, todo: &Todo, first: u32) {
        if todo.notify != Notify::Default {
            self.change(first, Change::Notify(todo.notify));
        }
        let why = format!("the same as recipient {first}");
        self.change(todo.index, Change::Finish(expanded(why)));
    }

    fn fail(&mut self, todo: &Todo, status: EnhancedCode, why: String) {
        self.change(todo.index, Change::Finish(Outcome::local(status, why)));
    }

    fn change(&mut self, index: u32, change: Change) {
        self.out.changes.push((index, change));
    }
}

/// What two recipients must share to be one.
fn key(route: &Route, address: &EmailAddress) -> String {
    match route {
        Route::Local { account, .. } => format!("account {account}"),
        Route::Domain(_) | Route::SmartHost(_) => address.folded(),
    }
}

/// The aliases above a recipient that an earlier run added.
fn path_of(message: &Message, recipient: &Recipient) -> Vec<String> {
    let mut path = Vec::new();
    let mut parent = recipient.parent;
    while let Some(above) = parent.and_then(|index| message.recipients.get(index as usize)) {
        path.push(above.address.folded());
        // A parent is always before its children; anything else would be a circle.
        parent = above.parent.filter(|next| Some(*next) < parent);
    }
    path.reverse();
    path
}

fn expanded(diagnostic: String) -> Outcome {
    Outcome {
        action: Action::Expanded,
        status: EnhancedCode::OK,
        diagnostic,
        remote_mta: None,
    }
}

/// ORCPT for a recipient that came without (RFC 3461 §4.2): xtext for ASCII addresses, RFC 6533 §3
/// for others.
fn original_recipient(address: &EmailAddress) -> String {
    let text = address.to_string();
    if !address.is_ascii() {
        return format!("utf-8;{text}");
    }
    let mut out = String::from("rfc822;");
    for byte in text.bytes() {
        if byte == b'+' || byte == b'=' || !byte.is_ascii_graphic() {
            let hex = |digit: u8| char::from_digit(digit.into(), 16).unwrap_or('0');
            let digits = [hex(byte >> 4), hex(byte & 15)];
            out.push('+');
            out.extend(digits.map(|digit| digit.to_ascii_uppercase()));
        } else {
            out.push(char::from(byte));
        }
    }
    out
}
