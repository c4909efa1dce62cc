//! Where the suite is, and how its daemons are reached.

use std::error::Error;
use std::path::{Path, PathBuf};

use mail_config::{Config, RpcTls, Source};
use mail_rpc::transport::{Endpoint, MutualTls, connect};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::failure::{Failure, file};

/// Where the packages put it.
const INSTALLED: &str = "/etc/correo/correo.toml";
/// Where `correo up` puts it when nothing is said.
pub(crate) const DEFAULT_HOME: &str = "correo-home";

/// The configuration that the command line means.
pub(crate) fn source(home: Option<PathBuf>, config: Option<PathBuf>) -> Source {
    match (home, config) {
        (Some(home), _) => Source::Home(home),
        (None, Some(file)) => Source::File(file),
        (None, None) if Path::new(INSTALLED).exists() => Source::File(INSTALLED.into()),
        (None, None) if Path::new(DEFAULT_HOME).exists() => Source::Home(DEFAULT_HOME.into()),
        (None, None) => Source::File(INSTALLED.into()),
    }
}

/// Reads the configuration, the environment over it.
pub(crate) fn load(source: &Source) -> Result<Config, Failure> {
    Ok(Config::load(source, std::env::vars())?)
}

/// A connection to a daemon's socket.
pub(crate) async fn channel(
    config: &Config,
    daemon: &str,
    endpoint: &str,
) -> Result<Channel, Failure> {
    let parsed: Endpoint = endpoint
        .parse()
        .map_err(|error| Failure::Usage(format!("{error}; see [rpc] in correo.toml")))?;
    let tls = mutual_tls(&config.rpc.tls)?;
    connect(&parsed, tls.as_ref())
        .await
        .map_err(|error| unreachable(daemon, endpoint, &reasons(&error)))
}

fn mutual_tls(files: &RpcTls) -> Result<Option<MutualTls>, Failure> {
    if files.ca.as_os_str().is_empty() {
        return Ok(None);
    }
    let read = |path: &Path| std::fs::read(path).map_err(file(path));
    Ok(Some(MutualTls {
        ca: read(&files.ca)?,
        certificate: read(&files.certificate)?,
        key: read(&files.key)?,
    }))
}

fn unreachable(daemon: &str, endpoint: &str, reason: &str) -> Failure {
    let advice = if reason.contains("ermission denied") {
        "run this as root, as a member of the group correo-admin, or as the daemon's own user"
            .to_owned()
    } else {
        format!("start it: `systemctl start correo-{daemon}`, or all of them with `correo up`")
    };
    Failure::Unreachable(format!(
        "{daemon} is not reachable at {endpoint} ({reason}); {advice}"
    ))
}

/// The innermost cause says most.
fn reasons(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What a failed call means.
pub(crate) fn call_failed(daemon: &str, status: &Status) -> Failure {
    match status.code() {
        Code::Unavailable => Failure::Unreachable(format!(
            "{daemon} went away ({}); see its log, and try again",
            status.message()
        )),
        Code::Unimplemented => Failure::Refused(format!(
            "this {daemon} cannot do that; is it of another version than correo?"
        )),
        _ => Failure::Refused(format!("{daemon}: {}", status.message())),
    }
}
