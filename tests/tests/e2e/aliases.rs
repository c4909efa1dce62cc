//! Aliases, redirects and loops.

use anyhow::Result;
use testkit::Dialogue;

use crate::support::{inbox, message, new_user, shared, submit, unique, wait_mail};

#[test]
fn an_alias_leads_to_one_and_to_several() -> Result<()> {
    let suite = shared()?;
    let (ana, lois) = (new_user(&suite, "ana")?, new_user(&suite, "lois")?);
    let one = suite.address(&unique("alias"));
    let all = suite.address(&unique("all"));
    suite.correo(&["alias", "add", &one, &lois.address])?;
    // An alias of an alias, and a target that is named twice.
    suite.correo(&["alias", "add", &all, &one, &lois.address, &ana.address])?;
    let subject = unique("to an alias ");
    submit(
        &suite,
        &ana,
        &[&one],
        &message(&ana.address, &one, &subject),
    )?;
    wait_mail(&suite, &lois, &subject)?;
    let subject = unique("to all ");
    submit(
        &suite,
        &ana,
        &[&all, &lois.address],
        &message(&ana.address, &all, &subject),
    )?;
    wait_mail(&suite, &ana, &subject)?;
    wait_mail(&suite, &lois, &subject)?;
    // A last mail, so that whatever comes twice has come.
    let last = unique("last ");
    submit(
        &suite,
        &ana,
        &[&lois.address],
        &message(&ana.address, &lois.address, &last),
    )?;
    wait_mail(&suite, &lois, &last)?;
    let count = inbox(&suite, &lois)?
        .iter()
        .filter(|mail| mail.contains(&subject))
        .count();
    assert_eq!(count, 1);

    let route = suite.correo(&["route", &all])?.text();
    assert!(
        route.contains(&lois.address) && route.contains(&ana.address),
        "{route}"
    );
    let listed = suite.correo(&["alias", "list"])?.text();
    assert!(listed.contains(&one), "{listed}");
    suite.correo(&["alias", "remove", &one])?;
    let mut smtp = Dialogue::connect(suite.at(suite.ports().smtp))?;
    smtp.expect("220")?;
    smtp.command("EHLO client.example", "250")?;
    smtp.command("MAIL FROM:<a@example.org>", "250")?;
    smtp.command(&format!("RCPT TO:<{one}>"), "550 5.1.1")?;
    Ok(())
}

#[test]
fn a_redirected_account_of_another_domain() -> Result<()> {
    let suite = shared()?;
    let lois = new_user(&suite, "lois")?;
    let domain = format!("{}.test", unique("second"));
    suite.correo(&["domain", "add", &domain])?;
    let redirected = format!("lois@{domain}");
    suite.correo(&["alias", "add", &redirected, &lois.address])?;
    let subject = unique("redirected ");
    submit(
        &suite,
        &lois,
        &[&redirected],
        &message(&lois.address, &redirected, &subject),
    )?;
    wait_mail(&suite, &lois, &subject)?;
    Ok(())
}

#[test]
fn loops_are_refused_or_told() -> Result<()> {
    let suite = shared()?;
    let lois = new_user(&suite, "lois")?;
    let (a, b) = (
        suite.address(&unique("loop-a")),
        suite.address(&unique("loop-b")),
    );
    suite.correo(&["alias", "add", &a, &b])?;
    let closing = suite.cli(&["alias", "add", &b, &a]).output()?;
    if closing.success {
        // If the directory takes it, the queue has to catch it and tell the sender.
        submit(&suite, &lois, &[&a], &message(&lois.address, &a, "round"))?;
        wait_mail(&suite, &lois, "5.4.6")?;
    } else {
        assert!(
            closing.all().to_lowercase().contains("loop") || closing.all().contains("itself"),
            "{}",
            closing.all()
        );
    }
    Ok(())
}
