//! The commands (RFC 3501 §6), a file for each group.

mod append;
mod copy;
mod fetch;
mod list;
mod mailbox;
mod search;
mod select;
mod store;

use std::io;

use daemon_kit::NetStream;
use imap_proto::encode::{push_string, push_untagged};
use imap_proto::{Command, State, Tag};

use crate::conversation::Conversation;

pub(crate) use append::Appending;

impl Conversation {
    /// Does a command, which is possible in this state, to its end.
    pub(crate) async fn command(
        &mut self,
        tag: Tag,
        command: Command,
        stream: &mut NetStream,
    ) -> io::Result<()> {
        match command {
            Command::Authenticate { mechanism, initial } => {
                let initial = initial.map(|initial| initial.expose().clone());
                self.authenticate(tag, mechanism, initial).await;
            }
            Command::Login { user, password } => {
                self.log_in(tag, &user, password.expose()).await;
            }
            Command::Logout => {
                self.ok_bye(&tag);
            }
            Command::Capability => {
                self.capability();
                self.ok(&tag, None, "CAPABILITY done");
            }
            Command::Id(_) => self.id(&tag),
            Command::Enable(names) => self.enable(&tag, &names),
            Command::Noop | Command::Check => {
                self.update(true).await;
                self.ok(&tag, None, "done");
            }
            Command::Idle => self.idle(tag).await,
            Command::Namespace => {
                // One personal namespace without a prefix (RFC 2342 §5).
                push_untagged(&mut self.out, "NAMESPACE ((\"\" \"/\")) NIL NIL");
                self.ok(&tag, None, "NAMESPACE done");
            }
            // Answered by the caller, which has the connection.
            Command::StartTls => {}
            Command::Fetch {
                uid,
                set,
                items,
                changed_since,
            } => {
                self.fetch(stream, &tag, uid, &set, items, changed_since)
                    .await?;
            }
            other => self.mailbox_command(tag, other).await,
        }
        Ok(())
    }

    async fn mailbox_command(&mut self, tag: Tag, command: Command) {
        match command {
            Command::Select {
                mailbox,
                read_only,
                condstore,
            } => {
                self.select(&tag, &mailbox, read_only, condstore).await;
            }
            Command::Close => self.close(&tag, true).await,
            Command::Unselect => self.close(&tag, false).await,
            Command::Create {
                mailbox,
                special_use,
            } => {
                self.create(&tag, &mailbox, &special_use).await;
            }
            Command::Delete(mailbox) => self.delete(&tag, &mailbox).await,
            Command::Rename { from, to } => self.rename(&tag, &from, &to).await,
            Command::Subscribe(mailbox) => self.subscribe(&tag, &mailbox, true).await,
            Command::Unsubscribe(mailbox) => self.subscribe(&tag, &mailbox, false).await,
            Command::List {
                reference,
                patterns,
                select,
                returns,
            } => {
                self.list(&tag, &reference, &patterns, select, &returns)
                    .await;
            }
            Command::Lsub { reference, pattern } => self.lsub(&tag, &reference, &pattern).await,
            Command::Status { mailbox, items } => self.status(&tag, &mailbox, &items).await,
            Command::Copy { uid, set, mailbox } => {
                self.copy(&tag, uid, &set, &mailbox, false).await;
            }
            Command::Move { uid, set, mailbox } => {
                self.copy(&tag, uid, &set, &mailbox, true).await;
            }
            Command::Expunge(set) => self.expunge(&tag, set.as_ref()).await,
            Command::Search {
                uid,
                returns,
                charset,
                key,
            } => {
                self.search(&tag, uid, returns, charset.as_deref(), &key)
                    .await;
            }
            Command::Store {
                uid,
                set,
                mode,
                silent,
                flags,
                unchanged_since,
            } => {
                let change = store::Change {
                    mode,
                    silent,
                    flags,
                    unchanged_since,
                };
                self.store(&tag, uid, &set, change).await;
            }
            // The others are done by the caller.
            other => self.bad(&tag, &format!("{} is not served", other.name())),
        }
    }

    fn ok_bye(&mut self, tag: &Tag) {
        self.end("goodbye");
        self.ok(tag, None, "LOGOUT done");
        self.session.set_state(State::Logout);
    }

    /// RFC 2971: what we are; the version is nobody's business who is not logged in.
    fn id(&mut self, tag: &Tag) {
        self.out.extend_from_slice(b"* ID (\"name\" ");
        push_string(&mut self.out, b"Correo");
        self.out.extend_from_slice(b")\r\n");
        self.ok(tag, None, "ID done");
    }

    /// RFC 5161.
    fn enable(&mut self, tag: &Tag, names: &[String]) {
        let mut enabled = String::from("ENABLED");
        if names.iter().any(|name| name == "CONDSTORE") {
            self.condstore = true;
            enabled.push_str(" CONDSTORE");
        }
        push_untagged(&mut self.out, &enabled);
        self.ok(tag, None, "ENABLE done");
    }
}
