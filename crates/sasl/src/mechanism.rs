use std::fmt;
use std::str::FromStr;

/// The mechanisms that are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// Name, then password, each asked for. Never standardised, but in use.
    Login,
    /// RFC 4616.
    Plain,
    /// RFC 7677.
    ScramSha256,
}

/// A name that is no mechanism of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown mechanism")]
pub struct UnknownMechanism;

impl Mechanism {
    /// All of them, strongest first.
    pub const ALL: [Self; 3] = [Self::ScramSha256, Self::Plain, Self::Login];

    /// The registered name (RFC 4422 §3.1).
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "LOGIN",
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
        }
    }

    /// True if the password itself is sent: only under TLS, then.
    pub fn sends_password(self) -> bool {
        match self {
            Self::Login | Self::Plain => true,
            Self::ScramSha256 => false,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mechanism {
    type Err = UnknownMechanism;

    fn from_str(name: &str) -> Result<Self, UnknownMechanism> {
        Self::ALL
            .into_iter()
            .find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
            .ok_or(UnknownMechanism)
    }
}
