//! The whole suite in the foreground: for a first look, for development, and as a test that
//! everything on this machine works.

mod children;
mod settings;
mod steps;
mod test_mail;
mod wire;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use mail_config::{Config, Source};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{InitArgs, UpArgs};
use crate::failure::{Failure, file};
use crate::init::{self, Demonstration};
use children::{BACK_ENDS, Children, FRONT_ENDS, Log};
use steps::Steps;

/// The domain and the port base of a new home.
const DOMAIN: &str = "aula.test";
const PORT_BASE: u16 = 2000;

/// Starts all daemons, sends a mail through them, and keeps them up until Ctrl-C.
pub(crate) async fn run(
    home: Option<PathBuf>,
    config: Option<&PathBuf>,
    args: UpArgs,
) -> Result<ExitCode, Failure> {
    let home = init::home(home, config)?;
    let log = Log::new();
    let overrides = port_overrides(args.port_base)?;
    if !home.join(mail_config::FILE_NAME).exists() {
        make_home(&home, args.port_base.unwrap_or(PORT_BASE), &log)?;
    }
    let environment = std::env::vars().chain(overrides.clone());
    let config = Config::load(&Source::Home(home.clone()), environment)?;
    let demonstration = Demonstration::read(&home)?;
    settings::check_idle(&config).await?;
    settings::check_ports(&settings::listeners(&config))?;

    let stop = stop_signals()?;
    let children = Children::find(&home, &overrides, &log, &stop)?;
    let tested = tokio::select! {
        tested = test(&config, demonstration.as_ref(), &children, &log) => tested,
        () = stop.cancelled() => Ok(false),
    };
    let result = match tested {
        Ok(true) if !args.once => {
            settings::print(&config, demonstration.as_ref(), &home);
            stop.cancelled().await;
            Ok(ExitCode::SUCCESS)
        }
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) if stop.is_cancelled() => Ok(ExitCode::SUCCESS),
        // What does not work can be looked at: the daemons stay up.
        Ok(false) if !args.once => {
            log.say("The test failed; the daemons stay up until Ctrl-C, so that you can look.");
            stop.cancelled().await;
            Ok(ExitCode::FAILURE)
        }
        Ok(false) => Ok(ExitCode::FAILURE),
        Err(failure) => Err(failure),
    };
    stop.cancel();
    log.say("Stopping the daemons");
    children
        .ended(*config.server.grace + Duration::from_secs(5))
        .await;
    result
}

/// Makes a home, but not on ports that are taken: the next start would want them too.
fn make_home(home: &Path, port_base: u16, log: &Log) -> Result<(), Failure> {
    let mut wanted = Vec::new();
    for (option, port) in init::SERVICES {
        let address = init::address(port_base, port)?;
        let daemon = option.split('.').next().unwrap_or_default();
        wanted.extend(address.parse().map(|address| (daemon, address)));
    }
    settings::check_ports(&wanted)?;
    let first = InitArgs {
        hostname: None,
        domain: DOMAIN.to_owned(),
        port_base,
    };
    init::make(home, &first)?;
    log.say(&format!("a new home is in {}", home.display()));
    Ok(())
}

/// The steps of the test; false if one failed.
async fn test(
    config: &Config,
    demonstration: Option<&Demonstration>,
    children: &Children,
    log: &Log,
) -> Result<bool, Failure> {
    let mut steps = Steps::new(log.clone());
    children.start(&BACK_ENDS);
    let ready = settings::back_ends_ready(config, children);
    steps
        .run("directory, queue and mail store are ready", ready)
        .await;
    if let Some(demonstration) = demonstration {
        let adding = test_mail::add_accounts(config, demonstration);
        steps
            .run("the domain and its accounts are there", adding)
            .await;
    }
    if steps.all_worked() {
        children.start(&FRONT_ENDS);
    }
    let ready = settings::front_ends_ready(config, children);
    steps.run("SMTP, POP3 and IMAP are ready", ready).await;
    if let Some(demonstration) = demonstration {
        test_mail::run(config, demonstration, &mut steps).await;
    }
    Ok(steps.all_worked())
}

/// Another port base than the configuration's, for this run alone.
fn port_overrides(base: Option<u16>) -> Result<Vec<(String, String)>, Failure> {
    let Some(base) = base else {
        return Ok(Vec::new());
    };
    let variable = |(option, port): (&str, u16)| {
        let name = format!("CORREO__{}", option.to_uppercase().replace('.', "__"));
        Ok((name, init::address(base, port)?))
    };
    init::SERVICES.into_iter().map(variable).collect()
}

/// Cancelled at Ctrl-C and SIGTERM.
fn stop_signals() -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let handler = |kind| signal(kind).map_err(file("signals".as_ref()));
    let mut interrupt = handler(SignalKind::interrupt())?;
    let mut terminate = handler(SignalKind::terminate())?;
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}
