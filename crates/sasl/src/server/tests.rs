use super::*;
use crate::prepare_password;

fn exchange(mechanism: Mechanism) -> Exchange {
    Exchange::new(mechanism, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".to_owned())
}

fn challenge(step: Step) -> String {
    match step {
        Step::Challenge(octets) => String::from_utf8(octets).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn login(step: Step) -> (String, Option<String>, Vec<u8>) {
    match step {
        Step::CheckPassword(Login { identity, password }) => (
            identity.authentication,
            identity.authorization,
            password.expose().clone(),
        ),
        other => panic!("{other:?}"),
    }
}

fn keys(iterations: u32) -> ScramKeys {
    let password = prepare_password(b"pencil").unwrap();
    let salt = crate::scram::decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    ScramKeys::derive(&password, salt, iterations)
}

// Tests RFC 4616 §4.
#[test]
fn plain() {
    let step = exchange(Mechanism::Plain)
        .handle_response(b"\0tim\0tanstaaftanstaaf")
        .unwrap();
    assert_eq!(
        login(step),
        ("tim".into(), None, b"tanstaaftanstaaf".to_vec())
    );
    let step = exchange(Mechanism::Plain)
        .handle_response(b"Ursel\0Kurt\0xipj3plmq")
        .unwrap();
    assert_eq!(
        login(step),
        ("Kurt".into(), Some("Ursel".into()), b"xipj3plmq".to_vec())
    );
    let bad: [&[u8]; 7] = [
        b"",
        b"a",
        b"\0a",
        b"\0a\0",
        b"\0\0p",
        b"\0a\0p\0",
        b"\0\xff\0p",
    ];
    for message in bad {
        let error = exchange(Mechanism::Plain)
            .handle_response(message)
            .unwrap_err();
        assert_eq!(error, SaslError::Syntax, "{message:?}");
    }
}

#[test]
fn login_asks_twice() {
    let mut exchange = exchange(Mechanism::Login);
    assert_eq!(challenge(exchange.begin()), "Username:");
    assert_eq!(
        challenge(exchange.handle_response(b"ana").unwrap()),
        "Password:"
    );
    let step = exchange.handle_response(b"pw").unwrap();
    assert_eq!(login(step), ("ana".into(), None, b"pw".to_vec()));
    assert_eq!(
        exchange.handle_response(b"x").unwrap_err(),
        SaslError::Unexpected
    );
}

// Tests RFC 7677 §3.
#[test]
fn scram_as_in_the_rfc() {
    let mut exchange = exchange(Mechanism::ScramSha256);
    assert_eq!(challenge(exchange.begin()), "");
    let step = exchange
        .handle_response(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        .unwrap();
    let Step::NeedKeys(identity) = step else {
        panic!("{step:?}")
    };
    assert_eq!(identity.authentication, "user");
    let server_first = challenge(exchange.handle_keys(keys(4096)).unwrap());
    assert_eq!(
        server_first,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let step = exchange
        .handle_response(
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
              p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        )
        .unwrap();
    let Step::Proved(server_final) = step else {
        panic!("{step:?}")
    };
    assert_eq!(
        server_final,
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    );
}

#[test]
fn scram_refuses_what_is_wrong() {
    let first = |message: &[u8]| exchange(Mechanism::ScramSha256).handle_response(message);
    for (message, error) in [
        (
            &b"p=tls-unique,,n=user,r=abc"[..],
            SaslError::ChannelBinding,
        ),
        (b"n,,m=x,n=user,r=abc", SaslError::Extension),
        (b"n,,n=,r=abc", SaslError::Syntax),
        (b"n,,n=user", SaslError::Syntax),
        (b"n,,n=user,r=", SaslError::Syntax),
        (b"n,x,n=user,r=abc", SaslError::Syntax),
        (b"q,,n=user,r=abc", SaslError::Syntax),
        (b"", SaslError::Syntax),
        (b"n,,n=us\xffer,r=abc", SaslError::Syntax),
    ] {
        assert_eq!(first(message).unwrap_err(), error, "{message:?}");
    }
    let last = |message: &str| {
        let mut exchange = Exchange::new(Mechanism::ScramSha256, "srv".to_owned());
        exchange.handle_response(b"n,,n=user,r=abc").unwrap();
        exchange.handle_keys(keys(1)).unwrap();
        exchange.handle_response(message.as_bytes())
    };
    let proof = crate::scram::encode(&[0; 32]);
    let failed = last(&format!("c=biws,r=abcsrv,p={proof}")).unwrap();
    assert!(matches!(failed, Step::Failed));
    for (message, error) in [
        (
            format!("c=eSws,r=abcsrv,p={proof}"),
            SaslError::ChannelBinding,
        ),
        (format!("c=biws,r=abcxxx,p={proof}"), SaslError::Syntax),
        ("c=biws,r=abcsrv,p=AAAA".to_owned(), SaslError::Syntax),
        ("c=biws,r=abcsrv".to_owned(), SaslError::Syntax),
    ] {
        assert_eq!(last(&message).unwrap_err(), error, "{message}");
    }
}

#[test]
fn long_messages_are_not_taken() {
    let long = vec![b'a'; MAX_MESSAGE + 1];
    for mechanism in Mechanism::ALL {
        let error = exchange(mechanism).handle_response(&long).unwrap_err();
        assert_eq!(error, SaslError::TooLong);
    }
}
