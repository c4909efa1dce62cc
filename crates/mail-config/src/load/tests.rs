use super::*;
use crate::{Duration, Size};

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("correo.toml"), text, [])
}

fn with_env(name: &str, value: &str) -> Result<Config, ConfigError> {
    let env = [(name.to_owned(), value.to_owned())];
    Config::parse(
        Path::new("correo.toml"),
        "[smtpd]\nmax_connections = 5\n",
        env,
    )
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
}

#[test]
fn unknown_keys_are_named_with_line_and_neighbour() {
    for (text, message) in [
        (
            "[smtpd]\n\nmax_conections = 5\n",
            "correo.toml:3: unknown key smtpd.max_conections; did you mean smtpd.max_connections?",
        ),
        (
            "smtpd.mx.lissten = []",
            "correo.toml:1: unknown key smtpd.mx.lissten; did you mean smtpd.mx.listen?",
        ),
        (
            "\n[smtdp]\n",
            "correo.toml:2: unknown key smtdp; did you mean smtpd?",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn bad_values_are_named_with_line_and_what_is_expected() {
    for (text, line, parts) in [
        (
            "[smtpd]\nmax_connections = \"many\"",
            2,
            ["smtpd.max_connections", "expected usize"],
        ),
        (
            "[smtpd]\nmax_connections = -1",
            2,
            ["smtpd.max_connections", "-1"],
        ),
        (
            "[pop3d]\n\nidle_timeout = \"5 moons\"",
            3,
            ["pop3d.idle_timeout", "such as \"250ms\""],
        ),
        (
            "[pop3d]\nidle_timeout = 5",
            2,
            ["pop3d.idle_timeout", "a duration such as"],
        ),
        (
            "[smtpd]\nmax_message_size = \"1 MB\"",
            2,
            ["smtpd.max_message_size", "\"50MiB\""],
        ),
        (
            "[server]\nhostname = \"a b\"",
            2,
            ["server.hostname", "not allowed"],
        ),
        ("[log]\nformat = \"xml\"", 2, ["log.format", "text"]),
        (
            "smtpd.mx.listen = [\"[::]:25\",\n \"here\"]",
            2,
            ["smtpd.mx.listen", "socket address"],
        ),
        ("tls = 5", 1, ["tls", "struct Tls"]),
    ] {
        let error = parse(text).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("correo.toml:{line}: ")),
            "{message}"
        );
        for part in parts {
            assert!(message.contains(part), "{message} lacks {part}");
        }
        assert!(matches!(error, ConfigError::Value { .. }), "{error:?}");
    }
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let error = parse("[smtpd]\nmax_connections 5\n").unwrap_err();
    assert!(
        matches!(error, ConfigError::Syntax { line: 2, .. }),
        "{error}"
    );
}

#[test]
fn the_environment_wins() {
    let config = with_env("CORREO__SMTPD__MAX_CONNECTIONS", "7").unwrap();
    assert_eq!(config.smtpd.max_connections, 7);
    let config = with_env("CORREO__SMTPD__MAX_MESSAGE_SIZE", "1MiB").unwrap();
    assert_eq!(config.smtpd.max_message_size, Size::from_mib(1));
    assert_eq!(config.smtpd.max_connections, 5);
    let config = with_env("CORREO__SMTPD__MX__LISTEN", "127.0.0.1:2525, [::1]:2525").unwrap();
    assert_eq!(config.smtpd.mx.listen.len(), 2);
    let config = with_env("CORREO__SMTPD__MX__LISTEN", "[\"[::1]:2525\"]").unwrap();
    assert_eq!(config.smtpd.mx.listen.len(), 1);
    let config = with_env("CORREO__SMTPD__MX__LISTEN", "[::]:2525").unwrap();
    assert_eq!(config.smtpd.mx.listen[0].port(), 2525);
    let config = with_env("CORREO__SMTPD__MX__LISTEN", "").unwrap();
    assert!(config.smtpd.mx.listen.is_empty());
    let config = with_env("CORREO__SERVER__GRACE", "5s").unwrap();
    assert_eq!(config.server.grace, Duration::from_secs(5));
    assert!(with_env("OTHER", "7").is_ok());
}

#[test]
fn the_environment_is_as_strict_as_the_file() {
    let message = |name, value| with_env(name, value).unwrap_err().to_string();
    assert_eq!(
        message("CORREO__SMTPD__MAX_CONECTIONS", "7"),
        "environment variable CORREO__SMTPD__MAX_CONECTIONS: there is no key \
         smtpd.max_conections; did you mean smtpd.max_connections?"
    );
    assert!(message("CORREO__SMTPD__MAX_CONNECTIONS", "x").contains("a whole number"));
    assert!(message("CORREO__SMTPD__MX__LISTEN", "here").contains("socket address"));
    assert!(message("CORREO__SMTPD", "x").contains("that is a table"));
}

#[test]
fn paths_are_under_home() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE_NAME);
    fs::write(
        &file,
        "tls.certificate = \"tls/c.pem\"\ntls.key = \"/etc/k.pem\"\n",
    )
    .unwrap();
    let config = Config::load(&Source::Home(folder.path().to_owned()), []).unwrap();
    assert_eq!(config.home, folder.path());
    assert_eq!(config.tls.certificate, folder.path().join("tls/c.pem"));
    assert_eq!(config.tls.key, Path::new("/etc/k.pem"));
    assert_eq!(config.rpc.tls.ca, Path::new(""));
    let socket = folder.path().join("run/queue-submit.sock");
    assert_eq!(
        config.rpc.queue_submit,
        format!("unix:{}", socket.display())
    );
    let same = Config::load(&Source::File(file.clone()), []).unwrap();
    assert_eq!(same, config);
    fs::write(&file, "home = \"/srv/mail\"").unwrap();
    let other = Config::load(&Source::File(file), []).unwrap();
    assert_eq!(other.queued.data_dir, Path::new("/srv/mail/queue"));
}

#[test]
fn a_missing_file_says_what_to_do() {
    let error = Config::load(&Source::Home("/nowhere".into()), []).unwrap_err();
    assert!(
        error.to_string().contains("correo init --home DIR"),
        "{error}"
    );
}

mod documented {
    use super::*;

    const FILE: &str = include_str!("../../../../deploy/etc/correo.toml");

    #[test]
    fn as_it_is_it_sets_nothing() {
        assert_eq!(parse(FILE).unwrap(), Config::default());
        assert!(sets_nothing(&Value::Table(FILE.parse().unwrap())));
    }

    fn sets_nothing(value: &Value) -> bool {
        value
            .as_table()
            .is_some_and(|table| table.values().all(sets_nothing))
    }

    #[test]
    fn uncommented_it_is_the_defaults_and_complete() {
        let lines: Vec<_> = FILE.lines().map(uncommented).collect();
        let text = lines.join(
            "
",
        );
        let config = parse(&text).unwrap();
        assert_eq!(config, Config::default());
        let table: Json = serde_json::to_value(text.parse::<Table>().unwrap()).unwrap();
        for key in Schema::new().keys() {
            let pointer = format!("/{}", key.replace('.', "/"));
            assert!(
                table.pointer(&pointer).is_some(),
                "deploy/etc/correo.toml lacks {key}"
            );
        }
    }

    /// `#key = …` and `#[table]` are options, `# text` is explanation.
    fn uncommented(line: &str) -> &str {
        line.strip_prefix('#')
            .filter(|rest| !rest.starts_with([' ', '#']))
            .unwrap_or(line)
    }
}

/// What `deploy/` installs.
mod deployed {
    use super::*;

    fn loaded(file: &str) -> Config {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/");
        Config::load(&Source::File(format!("{folder}{file}").into()), []).unwrap()
    }

    #[test]
    fn units_and_configuration_name_the_same_sockets() {
        let config = loaded("systemd/correo.toml");
        assert_eq!(config.rpc.directory, "unix:/run/correo/directory.sock");
        assert_eq!(config.queued.data_dir, Path::new("/var/lib/correo/queue"));
        assert_eq!(
            config.localdeliver.data_dir,
            Path::new("/var/lib/correo/mail")
        );
        assert_eq!(
            config.directoryd.data_dir,
            Path::new("/var/lib/correo/directory")
        );
    }

    #[test]
    fn in_containers_each_socket_has_a_folder_of_its_own() {
        let rpc = loaded("container/correo.toml").rpc;
        let sockets = [
            rpc.directory,
            rpc.directory_auth,
            rpc.directory_admin,
            rpc.queue_submit,
            rpc.queue_agent,
            rpc.queue_admin,
            rpc.mailbox,
            rpc.mailbox_admin,
        ];
        for socket in sockets {
            let path = Path::new(socket.strip_prefix("unix:/run/correo/").unwrap());
            let folder = path.parent().unwrap();
            assert_eq!(path.file_stem().unwrap(), folder.as_os_str(), "{socket}");
        }
    }
}
