//! Who may send what to whom.

use mail_rpc::auth::Login;
use mail_rpc::directory::{Directory, Resolution};
use mail_types::ReversePath;
use smtp_proto::Refusal;
use smtp_proto::server::{MailFrom, RcptTo};
use tracing::debug;

use crate::client::Client;
use crate::live::Live;

/// May this client send under this name? On the submission ports only after a login, and then only
/// under a name of its own; a null sender is everybody's (RFC 8098 §3 has clients send it).
pub(crate) fn sender(
    live: &Live,
    client: &Client,
    login: Option<&Login>,
    mail: &MailFrom,
) -> Result<(), Refusal> {
    let login = match login {
        Some(login) => login,
        None if client.role.needs_login() => return Err(Refusal::AuthRequired),
        None => return Ok(()),
    };
    match &mail.path {
        ReversePath::Address(address) if live.restrict_sender && !login.may_send_as(address) => {
            debug!(sid = client.sid, sender = %address, "not a sender address of the user's");
            Err(Refusal::SenderNotOwned)
        }
        _ => Ok(()),
    }
}

/// May this client send to this recipient? To our own users everybody may; elsewhere, only who
/// has logged in or is in a relay network. Never an open relay: a client on loopback has no more
/// rights than others, since a tunnel or a web application may be behind it.
pub(crate) async fn recipient(
    directory: &Directory,
    may_relay: bool,
    rcpt: &RcptTo,
) -> Result<(), Refusal> {
    match directory.resolve(&rcpt.address).await {
        Ok(Resolution::Account(_) | Resolution::Alias(_)) => Ok(()),
        Ok(Resolution::NoSuchUser) => Err(Refusal::NoSuchUser),
        Ok(Resolution::NotLocal) if may_relay => Ok(()),
        Ok(Resolution::NotLocal) => Err(Refusal::RelayDenied),
        Err(error) => {
            debug!(%error, "recipient not resolved");
            Err(Refusal::DirectoryUnavailable)
        }
    }
}

/// May this client send to other domains?
pub(crate) fn may_relay(live: &Live, client: &Client, login: Option<&Login>) -> bool {
    login.is_some() || live.relay_networks.contains(client.peer.ip())
}

/// Is this message written here, so that what it lacks is ours to supply (RFC 6409 §8)? Mail from
/// elsewhere is passed on as it is.
pub(crate) fn is_submission(
    live: &Live,
    client: &Client,
    login: Option<&Login>,
    mail: &MailFrom,
) -> bool {
    may_relay(live, client, login) || (client.is_loopback() && mail.unqualified)
}
