//! The life of a daemon from the outside: start, connections, reload, drain, exit status.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test with a main of its own is not seen as a test"
)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};
use std::time::Duration;

use daemon_kit::{ConnectionLimits, Service};
use tokio::io::AsyncWriteExt;

/// The test binary runs itself again as the daemon.
const AS_DAEMON: &str = "DAEMON_KIT_TEST_HOME";

fn main() -> ExitCode {
    if std::env::var_os(AS_DAEMON).is_some() {
        return daemon();
    }
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    bad_configuration_is_told();
    sessions_end_before_the_daemon_does();
    println!("test result: ok. 2 passed; 0 failed");
    ExitCode::SUCCESS
}

fn daemon() -> ExitCode {
    daemon_kit::run("queued", "a daemon for the test", |context| async move {
        let service = Service {
            name: "echo",
            listen: vec!["127.0.0.1:0".parse()?],
            busy: b"full\r\n",
        };
        let limits = ConnectionLimits {
            total: 1,
            per_ip: 0,
        };
        let at_work = context.clone();
        let addresses = context.serve(&[service], limits, move |_, mut connection| {
            let context = at_work.clone();
            async move {
                let filter = context.config().log.filter.clone();
                let _ = connection.stream.write_all(filter.as_bytes()).await;
                context.shutdown().cancelled().await;
                let _ = connection.stream.write_all(b" bye").await;
            }
        })?;
        for address in addresses {
            eprintln!("PORT {}", address.port());
        }
        context.ready().await;
        context.shutdown().cancelled().await;
        Ok(())
    })
}

fn start(home: &Path) -> (Child, BufReader<ChildStderr>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--home".as_ref(), home.as_os_str()])
        .env(AS_DAEMON, "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    (child, log)
}

fn wait_for(log: &mut impl BufRead, what: &str) -> String {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        assert!(
            log.read_line(&mut line).unwrap() > 0,
            "no {what:?} in:\n{seen}"
        );
        if line.contains(what) {
            return line;
        }
        seen += &line;
    }
}

fn bad_configuration_is_told() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("correo.toml"),
        "[smtpd]\nmax_connection = 3\n",
    )
    .unwrap();
    let (mut child, mut log) = start(home.path());
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(78));
    assert!(
        text.contains("max_connections") && text.contains('2'),
        "{text}"
    );
}

fn sessions_end_before_the_daemon_does() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("correo.toml");
    std::fs::write(&file, "").unwrap();
    let (mut child, mut log) = start(home.path());
    let line = wait_for(&mut log, "PORT ");
    let port: u16 = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
    wait_for(&mut log, "ready");

    let mut first = TcpStream::connect(("127.0.0.1", port)).unwrap();
    first
        .set_read_timeout(Some(Duration::from_mins(1)))
        .unwrap();
    let mut greeting = [0; 4];
    first.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"info");
    let mut text = String::new();
    TcpStream::connect(("127.0.0.1", port))
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "full\r\n");

    // A bad file is told and changes nothing; a good one counts.
    std::fs::write(&file, "[log]\nfilter = 7\n").unwrap();
    signal(&child, "-HUP");
    wait_for(&mut log, "configuration not reloaded");
    std::fs::write(&file, "[log]\nfilter = \"debug\"\n").unwrap();
    signal(&child, "-HUP");
    wait_for(&mut log, "configuration reloaded");

    signal(&child, "-TERM");
    first.read_to_string(&mut text).unwrap();
    assert_eq!(text, "full\r\n bye");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}
