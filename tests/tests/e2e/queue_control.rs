//! hold, release, requeue, drop, flush, show, cat, count.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::{Suite, wait_until};

use crate::support::{message, new_user, queue_id, submit};

/// A destination that refuses connections: port 25 of an address of loopback with nobody there.
const UNREACHABLE: &str = "someone@[127.0.0.77]";

fn state(suite: &Suite, id: &str) -> Result<Option<String>> {
    let listed = suite.correo(&["queue", "list", "--json"])?.text();
    let entry = entries(&listed)?
        .into_iter()
        .find(|entry| entry.to_string().contains(id));
    let state = |entry: &Value| Some(entry.get("state")?.as_str()?.to_lowercase());
    Ok(entry.as_ref().and_then(state))
}

/// One JSON array, or one object a line.
fn entries(text: &str) -> Result<Vec<Value>> {
    if let Ok(Value::Array(all)) = serde_json::from_str(text) {
        return Ok(all);
    }
    text.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}

fn wait_state(suite: &Suite, id: &str, wanted: &str) -> Result<()> {
    wait_until(&format!("{id} is {wanted}"), || {
        Ok((state(suite, id)?.as_deref() == Some(wanted)).then_some(()))
    })
    .with_context(|| suite.recent_logs())
}

#[test]
fn all_verbs() -> Result<()> {
    let suite = Suite::of("aula.test").start()?;
    let ana = new_user(&suite, "ana")?;
    let sent = message(&ana.address, UNREACHABLE, "to nowhere");
    let id = queue_id(&submit(&suite, &ana, &[UNREACHABLE], &sent)?)?;
    wait_state(&suite, &id, "deferred")?;

    let shown = suite.correo(&["queue", "show", &id])?.text();
    ensure!(
        shown.contains(UNREACHABLE) && shown.contains(&ana.address),
        "{shown}"
    );
    let content = suite.correo(&["queue", "cat", &id])?.text();
    ensure!(content.contains("Subject: to nowhere"), "{content}");
    let count = suite.correo(&["queue", "count"])?.text();
    ensure!(count.contains('1'), "{count}");

    suite.correo(&["queue", "hold", &id])?;
    wait_state(&suite, &id, "held")?;
    suite.correo(&["queue", "flush", &id])?;
    ensure!(
        state(&suite, &id)?.as_deref() == Some("held"),
        "flush does not touch held mail"
    );
    suite.correo(&["queue", "release", &id])?;
    wait_until("it is tried again", || {
        let state = state(&suite, &id)?;
        Ok(state.is_some_and(|state| state != "held").then_some(()))
    })?;
    wait_state(&suite, &id, "deferred")?;
    suite.correo(&["queue", "requeue", &id])?;
    wait_state(&suite, &id, "deferred")?;
    suite.correo(&["queue", "flush", &id])?;
    wait_state(&suite, &id, "deferred")?;
    suite.correo(&["queue", "drop", &id])?;
    ensure!(state(&suite, &id)?.is_none(), "it is still there");

    let unknown = suite.cli(&["queue", "show", "0000000000000"]).output()?;
    ensure!(!unknown.success, "an unknown id is an error");
    let garbage = suite.cli(&["queue", "show", "garbage"]).output()?;
    ensure!(!garbage.success, "a wrong id is an error");
    Ok(())
}
