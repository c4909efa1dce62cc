//! What the command says and how it exits, with no daemon running.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn correo(home: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_correo"))
        .args(args)
        .arg("--home")
        .arg(home)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

fn with_home() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = correo(
        folder.path(),
        &["init", "--port-base", "20000", "--domain", "aula.test"],
    );
    assert!(made.status.success(), "{}", said(&made));
    folder
}

#[test]
fn a_wrong_command_line_is_64() {
    let home = with_home();
    for args in [
        &["nonsense"][..],
        &["queue", "list", "--min-age", "5 moons"],
        &["queue", "hold"],
        &["account", "add"],
        &["init"],
    ] {
        let output = correo(home.path(), args);
        // Where a daemon is asked first, its absence is told first.
        let expected = if args == ["queue", "hold"] { 69 } else { 64 };
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{args:?}: {}",
            said(&output)
        );
    }
}

#[test]
fn a_daemon_that_does_not_run_is_69_and_named() {
    let home = with_home();
    for (args, daemon) in [
        (&["account", "list"][..], "directoryd"),
        (&["alias", "list", "--json"], "directoryd"),
        (&["queue", "list"], "queued"),
        (&["route", "ana@aula.test"], "queued"),
    ] {
        let output = correo(home.path(), args);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(69), "{said}");
        for part in [daemon, "not reachable", "correo up"] {
            assert!(said.contains(part), "{said}");
        }
    }
}

#[test]
fn a_bad_configuration_is_78_and_told_exactly() {
    let home = with_home();
    let good = correo(home.path(), &["config", "check"]);
    assert!(good.status.success(), "{}", said(&good));
    std::fs::write(
        home.path().join("correo.toml"),
        "[smtpd]\nmax_recipient = 5\n",
    )
    .unwrap();
    for args in [
        &["config", "check"][..],
        &["config", "show"],
        &["queue", "list"],
        &["up", "--once"],
    ] {
        let output = correo(home.path(), args);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(
            said.contains("correo.toml:2: unknown key smtpd.max_recipient"),
            "{said}"
        );
        assert!(
            said.contains("did you mean smtpd.max_recipients?"),
            "{said}"
        );
    }
    let absent = correo(Path::new("/nowhere"), &["config", "check"]);
    assert_eq!(absent.status.code(), Some(78));
    assert!(
        said(&absent).contains("correo init --home DIR"),
        "{}",
        said(&absent)
    );
}

#[test]
fn what_is_shown_can_be_read_again() {
    let home = with_home();
    let shown = correo(home.path(), &["config", "show"]);
    let text = said(&shown);
    assert!(
        text.contains("listen = [\"[::]:20025\"]") || text.contains("listen = [\"0.0.0.0:20025\"]"),
        "{text}"
    );
    std::fs::write(home.path().join("correo.toml"), &text).unwrap();
    let again = correo(home.path(), &["config", "show"]);
    assert_eq!(said(&again), text);
    let defaults = said(&correo(home.path(), &["config", "show", "--defaults"]));
    assert!(defaults.contains("grace = \"30s\""), "{defaults}");
    let json = said(&correo(home.path(), &["config", "show", "--json"]));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(value.pointer("/smtpd/mx/listen/0").is_some(), "{json}");
}

#[test]
fn each_verb_has_help_with_an_example() {
    let help = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_correo"))
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(help(&["--help"]).contains("Examples:"));
    let nouns = [
        ("domain", &["add", "list", "remove"][..]),
        ("account", &["add", "list", "passwd", "quota", "remove"]),
        ("alias", &["add", "list", "remove"]),
        (
            "queue",
            &[
                "list", "show", "cat", "hold", "release", "requeue", "drop", "flush", "count",
            ],
        ),
        ("config", &["check", "show"]),
    ];
    for (noun, verbs) in nouns {
        for verb in verbs {
            let text = help(&[noun, verb, "--help"]);
            assert!(text.contains("Example"), "{noun} {verb}: {text}");
        }
    }
    for verb in ["route", "init", "up"] {
        assert!(help(&[verb, "--help"]).contains("Example"), "{verb}");
    }
}
