//! Messages stay as they were sent, so that signatures verify and what is encrypted decrypts.

use std::fs;

use anyhow::{Result, ensure};
use testkit::{Tool, have};

use crate::support::{User, body, new_user, shared, submit, unique, wait_mail};

/// Octets of each kind that may come in a message: long lines, trailing white space, dots, 8-bit.
fn difficult() -> String {
    let mut text = String::from("trailing space \r\ntab\t\r\n.\r\n..\r\n.x\r\nFrom the start\r\n");
    text.push_str(&"long ".repeat(190));
    text.push_str("\r\n\u{e9}\u{4e2d}\u{1f980}\r\n\r\n\r\n=20\r\n-- \r\nend");
    text.push_str("\r\n");
    text
}

#[test]
fn bodies_and_headers_are_the_same_octets() -> Result<()> {
    let suite = shared()?;
    let user = new_user(&suite, "intact")?;
    let marker = unique("intact ");
    let sent = format!(
        "From: <{0}>\r\nX-Folded: one\r\n   two\r\n\tthree\r\nSubject: {marker}\r\nX-Empty:\r\nDate: Fri, \
         21 Nov 1997 09:55:06 -0600\r\nMessage-ID: <{marker}@x>\r\nMIME-Version: 1.0\r\nContent-Type: \
         text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{1}",
        user.address,
        difficult()
    );
    submit(&suite, &user, &[&user.address], &sent)?;
    let got = wait_mail(&suite, &user, &marker)?;
    ensure!(got.ends_with(&sent), "got:\n{got}\nsent:\n{sent}");
    Ok(())
}

/// Sends a MIME body under a small header and gives what arrives, from the first MIME field on.
fn through_the_mail(mime: &str) -> Result<(User, String)> {
    let suite = shared()?;
    let user = new_user(&suite, "crypt")?;
    let marker = unique("crypt ");
    let header = format!(
        "From: <{0}>\r\nTo: <{0}>\r\nSubject: {marker}\r\n",
        user.address
    );
    submit(&suite, &user, &[&user.address], &format!("{header}{mime}"))?;
    let got = wait_mail(&suite, &user, &marker)?;
    Ok((user, got))
}

#[test]
fn pgp_mime_verifies_and_decrypts() -> Result<()> {
    if !have(&["gpg"]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let gpg = || {
        Tool::new("gpg")
            .args(["--homedir"])
            .arg(folder.path())
            .args([
                "--batch",
                "--quiet",
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
            ])
            .args(["--trust-model", "always"])
    };
    gpg()
        .args([
            "--quick-generate-key",
            "ana@aula.test",
            "ed25519",
            "sign",
            "never",
        ])
        .run()?;
    let listed = gpg().args(["--list-keys", "--with-colons"]).run()?.text();
    let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:"));
    let fingerprint = fingerprint.unwrap_or_default().trim_matches(':').to_owned();
    gpg()
        .args(["--quick-add-key", &fingerprint, "cv25519", "encr", "never"])
        .run()?;

    // RFC 3156 §5: the signature is over the part with CRLF, up to the delimiter's line end.
    let part = format!(
        "Content-Type: text/plain; charset=utf-8\r\n\r\n{}",
        difficult()
    );
    let signature = gpg()
        .args(["--armor", "--detach-sign"])
        .input(part.as_str())
        .run()?
        .text();
    let signature = signature.replace('\n', "\r\n");
    let (_, got) = through_the_mail(&format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/signed; micalg=pgp-sha512;\r\n \
         protocol=\"application/pgp-signature\"; boundary=sig\r\n\r\n--sig\r\n{part}\r\n--sig\r\n\
         Content-Type: application/pgp-signature\r\n\r\n{signature}\r\n--sig--\r\n"
    ))?;
    let pieces: Vec<&str> = body(&got).split("--sig").collect();
    ensure!(pieces.len() == 4, "{got}");
    let signed = pieces[1]
        .strip_prefix("\r\n")
        .and_then(|p| p.strip_suffix("\r\n"))
        .unwrap_or_default();
    let file = folder.path().join("signature.asc");
    fs::write(&file, body(pieces[2]))?;
    gpg()
        .arg("--verify")
        .arg(&file)
        .arg("-")
        .input(signed)
        .run()?;

    let secret = gpg()
        .args(["--armor", "--encrypt", "--recipient", "ana@aula.test"])
        .input(part.as_str())
        .run()?
        .text()
        .replace('\n', "\r\n");
    let (_, got) = through_the_mail(&format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/encrypted; \
         protocol=\"application/pgp-encrypted\"; boundary=enc\r\n\r\n--enc\r\nContent-Type: \
         application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--enc\r\nContent-Type: \
         application/octet-stream\r\n\r\n{secret}\r\n--enc--\r\n"
    ))?;
    let pieces: Vec<&str> = body(&got).split("--enc").collect();
    let clear = gpg().arg("--decrypt").input(body(pieces[2])).run()?;
    ensure!(clear.stdout == part.as_bytes(), "{}", clear.text());
    Ok(())
}

#[test]
fn s_mime_verifies_and_decrypts() -> Result<()> {
    if !have(&["openssl"]) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    Tool::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
        ])
        .args(["/CN=ana/emailAddress=ana@aula.test", "-addext"])
        .args(["extendedKeyUsage=emailProtection", "-keyout"])
        .arg(at("key.pem"))
        .arg("-out")
        .arg(at("cert.pem"))
        .run()?;
    let part = format!(
        "Content-Type: text/plain; charset=utf-8\r\n\r\n{}",
        difficult()
    );
    let crlf = |text: String| text.replace("\r\n", "\n").replace('\n', "\r\n");
    let smime = |args: &[&str]| Tool::new("openssl").arg("smime").args(args);

    let signed = smime(&["-sign", "-crlfeol", "-signer"])
        .arg(at("cert.pem"))
        .arg("-inkey")
        .arg(at("key.pem"))
        .input(part.as_str())
        .run()?
        .text();
    let (_, got) = through_the_mail(&crlf(signed))?;
    let clear = smime(&["-verify", "-CAfile"])
        .arg(at("cert.pem"))
        .input(got)
        .run()?;
    ensure!(clear.text().contains("\u{1f980}"), "{}", clear.text());

    let secret = smime(&["-encrypt", "-aes256"])
        .arg(at("cert.pem"))
        .input(part.as_str())
        .run()?
        .text();
    let (_, got) = through_the_mail(&crlf(secret))?;
    let clear = smime(&["-decrypt", "-recip"])
        .arg(at("cert.pem"))
        .arg("-inkey")
        .arg(at("key.pem"))
        .input(got)
        .run()?;
    ensure!(clear.text().contains("\u{1f980}"), "{}", clear.text());
    Ok(())
}
