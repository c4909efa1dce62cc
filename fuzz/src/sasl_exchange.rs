//! SASL, server and client: no message does harm, and the two sides understand each other.

use std::sync::LazyLock;

use mail_types::Secret;
use sasl::{
    MIN_ITERATIONS, Mechanism, SaslError, ScramKeys, client, prepare_password, prepare_username,
    server,
};

use crate::control;

static KEYS: LazyLock<ScramKeys> = LazyLock::new(|| keys(b"pencil"));
const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";

fn keys(password: &[u8]) -> ScramKeys {
    let password = prepare_password(password).expect("a password");
    ScramKeys::derive(&password, b"salt and pepper".to_vec(), MIN_ITERATIONS)
}

/// Control: mechanism and mode. Then messages, one a line.
pub fn run(data: &[u8]) {
    let ([mode], rest) = control(data);
    let mechanism = Mechanism::ALL[usize::from(mode) % 3];
    match mode >> 6 {
        0 | 1 => {
            serve(mechanism, rest);
        }
        2 => ask(mechanism, rest),
        _ => both(mechanism, mode, rest),
    }
}

fn serve(mechanism: Mechanism, messages: &[u8]) {
    let mut exchange = server::Exchange::new(mechanism, NONCE.to_owned());
    for message in messages.split(|byte| *byte == b'\n') {
        let mut step = exchange.handle_response(message);
        if let Ok(server::Step::NeedKeys(identity)) = &step {
            assert!(!identity.authentication.is_empty());
            step = exchange.handle_keys(KEYS.clone());
            assert!(matches!(step, Ok(server::Step::Challenge(_))));
        }
        match step {
            Ok(server::Step::CheckPassword(login)) => {
                assert!(!login.password.expose().is_empty());
                assert!(exchange.handle_response(b"").is_err());
                return;
            }
            Ok(server::Step::Proved(_)) => panic!("nobody knows the password"),
            Ok(_) => {}
            Err(_) => {
                assert!(matches!(
                    exchange.handle_response(b""),
                    Err(SaslError::Unexpected)
                ));
                return;
            }
        }
    }
}

fn ask(mechanism: Mechanism, messages: &[u8]) {
    // A server may ask for so many rounds that a run would take seconds; the bound is tested.
    let rounds = |m: &[u8]| {
        let text = String::from_utf8_lossy(m);
        let number = text.rsplit_once("i=").map(|(_, n)| n.len());
        number.is_some_and(|len| len > 4)
    };
    if messages.split(|byte| *byte == b'\n').any(rounds) {
        return;
    }
    let password = Secret::new(b"pencil".to_vec());
    let mut exchange =
        client::Exchange::new(mechanism, "ana".to_owned(), password, NONCE.to_owned());
    let _ = exchange.initial_response();
    for message in messages.split(|byte| *byte == b'\n') {
        if exchange.handle_challenge(message).is_err() {
            break;
        }
    }
    if mechanism == Mechanism::ScramSha256 {
        assert!(
            exchange.handle_success(Some(messages)).is_err(),
            "the server proved nothing"
        );
    }
}

/// What the client sends, the server understands, whatever the name and password are.
fn both(mechanism: Mechanism, mode: u8, input: &[u8]) {
    let mut words = input.splitn(2, |byte| *byte == b'\n');
    let name = prepare_username(words.next().unwrap_or_default());
    let password = words.next().unwrap_or_default();
    let (Ok(name), Ok(prepared)) = (name, prepare_password(password)) else {
        return;
    };
    if name.is_empty() || prepared.expose().is_empty() || prepared.expose().len() + name.len() > 900
    {
        return;
    }
    if mechanism == Mechanism::ScramSha256 && mode & 0x3C != 0 {
        return; // two derivations are slow; one input in sixteen is enough
    }
    let secret = Secret::new(prepared.expose().clone());
    let mut client = client::Exchange::new(mechanism, name.clone(), secret, NONCE.to_owned());
    let mut server = server::Exchange::new(mechanism, NONCE.to_owned());
    let mut message = match client.initial_response() {
        Some(message) => message,
        None => match server.begin() {
            server::Step::Challenge(text) => client.handle_challenge(&text).expect("an answer"),
            other => panic!("{other:?}"),
        },
    };
    loop {
        let step = match server
            .handle_response(&message)
            .expect("what our client says")
        {
            server::Step::NeedKeys(identity) => {
                assert_eq!(identity.authentication, name);
                server.handle_keys(keys(password)).expect("keys")
            }
            step => step,
        };
        match step {
            server::Step::Challenge(text) => {
                message = client
                    .handle_challenge(&text)
                    .expect("what our server says");
            }
            server::Step::CheckPassword(login) => {
                assert_eq!(login.identity.authentication, name);
                assert_eq!(login.password.expose(), prepared.expose());
                return;
            }
            server::Step::Proved(data) => {
                client.handle_success(Some(&data)).expect("a proof");
                return;
            }
            other => panic!("{other:?}"),
        }
    }
}
