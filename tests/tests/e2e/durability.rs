//! kill -9 of each daemon in turn while mail flows: what was answered with 250 arrives exactly once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::{Daemon, Suite, wait_until};

use crate::support::{User, inbox, message, new_user, submission, transaction};

/// So many rounds of all daemons, unless `CORREO_KILL_ROUNDS` says another number.
const ROUNDS: usize = 8;
const SENDERS: usize = 4;

#[test]
fn nothing_is_lost_and_nothing_comes_twice() -> Result<()> {
    let suite = Suite::of("aula.test")
        // A failed attempt is repeated soon, and a greeting that waits for a daemon does not hang.
        .start()?;
    let sender = new_user(&suite, "sender")?;
    let receivers = [new_user(&suite, "one")?, new_user(&suite, "two")?];
    let accepted = Mutex::new(HashSet::new());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..SENDERS {
            let (suite, sender, receivers) = (&suite, &sender, &receivers);
            let (accepted, stop) = (&accepted, &stop);
            scope.spawn(move || {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    // Daemons are killed all the time: a session that breaks is what is expected.
                    let _ = send(suite, sender, receivers, number, &mut count, accepted, stop);
                    thread::sleep(Duration::from_millis(20));
                }
            });
        }
        let killed = kill_in_turn(&suite, &accepted);
        stop.store(true, Ordering::Relaxed);
        killed
    })?;
    let accepted = accepted
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    ensure!(
        accepted.len() > 20,
        "only {} messages were accepted",
        accepted.len()
    );
    for receiver in &receivers {
        let counts = wait_until("all accepted messages are there", || {
            let Ok(messages) = inbox(&suite, receiver) else {
                return Ok(None);
            };
            let mut counts: HashMap<String, usize> = HashMap::new();
            for mail in messages {
                let subject = mail.lines().find_map(|line| line.strip_prefix("Subject: "));
                *counts
                    .entry(subject.unwrap_or_default().to_owned())
                    .or_default() += 1;
            }
            Ok(accepted
                .iter()
                .all(|id| counts.contains_key(id))
                .then_some(counts))
        })
        .with_context(|| suite.recent_logs())?;
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
        ensure!(
            twice.is_empty(),
            "arrived more than once: {twice:?}\n{}",
            suite.recent_logs()
        );
    }
    Ok(())
}

/// Sends in one session for as long as it lives.
fn send(
    suite: &Suite,
    sender: &User,
    receivers: &[User; 2],
    number: usize,
    count: &mut usize,
    accepted: &Mutex<HashSet<String>>,
    stop: &AtomicBool,
) -> Result<()> {
    let mut smtp = submission(suite, sender)?;
    while !stop.load(Ordering::Relaxed) {
        *count += 1;
        let subject = format!("durable {number}.{count}");
        let to = receivers.each_ref().map(|user| user.address.as_str());
        let mut text = message(&sender.address, "all", &subject);
        if count.is_multiple_of(5) {
            // Larger than what a task carries inline.
            text.push_str(&"0123456789abcdef\r\n".repeat(10_000));
        }
        transaction(&mut smtp, &sender.address, &to, &text)?;
        accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(subject);
    }
    Ok(())
}

fn kill_in_turn(suite: &Suite, accepted: &Mutex<HashSet<String>>) -> Result<()> {
    let count = || {
        accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    };
    let rounds = std::env::var("CORREO_KILL_ROUNDS").ok();
    let rounds = rounds
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(ROUNDS);
    for round in 0..rounds {
        for (place, daemon) in Daemon::ALL.into_iter().enumerate() {
            // Mail flows before each kill; the moment is another one each time.
            let before = count();
            wait_until("mail flows", || Ok((count() > before).then_some(())))
                .with_context(|| format!("before killing {daemon:?}\n{}", suite.recent_logs()))?;
            let moment = (round * 7 + place * 3) % 11;
            thread::sleep(Duration::from_millis(u64::try_from(moment)?));
            suite.kill(daemon)?;
            suite.start(daemon)?;
        }
    }
    Ok(())
}
