//! A wrong configuration is told exactly, before anything starts.

use std::fs;

use anyhow::{Result, ensure};
use testkit::Suite;

#[test]
fn an_unknown_key_is_named_with_line_and_neighbour() -> Result<()> {
    let suite = Suite::of("aula.test").write()?;
    let file = suite.home().join("correo.toml");
    let good = fs::read_to_string(&file)?;
    let check = suite.cli(&["config", "check"]).output()?;
    ensure!(check.success, "{}", check.all());
    fs::write(&file, format!("{good}\n[log]\nfiltr = \"info\"\n"))?;
    let line = good.lines().count() + 3;
    let check = suite.cli(&["config", "check"]).output()?;
    ensure!(!check.success, "{}", check.all());
    for word in ["filtr", "filter", &line.to_string()] {
        ensure!(
            check.all().contains(word),
            "{word} is not in: {}",
            check.all()
        );
    }
    Ok(())
}

#[test]
fn daemons_end_with_a_bad_configuration() -> Result<()> {
    let suite = Suite::of("aula.test").write()?;
    fs::write(
        suite.home().join("correo.toml"),
        "[smtpd]\nmax_connections = \"many\"\n",
    )?;
    for daemon in testkit::Daemon::ALL {
        suite.start(daemon)?;
        let code = testkit::wait_until("it ends", || suite.ended(daemon))?.code();
        ensure!(
            code == Some(78),
            "{daemon:?} ended with {code:?}: {}",
            suite.log(daemon)
        );
        ensure!(
            suite.log(daemon).contains("max_connections"),
            "{}",
            suite.log(daemon)
        );
    }
    Ok(())
}

#[test]
fn show_prints_what_counts() -> Result<()> {
    let suite = Suite::of("aula.test")
        .option("smtpd", "max_recipients = 123")
        .write()?;
    let shown = suite.correo(&["config", "show"])?.text();
    ensure!(shown.contains("max_recipients = 123"), "{shown}");
    Ok(())
}
