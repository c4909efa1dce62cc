use std::io;
use std::process::ExitCode;

use mail_config::ConfigError;

/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;
/// `EX_UNAVAILABLE`
const UNAVAILABLE: u8 = 69;
/// `EX_CONFIG`
const CONFIG: u8 = 78;

/// Why a command did not do what it was asked. The text says what to do next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration is wrong or missing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file cannot be read or written.
    #[error("{0}: {1}")]
    File(String, #[source] io::Error),
    /// Output that cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// A daemon did not do it.
    #[error("{0}")]
    Refused(String),
    /// A daemon is not there.
    #[error("{0}")]
    Unreachable(String),
    /// The command makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// The exit status, as in sysexits.h.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) => ExitCode::from(CONFIG),
            Self::File(..) | Self::Output(_) | Self::Refused(_) => ExitCode::FAILURE,
            Self::Unreachable(_) => ExitCode::from(UNAVAILABLE),
            Self::Usage(_) => ExitCode::from(USAGE),
        }
    }

    /// True where whoever read our output has closed it: nothing to complain about.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// The exit status of a wrong command line.
pub(crate) fn usage() -> ExitCode {
    ExitCode::from(USAGE)
}

/// Names the file in an error.
pub(crate) fn file(path: &std::path::Path) -> impl Fn(io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| Failure::File(path.clone(), error)
}
