//! What is checked before the start, what is waited for, and what a mail client has to know.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use mail_config::Config;
use mail_rpc::transport::Endpoint;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::children::{Children, Log};
use crate::failure::Failure;
use crate::init::Demonstration;
use crate::suite::channel;

/// How long all daemons together may take to be ready.
const READY: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(25);

/// The addresses that the suite listens on, with the daemon's name.
pub(super) fn listeners(config: &Config) -> Vec<(&'static str, SocketAddr)> {
    let lists = [
        ("smtpd", &config.smtpd.mx.listen),
        ("smtpd", &config.smtpd.submission.listen),
        ("smtpd", &config.smtpd.submissions.listen),
        ("pop3d", &config.pop3d.listen),
        ("pop3d", &config.pop3d.listen_tls),
        ("imapd", &config.imapd.listen),
        ("imapd", &config.imapd.listen_tls),
    ];
    let of = |(name, list): (&'static str, &Vec<SocketAddr>)| {
        list.iter()
            .map(move |address| (name, *address))
            .collect::<Vec<_>>()
    };
    lists.into_iter().flat_map(of).collect()
}

/// Says of each port that is taken what to do, before seven daemons say it each in its way.
pub(super) fn check_ports(listeners: &[(&'static str, SocketAddr)]) -> Result<(), Failure> {
    for (daemon, address) in listeners {
        let Err(error) = TcpListener::bind(*address) else {
            continue;
        };
        let port = address.port();
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "something else uses port {port} (`ss -ltnp 'sport = :{port}'` says what; perhaps \
                 another `correo up`): end it, or choose other ports with --port-base N"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "port {port} is below 1024 and needs rights: use --port-base 2000, or systemd's sockets"
            ),
            io::ErrorKind::AddrNotAvailable => format!(
                "this machine has no address {}: change `listen` in correo.toml",
                address.ip()
            ),
            _ => "change `listen` in correo.toml".to_owned(),
        };
        return Err(Failure::Refused(format!(
            "{daemon} cannot listen on {address} ({error}); {advice}"
        )));
    }
    Ok(())
}

/// No other suite may run in this home.
pub(super) async fn check_idle(config: &Config) -> Result<(), Failure> {
    match channel(config, "directoryd", &config.rpc.directory_admin).await {
        Err(Failure::Unreachable(_)) => Ok(()),
        Err(other) => Err(other),
        Ok(_) => Err(Failure::Refused(format!(
            "the daemons of {} run already; stop them first (Ctrl-C in the other terminal, or \
             `pgrep -af {}` tells which they are)",
            config.home.display(),
            config.home.display()
        ))),
    }
}

/// Waits until the daemons that keep something answer: the others need them from the start.
pub(super) async fn back_ends_ready(config: &Config, children: &Children) -> Result<(), String> {
    let rpc = &config.rpc;
    let mut missing = vec![
        ("directoryd", &rpc.directory),
        ("directoryd", &rpc.directory_auth),
        ("directoryd", &rpc.directory_admin),
        ("queued", &rpc.queue_submit),
        ("queued", &rpc.queue_agent),
        ("queued", &rpc.queue_admin),
        ("localdeliver", &rpc.mailbox),
        ("localdeliver", &rpc.mailbox_admin),
    ];
    let all = async {
        while let Some((name, endpoint)) = missing.last() {
            if serves(config, name, endpoint).await {
                missing.pop();
            } else {
                pause(children).await?;
            }
        }
        Ok(())
    };
    match timeout(READY, all).await {
        Ok(result) => result,
        Err(_) => Err(not_ready(missing.iter().map(|(name, _)| *name))),
    }
}

/// Waits until all addresses are listened on.
pub(super) async fn front_ends_ready(config: &Config, children: &Children) -> Result<(), String> {
    let mut missing = listeners(config);
    let all = async {
        while let Some((_, address)) = missing.last() {
            if connect(*address).await.is_ok() {
                missing.pop();
            } else {
                pause(children).await?;
            }
        }
        Ok(())
    };
    match timeout(READY, all).await {
        Ok(result) => result,
        Err(_) => Err(not_ready(missing.iter().map(|(name, _)| *name))),
    }
}

async fn pause(children: &Children) -> Result<(), String> {
    sleep(POLL).await;
    children.broken().map_or(Ok(()), Err)
}

fn not_ready<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.dedup();
    format!("{} did not get ready; see the log", names.join(", "))
}

async fn serves(config: &Config, name: &str, endpoint: &str) -> bool {
    let there = match endpoint.parse() {
        Ok(Endpoint::Unix(path)) => path.exists(),
        _ => true,
    };
    if !there {
        return false;
    }
    let Ok(channel) = channel(config, name, endpoint).await else {
        return false;
    };
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let checked = HealthClient::new(channel).check(request).await;
    checked.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}

/// Connects to where a daemon listens, from this machine.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    if !address.ip().is_unspecified() {
        return TcpStream::connect(address).await;
    }
    // All addresses of IPv6 are those of IPv4 too, unless the system is set otherwise.
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let targets = loopback.map(|ip| SocketAddr::new(ip, address.port()));
    TcpStream::connect(targets.as_slice()).await
}

/// Prints what a mail client needs.
pub(super) fn print(config: &Config, demonstration: Option<&Demonstration>, home: &Path) {
    let port = |list: &[SocketAddr]| {
        list.first()
            .map_or_else(|| "off".to_owned(), |address| address.port().to_string())
    };
    let (smtpd, pop3d, imapd) = (&config.smtpd, &config.pop3d, &config.imapd);
    Log::plain("");
    Log::plain("Settings for a mail client");
    Log::plain(&format!(
        "  IMAP      localhost, port {} (TLS) or {} (STARTTLS)",
        port(&imapd.listen_tls),
        port(&imapd.listen)
    ));
    Log::plain(&format!(
        "  POP3      localhost, port {} (TLS) or {} (STARTTLS)",
        port(&pop3d.listen_tls),
        port(&pop3d.listen)
    ));
    Log::plain(&format!(
        "  SMTP      localhost, port {} (TLS) or {} (STARTTLS), with login",
        port(&smtpd.submissions.listen),
        port(&smtpd.submission.listen)
    ));
    Log::plain(&format!(
        "  incoming  SMTP of other servers on port {}",
        port(&smtpd.mx.listen)
    ));
    Log::plain(&format!("  trust     {}", config.tls.certificate.display()));
    if let Some(demonstration) = demonstration {
        for account in &demonstration.accounts {
            Log::plain(&format!(
                "  login     {}  {}",
                account.address, account.password
            ));
        }
        let file = Demonstration::path(home);
        Log::plain(&format!(
            "            (passwords are in {})",
            file.display()
        ));
    }
    Log::plain("");
    Log::plain("Try in another terminal:");
    Log::plain(&format!("  correo account list --home {}", home.display()));
    Log::plain(&format!("  correo queue list --home {}", home.display()));
    Log::plain("Ctrl-C ends all daemons; the next start keeps everything.");
    Log::plain("");
}
