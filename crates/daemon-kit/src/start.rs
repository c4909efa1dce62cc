//! From `main` to the end of the process.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use clap::{Arg, ArgGroup, Command, value_parser};
use mail_config::{Config, RpcTls, Source};
use mail_rpc::transport::MutualTls;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::activation::Activation;
use crate::context::{Inner, notify};
use crate::log_writer;
use crate::logging::{self, FilterHandle};
use crate::reload::reload;
use crate::tls::Tls;
use crate::{Context, metrics_endpoint};

/// `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;

/// Runs a daemon: `name` is its program's name and `about` its description in `--help`. `main`
/// starts its work, calls [`Context::ready`], and returns when [`Context::shutdown`] is cancelled
/// and it has nothing more to do, or with the error for which the process has to end.
pub fn run<M, F>(name: &'static str, about: &'static str, main: M) -> ExitCode
where
    M: FnOnce(Context) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let source = source(name, about);
    let (config, filter) = match configure(&source) {
        Ok(configured) => configured,
        Err(error) => {
            complain(name, &error);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    raise_file_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(live(name, config, source, filter, main));
    // Blocking work that the drain did not wait for must not hold up the end.
    runtime.shutdown_background();
    let code = match result {
        Ok(()) => {
            info!("ended");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(error = format!("{error:#}"), "ended with an error");
            ExitCode::FAILURE
        }
    };
    log_writer::flush();
    code
}

/// The command line that all daemons share.
fn source(name: &'static str, about: &'static str) -> Source {
    let matches = Command::new(name)
        .about(about)
        .version(env!("CARGO_PKG_VERSION"))
        .arg(
            Arg::new("home")
                .long("home")
                .value_name("DIR")
                .help("The folder with correo.toml and all data")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("The configuration [default: /etc/correo/correo.toml]")
                .value_parser(value_parser!(PathBuf)),
        )
        .group(ArgGroup::new("source").args(["home", "config"]))
        .get_matches();
    let path = |option: &str| matches.get_one::<PathBuf>(option).cloned();
    match (path("home"), path("config")) {
        (Some(home), _) => Source::Home(home),
        (None, Some(file)) => Source::File(file),
        (None, None) => Source::File("/etc/correo/correo.toml".into()),
    }
}

fn configure(source: &Source) -> anyhow::Result<(Config, FilterHandle)> {
    let config = Config::load(source, std::env::vars())?;
    let filter = logging::start(&config.log)?;
    Ok((config, filter))
}

#[expect(clippy::print_stderr, reason = "there is no log yet")]
fn complain(name: &str, error: &anyhow::Error) {
    eprintln!("{name}: {error:#}");
}

/// Each connection is a file; the soft limit of many systems is 1,024.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "cannot raise the limit of open files");
    }
}

async fn live<M, F>(
    name: &'static str,
    config: Config,
    source: Source,
    filter: FilterHandle,
    main: M,
) -> anyhow::Result<()>
where
    M: FnOnce(Context) -> F,
    F: Future<Output = anyhow::Result<()>>,
{
    let grace = config.server.grace;
    let pages = metrics_pages(name, &config);
    let context = Context::new(inner(name, config)?);
    for address in pages {
        metrics_endpoint::start(&context, address)?;
    }
    let signals = follow_signals(context.clone(), source, filter)?;
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let result = main(context.clone()).await;
    // Whatever ended it, what is begun gets its time.
    context.shutdown().cancel();
    notify(&[sd_notify::NotifyState::Stopping]);
    context.tracker().close();
    if tokio::time::timeout(*grace, context.tracker().wait())
        .await
        .is_err()
    {
        let left = context.tracker().len();
        warn!(left, "tasks did not end within server.grace and are cut");
    }
    signals.abort();
    result
}

fn inner(name: &'static str, config: Config) -> anyhow::Result<Inner> {
    let tls = if config.tls.certificate.as_os_str().is_empty() || !serves_clients(name) {
        None
    } else {
        Some(Tls::load(&config.tls.certificate, &config.tls.key)?)
    };
    let rpc_tls = mutual_tls(&config.rpc.tls)?;
    Ok(Inner {
        name,
        config: ArcSwap::from_pointee(config),
        changes: watch::channel(0).0,
        tls,
        rpc_tls,
        shutdown: CancellationToken::new(),
        tracker: TaskTracker::new(),
        activation: Activation::from_env(),
        health: tonic_health::server::HealthReporter::new(),
    })
}

/// Only the front ends read the server's private key.
fn serves_clients(name: &str) -> bool {
    matches!(name, "imapd" | "pop3d" | "smtpd")
}

fn mutual_tls(files: &RpcTls) -> anyhow::Result<Option<MutualTls>> {
    if files.ca.as_os_str().is_empty() {
        return Ok(None);
    }
    let read = |path: &PathBuf| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let ca = read(&files.ca)?;
    Ok(Some(MutualTls {
        ca,
        certificate: read(&files.certificate)?,
        key: read(&files.key)?,
    }))
}

fn metrics_pages(name: &str, config: &Config) -> Vec<SocketAddr> {
    match name {
        "directoryd" => config.directoryd.metrics.clone(),
        "imapd" => config.imapd.metrics.clone(),
        "localdeliver" => config.localdeliver.metrics.clone(),
        "pop3d" => config.pop3d.metrics.clone(),
        "queued" => config.queued.metrics.clone(),
        "remotedeliver" => config.remotedeliver.metrics.clone(),
        "smtpd" => config.smtpd.metrics.clone(),
        _ => Vec::new(),
    }
}

fn follow_signals(
    context: Context,
    source: Source,
    filter: FilterHandle,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => context.shutdown().cancel(),
                _ = interrupt.recv() => context.shutdown().cancel(),
                _ = hangup.recv() => reload(&context, &source, &filter),
            }
        }
    }))
}
