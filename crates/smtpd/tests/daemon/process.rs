//! The daemon itself, as a process with a home of its own, and a client that speaks line by line.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Daemon {
    child: Child,
    home: tempfile::TempDir,
    pub(crate) world: World,
    pub(crate) mx: SocketAddr,
    pub(crate) submission: SocketAddr,
    pub(crate) submissions: SocketAddr,
    pub(crate) certificate: rustls::pki_types::CertificateDer<'static>,
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

impl Daemon {
    pub(crate) async fn start(options: &str) -> Self {
        let tls = "[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n";
        Self::start_with(options, tls).await
    }

    /// Without a certificate.
    pub(crate) async fn start_plain(options: &str) -> Self {
        Self::start_with(options, "").await
    }

    async fn start_with(options: &str, tls: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let run = home.path().join("run");
        let world = World::start(&run).await;
        let names = vec!["mx.aula.test".to_owned()];
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
        write("cert.pem", &certified.cert.pem());
        write("key.pem", &certified.signing_key.serialize_pem());
        let [mx, submission, submissions] = [free_address(), free_address(), free_address()];
        let config = format!(
            "[server]\nhostname = \"mx.aula.test\"\ndomain = \"aula.test\"\ngrace = \"10s\"\n\
             {tls}\
             [log]\nfilter = \"trace\"\n\
             [smtpd]\n{options}\n\
             [smtpd.mx]\nlisten = [\"{mx}\"]\n\
             [smtpd.submission]\nlisten = [\"{submission}\"]\n\
             [smtpd.submissions]\nlisten = [\"{submissions}\"]\n"
        );
        write("correo.toml", &config);
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_smtpd"))
            .arg("--home")
            .arg(home.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut daemon = Self {
            child,
            home,
            world,
            mx,
            submission,
            submissions,
            certificate: certified.cert.der().clone(),
        };
        daemon.wait_ready().await;
        daemon
    }

    async fn wait_ready(&mut self) {
        for _ in 0..400 {
            if self.log().contains("ready") {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status}: {}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("does not listen: {}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }

    /// The log, once it says this: a thread of its own writes it, behind what a client sees.
    pub(crate) async fn log_with(&self, wanted: &str) -> String {
        for _ in 0..400 {
            let log = self.log();
            if log.contains(wanted) {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the log never says {wanted}");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
    }

    pub(crate) async fn wait(&mut self) -> bool {
        for _ in 0..400 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("does not end: {}", self.log());
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> Client<TcpStream> {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client::new(stream)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Client<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    pub(crate) fn into_inner(self) -> S {
        assert!(
            self.0.buffer().is_empty(),
            "the server said more than expected"
        );
        self.0.into_inner()
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// One line without its CRLF; `None` at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.0.read_line(&mut line)).await;
        match read.expect("an answer in time") {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.strip_suffix("\r\n").expect("CRLF").to_owned()),
        }
    }

    /// The last line of the next reply.
    pub(crate) async fn reply(&mut self) -> String {
        loop {
            let line = self.line().await.unwrap_or_else(|| "end".to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return line;
            }
        }
    }

    /// Sends a command and expects the reply to begin so.
    #[track_caller]
    pub(crate) fn say<'a>(
        &'a mut self,
        command: &'a str,
        want: &'a str,
    ) -> impl Future<Output = String> + 'a {
        let place = std::panic::Location::caller();
        async move {
            if !command.is_empty() {
                self.send(format!("{command}\r\n").as_bytes()).await;
            }
            let reply = self.reply().await;
            assert!(
                reply.starts_with(want),
                "{place}: {command}: expected {want}, got {reply}"
            );
            reply
        }
    }
}
