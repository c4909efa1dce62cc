/// What a listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Mail from other servers, port 25 (RFC 5321).
    Mx,
    /// Mail from our users with STARTTLS, port 587 (RFC 6409).
    Submission,
    /// Mail from our users with TLS from the start, port 465 (RFC 8314 §3.3).
    Submissions,
}

impl Role {
    pub(crate) const ALL: [Self; 3] = [Self::Mx, Self::Submission, Self::Submissions];

    /// Its name in the log, in metrics and in systemd's units.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mx => "mx",
            Self::Submission => "submission",
            Self::Submissions => "submissions",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Logins are offered, and needed before MAIL. Not on the MX port: other servers have none, and
    /// whoever tries there is guessing passwords.
    pub(crate) fn needs_login(self) -> bool {
        self != Self::Mx
    }

    /// TLS comes first.
    pub(crate) fn is_implicit_tls(self) -> bool {
        self == Self::Submissions
    }
}
