//! `correo init` and `correo up --once`: what somebody does who has never seen the suite.

use std::fs;

use anyhow::{Result, ensure};
use testkit::{Ports, Tool, correo};

#[test]
fn a_new_home_tests_itself_and_keeps_what_it_has() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let home = folder.path().join("home");
    let base = (Ports::free()?.smtp - 25).to_string();
    let run = |args: &[&str]| -> Result<testkit::Output> {
        let tool: Tool = correo();
        tool.args(args).arg("--home").arg(&home).run()
    };
    run(&[
        "init",
        "--domain",
        "neu.test",
        "--hostname",
        "mx.neu.test",
        "--port-base",
        &base,
    ])?;
    run(&["config", "check"])?;
    let file = home.join("correo.toml");
    let written = fs::read_to_string(&file)?;
    ensure!(written.contains("mx.neu.test"), "{written}");

    let first = run(&["up", "--once"])?;
    ensure!(first.all().contains("neu.test"), "{}", first.all());
    let certificate = || fs::read(home.join("tls/certificate.pem"));
    let before = certificate()?;
    run(&["up", "--once"])?;
    let after = certificate()?;
    ensure!(before == after, "the second start made a new certificate");
    ensure!(
        fs::read_to_string(&file)? == written,
        "the second start changed correo.toml"
    );
    Ok(())
}
