//! What is offered (RFC 3501 §7.2.1).

use imap_proto::State;

/// What the connection allows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Offer {
    /// STARTTLS is possible.
    pub(crate) starttls: bool,
    /// Passwords may be sent as they are: under TLS, or from this host.
    pub(crate) plain_allowed: bool,
    /// SASL mechanisms.
    pub(crate) mechanisms: Vec<String>,
}

/// The capabilities, as CAPABILITY and its response code list them.
pub(crate) fn capabilities(offer: &Offer, state: State) -> String {
    let mut text = String::from("IMAP4rev1 LITERAL+ SASL-IR ID ENABLE");
    if state == State::NotAuthenticated {
        if offer.starttls {
            text.push_str(" STARTTLS");
        }
        if !offer.plain_allowed {
            text.push_str(" LOGINDISABLED");
        }
        for mechanism in &offer.mechanisms {
            text.push_str(" AUTH=");
            text.push_str(mechanism);
        }
    } else {
        text.push_str(
            " IDLE NAMESPACE CHILDREN UIDPLUS MULTIAPPEND MOVE UNSELECT SPECIAL-USE CREATE-SPECIAL-USE \
             LIST-EXTENDED LIST-STATUS STATUS=SIZE ESEARCH WITHIN CONDSTORE OBJECTID",
        );
    }
    text
}
