/// A message that the mechanism does not allow, or a peer that is not who it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SaslError {
    /// The channel binding is not the one of this exchange (RFC 5802 §6).
    #[error("the channel binding does not match")]
    ChannelBinding,
    /// The peer asks for an extension that nobody knows (RFC 5802 §5.1, attribute m).
    #[error("the peer asks for an unknown extension")]
    Extension,
    /// The other side sent an error instead of an answer (RFC 5802 §7, attribute e).
    #[error("the server refuses the login")]
    Refused,
    /// The message does not parse.
    #[error("the message does not parse")]
    Syntax,
    /// The message is longer than [`MAX_MESSAGE`](crate::MAX_MESSAGE).
    #[error("the message is too long")]
    TooLong,
    /// A message when none is expected.
    #[error("a message came when none was expected")]
    Unexpected,
    /// The server does not know the password itself (RFC 5802 §5.1, attribute v).
    #[error("the server did not prove that it knows the password")]
    ServerSignature,
    /// The iteration count is below the floor or above what anyone should spend.
    #[error("the server's iteration count is not acceptable")]
    Iterations,
}
