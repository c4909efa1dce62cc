use proptest::prelude::*;

use super::*;
use crate::{ScramKeys, prepare_password, server};

fn client(mechanism: Mechanism) -> Exchange {
    let password = prepare_password(b"pencil").unwrap();
    Exchange::new(
        mechanism,
        "user".to_owned(),
        password,
        "rOprNGfwEbeRWgbNEkqO".to_owned(),
    )
}

#[test]
fn plain_and_login() {
    assert_eq!(
        client(Mechanism::Plain).initial_response().unwrap(),
        b"\0user\0pencil"
    );
    let mut login = client(Mechanism::Login);
    assert_eq!(login.initial_response(), None);
    assert_eq!(login.handle_challenge(b"Username:").unwrap(), b"user");
    assert_eq!(login.handle_challenge(b"Password:").unwrap(), b"pencil");
    login.handle_success(None).unwrap();
    assert_eq!(
        login.handle_challenge(b"?").unwrap_err(),
        SaslError::Unexpected
    );
}

const SERVER_FIRST: &[u8] =
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

// Tests RFC 7677 §3.
#[test]
fn scram_as_in_the_rfc() {
    let mut client = client(Mechanism::ScramSha256);
    assert_eq!(
        client.initial_response().unwrap(),
        b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    );
    assert_eq!(
        String::from_utf8(client.handle_challenge(SERVER_FIRST).unwrap()).unwrap(),
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    );
    client
        .handle_success(Some(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="))
        .unwrap();
}

#[test]
fn a_server_that_does_not_know_the_password_is_refused() {
    let challenged = || {
        let mut client = client(Mechanism::ScramSha256);
        client.initial_response();
        client.handle_challenge(SERVER_FIRST).unwrap();
        client
    };
    for (data, error) in [
        (None, SaslError::ServerSignature),
        (Some(&b"v=AAAA"[..]), SaslError::ServerSignature),
        (Some(b"e=other-error"), SaslError::Refused),
    ] {
        assert_eq!(challenged().handle_success(data).unwrap_err(), error);
    }
    let mut early = client(Mechanism::ScramSha256);
    early.initial_response();
    assert_eq!(
        early.handle_success(None).unwrap_err(),
        SaslError::ServerSignature
    );
    for (challenge, error) in [
        (
            &b"r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096"[..],
            SaslError::Syntax,
        ),
        (b"r=other,s=AAAA,i=4096", SaslError::Syntax),
        (b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=1", SaslError::Iterations),
        (
            b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4294967295",
            SaslError::Iterations,
        ),
        (
            b"m=x,r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4096",
            SaslError::Extension,
        ),
    ] {
        let mut client = client(Mechanism::ScramSha256);
        client.initial_response();
        assert_eq!(client.handle_challenge(challenge).unwrap_err(), error);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn client_and_server_agree(name in "[a-zA-Z=,@.]{1,20}", word in "[!-~]{1,20}", other in "[!-~]{1,20}") {
        let password = prepare_password(word.as_bytes()).unwrap();
        let keys = ScramKeys::derive(&prepare_password(other.as_bytes()).unwrap(), vec![7; 16], 4096);
        let mut client = Exchange::new(Mechanism::ScramSha256, name.clone(), password, "cnonce".into());
        let mut server = server::Exchange::new(Mechanism::ScramSha256, "snonce".into());
        let first = client.initial_response().unwrap();
        let server::Step::NeedKeys(identity) = server.handle_response(&first).unwrap() else { panic!() };
        prop_assert_eq!(identity.authentication, name);
        let server::Step::Challenge(challenge) = server.handle_keys(keys).unwrap() else { panic!() };
        let last = client.handle_challenge(&challenge).unwrap();
        match server.handle_response(&last).unwrap() {
            server::Step::Proved(data) => {
                prop_assert_eq!(&word, &other);
                client.handle_success(Some(&data)).unwrap();
            }
            server::Step::Failed => prop_assert_ne!(word, other),
            step => panic!("{step:?}"),
        }
    }
}

/// A server that goes on to say that it is content, after it has failed to prove itself.
#[test]
fn success_after_a_failure_is_none() {
    let mut scram = client(Mechanism::ScramSha256);
    scram.initial_response().unwrap();
    scram.handle_challenge(b"r=wrong").unwrap_err();
    assert_eq!(scram.handle_success(None), Err(SaslError::Unexpected));
    let mut plain = client(Mechanism::Plain);
    plain.initial_response().unwrap();
    plain.handle_challenge(b"more?").unwrap_err();
    assert_eq!(plain.handle_success(None), Err(SaslError::Unexpected));
    let mut plain = client(Mechanism::Plain);
    plain.initial_response().unwrap();
    assert_eq!(plain.handle_success(None), Ok(()));
}

proptest! {
    #[test]
    fn junk_never_panics(octets: Vec<u8>, text in "[crnpavsi=,a-c0-9+/]{0,60}") {
        for message in [octets.as_slice(), text.as_bytes()] {
            for mechanism in Mechanism::ALL {
                let mut server = server::Exchange::new(mechanism, "n".into());
                let _ = server.handle_response(message);
                let _ = client(mechanism).handle_challenge(message);
            }
            // And where the exchange has begun well.
            let mut server = server::Exchange::new(Mechanism::ScramSha256, "n".into());
            server.handle_response(b"n,,n=user,r=abc").unwrap();
            let keys = ScramKeys {
                salt: vec![7; 16],
                iterations: 4096,
                stored_key: Secret::new([1; 32]),
                server_key: Secret::new([2; 32]),
            };
            server.handle_keys(keys).unwrap();
            let step = server.handle_response(message);
            prop_assert!(matches!(step, Err(_) | Ok(server::Step::Failed)), "{step:?}");
            let mut begun = client(Mechanism::ScramSha256);
            begun.initial_response().unwrap();
            prop_assert!(begun.handle_challenge(message).is_err());
            let mut plain = server::Exchange::new(Mechanism::Plain, String::new());
            let _ = plain.handle_response(&[b"\0", message].concat());
        }
    }
}
