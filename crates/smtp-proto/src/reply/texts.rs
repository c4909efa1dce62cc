//! The server's other replies, one named constructor each.

use mail_types::{EnhancedCode, QueueId};

use super::{Reply, ReplyCode};

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident = $code:ident, $enhanced:ident, $text:literal;)*) => {
        impl Reply {
            $($(#[$doc])*
            pub const fn $name() -> Self {
                Self::fixed(ReplyCode::$code, EnhancedCode::$enhanced, $text)
            })*
        }
    };
}

fixed! {
    /// 501 5.5.4: the arguments do not parse.
    bad_arguments = BAD_ARGUMENTS, INVALID_ARGUMENTS, "Syntax error in arguments";
    /// 501 5.5.2: what should be base64 is not (RFC 4954 §4).
    bad_base64 = BAD_ARGUMENTS, SYNTAX_ERROR, "Cannot decode base64";
    /// 501 5.1.3: the recipient's address does not parse.
    bad_recipient = BAD_ARGUMENTS, BAD_RECIPIENT_SYNTAX, "Bad recipient address syntax";
    /// 501 5.1.7: the sender's address does not parse.
    bad_sender = BAD_ARGUMENTS, BAD_SENDER_SYNTAX, "Bad sender address syntax";
    /// 221 2.0.0: answer to QUIT.
    bye = CLOSING, OK, "Bye";
    /// 250 2.0.0: a chunk of BDAT came in (RFC 3030 §2).
    chunk_received = OK, OK, "Chunk received";
    /// 214 2.0.0: answer to HELP.
    help = HELP, OK, "Commands: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT STARTTLS AUTH; see RFC 5321";
    /// 500 5.5.2: the line is too long.
    line_too_long = UNKNOWN_COMMAND, SYNTAX_ERROR, "Line too long";
    /// 500 5.5.6: the line of an AUTH exchange is too long (RFC 4954 §4).
    auth_line_too_long = UNKNOWN_COMMAND, AUTH_EXCHANGE_TOO_LONG, "Authentication exchange line is too long";
    /// 235 2.7.0: authenticated.
    authenticated = AUTHENTICATED, AUTHENTICATED, "Authentication successful";
    /// 553 5.6.7: a non-ASCII address without SMTPUTF8 (RFC 6531 §3.7.4.1).
    non_ascii_address = BAD_ADDRESS, NON_ASCII_ADDRESS, "A non-ASCII address needs SMTPUTF8";
    /// 500 5.5.2: the client speaks HTTP.
    not_http = UNKNOWN_COMMAND, SYNTAX_ERROR, "This is an SMTP server, not a web server";
    /// 502 5.5.1: known, not served.
    not_implemented = NOT_IMPLEMENTED, INVALID_COMMAND, "Command not implemented";
    /// 250 2.0.0: done.
    ok = OK, OK, "Ok";
    /// 250 2.1.5: recipient taken.
    recipient_ok = OK, RECIPIENT_OK, "Recipient ok";
    /// 250 2.1.0: sender taken.
    sender_ok = OK, SENDER_OK, "Sender ok";
    /// 421 4.3.2: the server stops.
    shutting_down = NOT_AVAILABLE, SHUTTING_DOWN, "Shutting down; try again later";
    /// 421 4.4.2: nothing came for too long.
    timed_out = NOT_AVAILABLE, BAD_CONNECTION, "Timed out waiting for the client";
    /// 421 4.7.0: the client makes too many errors.
    too_many_errors = NOT_AVAILABLE, POLICY_FOR_NOW, "Too many errors";
    /// 220 2.0.0: answer to STARTTLS (RFC 3207 §4).
    start_tls = READY, OK, "Ready to start TLS";
    /// 500 5.5.2: no such command.
    unknown_command = UNKNOWN_COMMAND, SYNTAX_ERROR, "Command not recognized";
    /// 555 5.5.4: a parameter of MAIL or RCPT is not known.
    unknown_parameter = UNKNOWN_PARAMETER, INVALID_ARGUMENTS, "Parameter not recognized";
    /// 252 2.0.0: answer to VRFY, which tells nothing (RFC 5321 §7.3).
    verify = CANNOT_VERIFY, OK, "Cannot verify; send some mail and see";
}

impl Reply {
    /// 503 5.5.1: not in this order, with what is missing.
    pub const fn bad_sequence(hint: &'static str) -> Self {
        Self::fixed(ReplyCode::BAD_SEQUENCE, EnhancedCode::INVALID_COMMAND, hint)
    }

    /// 334: an encoded challenge of an AUTH exchange.
    pub fn challenge(base64: String) -> Self {
        Self::new(ReplyCode::CHALLENGE, None, base64)
    }

    /// 220: the first thing a server says.
    pub fn greeting(hostname: &str) -> Self {
        let text = format!("{hostname} ESMTP Correo ready");
        Self::new(ReplyCode::READY, None, text)
    }

    /// 250: answer to HELO.
    pub fn hello(hostname: &str) -> Self {
        Self::new(ReplyCode::OK, None, hostname.to_owned())
    }

    /// 554 5.5.1: all recipients were refused (RFC 5321 §4.1.1.4).
    pub const fn no_valid_recipients() -> Self {
        Self::fixed(
            ReplyCode::FAILED,
            EnhancedCode::INVALID_COMMAND,
            "No valid recipients",
        )
    }

    /// 250 2.0.0: the message is durable under this id.
    pub fn queued(id: QueueId) -> Self {
        let text = format!("Ok: queued as {id}");
        Self::new(ReplyCode::OK, Some(EnhancedCode::OK), text)
    }

    /// 354: send the content.
    pub const fn start_input() -> Self {
        Self::bare(ReplyCode::START_INPUT, "End data with <CR><LF>.<CR><LF>")
    }
}
