//! The daemon as its callers see it: over its sockets.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::num::NonZeroUsize;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mail_rpc::auth::{AuthenticateStart, Authenticator, FailureReason, Login, Step};
use mail_rpc::directory::{Directory, Resolution};
use mail_rpc::pb::directory::v1 as pb;
use mail_rpc::transport::{Endpoint, connect, connect_lazy};
use pb::admin_response::Result as Answer;
use pb::directory_admin_service_client::DirectoryAdminServiceClient;
use sasl::{Mechanism, client, prepare_password};
use tonic::transport::Channel;

struct Daemon {
    folder: tempfile::TempDir,
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = "server.domain = \"aula.test\"\n[directoryd]\nargon2.memory = \"64KiB\"\n\
                      failure_delay = \"100ms\"\nmax_failures_per_ip = 2\nfailure_decay = \"1h\"\n";
        std::fs::write(folder.path().join("correo.toml"), config).unwrap();
        let child = spawn(&folder);
        let daemon = Self { folder, child };
        daemon.wait().await;
        daemon
    }

    async fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        while connect(&self.endpoint("directory-admin"), None)
            .await
            .is_err()
        {
            assert!(Instant::now() < until, "directoryd does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.folder);
        self.wait().await;
    }

    fn endpoint(&self, socket: &str) -> Endpoint {
        Endpoint::Unix(self.folder.path().join(format!("run/{socket}.sock")))
    }

    fn channel(&self, socket: &str) -> Channel {
        connect_lazy(&self.endpoint(socket), None).unwrap()
    }

    fn admin(&self) -> DirectoryAdminServiceClient<Channel> {
        DirectoryAdminServiceClient::new(self.channel("directory-admin"))
    }

    async fn with_ana(&self) {
        let mut admin = self.admin();
        let domain = "aula.test".to_owned();
        done(admin.add_domain(pb::AddDomainRequest { domain }).await);
        let request = pb::AddAccountRequest {
            address: "ana@aula.test".to_owned(),
            password: "correct horse".into(),
            quota_bytes: 1000,
        };
        done(admin.add_account(request).await);
    }

    async fn alias(&self, alias: &str, targets: &[&str]) -> Answer {
        let request = pb::AddAliasRequest {
            alias: alias.to_owned(),
            targets: targets.iter().map(ToString::to_string).collect(),
        };
        answer(self.admin().add_alias(request).await)
    }

    async fn login(&self, mechanism: Mechanism, name: &str, word: &str, peer: &str) -> Step {
        let authenticator = Authenticator::new(self.channel("directory-auth"));
        let password = prepare_password(word.as_bytes()).unwrap();
        let mut client = client::Exchange::new(
            mechanism,
            name.to_owned(),
            password,
            "clientnonce".to_owned(),
        );
        let start = AuthenticateStart {
            mechanism: mechanism.name().to_owned(),
            initial_response: client.initial_response().map(Into::into),
            service: "imap".to_owned(),
            peer: peer.to_owned(),
            encrypted: true,
            session_id: "s1".to_owned(),
        };
        let mut step = authenticator.start(start).await.unwrap();
        while let Step::Challenge(exchange, challenge) = step {
            let response = client.handle_challenge(&challenge).unwrap();
            step = exchange.respond(response.into()).await.unwrap();
        }
        if let Step::Success(login) = &step {
            client
                .handle_success(login.additional_data.as_deref())
                .unwrap();
        }
        step
    }
}

fn spawn(folder: &tempfile::TempDir) -> Child {
    Command::new(env!("CARGO_BIN_EXE_directoryd"))
        .arg("--home")
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn answer(response: Result<tonic::Response<pb::AdminResponse>, tonic::Status>) -> Answer {
    response.unwrap().into_inner().result.unwrap()
}

fn done(response: Result<tonic::Response<pb::AdminResponse>, tonic::Status>) -> pb::AdminDone {
    match answer(response) {
        Answer::Done(done) => done,
        Answer::Refused(refused) => panic!("{refused:?}"),
    }
}

fn success(step: Step) -> Login {
    match step {
        Step::Success(login) => login,
        other => panic!("{other:?}"),
    }
}

fn failure(step: Step) -> FailureReason {
    match step {
        Step::Failure(reason, _) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_of_all_kinds() {
    let daemon = Daemon::start().await;
    daemon.with_ana().await;
    assert!(matches!(
        daemon.alias("info@aula.test", &["ana@aula.test"]).await,
        Answer::Done(_)
    ));
    for mechanism in Mechanism::ALL {
        for name in ["ana@aula.test", "Ana@AULA.test", "ana"] {
            let login = success(
                daemon
                    .login(mechanism, name, "correct horse", "127.0.0.1")
                    .await,
            );
            assert_eq!(login.account.address.to_string(), "ana@aula.test");
            assert_eq!(login.account.quota_bytes, 1000);
            assert!(login.may_send_as(&"INFO@aula.test".parse().unwrap()));
            assert!(!login.may_send_as(&"lois@aula.test".parse().unwrap()));
        }
        for (name, word) in [
            ("ana", "wrong"),
            ("nobody", "correct horse"),
            ("info", "correct horse"),
        ] {
            let reason = failure(daemon.login(mechanism, name, word, "127.0.0.1").await);
            assert_eq!(reason, FailureReason::BadCredentials, "{mechanism} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_and_a_new_password_counts_at_once() {
    let daemon = Daemon::start().await;
    daemon.with_ana().await;
    let plain = Mechanism::Plain;
    let begun = Instant::now();
    for _ in 0..2 {
        let reason = failure(daemon.login(plain, "ana", "guess", "192.0.2.1").await);
        assert_eq!(reason, FailureReason::BadCredentials);
    }
    assert!(begun.elapsed() >= Duration::from_millis(300), "no delay");
    let refused = failure(
        daemon
            .login(plain, "ana", "correct horse", "192.0.2.1")
            .await,
    );
    assert_eq!(refused, FailureReason::TooManyFailures);
    success(
        daemon
            .login(plain, "ana", "correct horse", "192.0.2.2")
            .await,
    );
    let request = pb::SetPasswordRequest {
        address: "ana@aula.test".to_owned(),
        password: "battery staple".into(),
    };
    done(daemon.admin().set_password(request).await);
    let old = failure(
        daemon
            .login(plain, "ana", "correct horse", "192.0.2.2")
            .await,
    );
    assert_eq!(old, FailureReason::BadCredentials);
    success(
        daemon
            .login(plain, "ana", "battery staple", "192.0.2.2")
            .await,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn resolving_follows_changes_and_survives_a_kill() {
    let mut daemon = Daemon::start().await;
    daemon.with_ana().await;
    let cache = NonZeroUsize::new(100).unwrap();
    let directory = Directory::start(daemon.channel("directory"), cache);
    let lois = "lois@aula.test".parse().unwrap();
    assert_eq!(
        directory.resolve(&lois).await.unwrap(),
        Resolution::NoSuchUser
    );
    let Answer::Done(done) = daemon
        .alias("lois@aula.test", &["ana@aula.test", "new@aula.test"])
        .await
    else {
        panic!()
    };
    assert!(
        done.warnings[0].contains("new@aula.test does not exist yet"),
        "{done:?}"
    );
    let until = Instant::now() + Duration::from_secs(2);
    while directory.resolve(&lois).await.unwrap() == Resolution::NoSuchUser {
        assert!(Instant::now() < until, "the change is not told");
    }
    daemon.restart().await;
    let fresh = Directory::start(daemon.channel("directory"), cache);
    let Resolution::Alias(targets) = fresh.resolve(&lois).await.unwrap() else {
        panic!()
    };
    assert_eq!(targets.len(), 2);
    let Answer::Refused(refused) = daemon.alias("new@aula.test", &["lois@aula.test"]).await else {
        panic!()
    };
    assert_eq!(refused.reason(), pb::admin_refused::Reason::Loop);
    assert!(refused.detail.contains("→"), "{}", refused.detail);
}
