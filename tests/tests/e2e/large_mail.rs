//! Much mail at once and large mail, by Python's clients: daemons die meanwhile, or their memory is
//! watched. What was answered with 250 is there once, octet for octet.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::{Daemon, Suite, Tool, have};

use crate::support::{User, new_user};

/// Sends messages of given sizes in turn over so many threads, each to one recipient in turn, until
/// `count` are accepted. Prints a line for each: `accepted` or, where its end was sent without that
/// answer, `unknown`, its subject, the SHA-256 of its body and its recipient. None of them is sent
/// again.
const SENDER: &str = "
import hashlib, itertools, smtplib, sys, threading, time
host, port, user, password, count, threads = *sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6])
sizes = [int(size) for size in sys.argv[7].split(',')]
receivers = sys.argv[8].split(',')
lock, numbers, left = threading.Lock(), itertools.count(), [count]
def connect():
    smtp = smtplib.SMTP(host, int(port), timeout=300)
    smtp.login(user, password)
    return smtp
def work():
    smtp = None
    while True:
        with lock:
            if left[0] <= 0:
                return
            left[0] -= 1
            number = next(numbers)
        body = hashlib.sha256(str(number).encode()).hexdigest().encode() + b'\\r\\n'
        body = b'.' + body * (sizes[number % len(sizes)] // len(body) + 1)
        subject = f'large-{number}'
        receiver = receivers[number % len(receivers)]
        what = None
        while what is None:
            try:
                smtp = smtp or connect()
                if smtp.mail(user)[0] == 250 and smtp.rcpt(receiver)[0] == 250:
                    what = 'unknown'
                    head = f'From: <{user}>\\r\\nTo: <{receiver}>\\r\\nSubject: {subject}\\r\\n\\r\\n'
                    if smtp.data(head.encode() + body)[0] == 250:
                        what = 'accepted'
                    else:
                        time.sleep(0.1)
                else:
                    smtp.rset()
                    time.sleep(0.05)
            except smtplib.SMTPDataError:
                # DATA itself was refused.
                what = smtp = None
            except (OSError, smtplib.SMTPException):
                smtp = None
                time.sleep(0.05)
        with lock:
            left[0] += what != 'accepted'
            print(what, subject, hashlib.sha256(body).hexdigest(), receiver, flush=True)
workers = [threading.Thread(target=work) for _ in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
";

/// Prints subject and SHA-256 of the body of all mail in a mailbox, by POP3 and again by IMAP.
const READER: &str = "
import hashlib, imaplib, poplib, sys
poplib._MAXLINE = 1 << 20
host, pop, imap, user, password = sys.argv[1:]
def tell(kind, octets):
    head, _, body = octets.partition(b'\\r\\n\\r\\n')
    subject = [l for l in head.split(b'\\r\\n') if l.startswith(b'Subject: ')][0][9:].decode()
    print(kind, subject, hashlib.sha256(body).hexdigest())
box = poplib.POP3(host, int(pop), timeout=300)
box.user(user); box.pass_(password)
for number in range(1, box.stat()[0] + 1):
    tell('pop3', b'\\r\\n'.join(box.retr(number)[1]) + b'\\r\\n')
box.quit()
box = imaplib.IMAP4(host, int(imap), timeout=300)
box.login(user, password)
count = int(box.select('INBOX', readonly=True)[1][0])
for number in range(1, count + 1):
    tell('imap', box.fetch(str(number), '(BODY.PEEK[])')[1][0][1])
box.logout()
";

/// Accounts that receive.
const RECEIVERS: usize = 4;

struct Scene {
    suite: Suite,
    sender: User,
    receivers: Vec<User>,
}

impl Scene {
    fn new() -> Result<Self> {
        let suite = Suite::of("aula.test").start()?;
        let sender = new_user(&suite, "sender")?;
        let receivers = (0..RECEIVERS)
            .map(|_| new_user(&suite, "receiver"))
            .collect::<Result<_>>()?;
        Ok(Self {
            suite,
            sender,
            receivers,
        })
    }

    /// Sends all; `meanwhile` is called until that is done.
    fn send(
        &self,
        (count, threads, sizes): (usize, usize, &str),
        mut meanwhile: impl FnMut(&Suite) -> Result<()>,
    ) -> Result<String> {
        let ports = self.suite.ports();
        let addresses: Vec<&str> = self.receivers.iter().map(|r| r.address.as_str()).collect();
        let tool = Tool::python(SENDER).args([
            &ports.ip.to_string(),
            &ports.submission.to_string(),
            &self.sender.address,
            &self.sender.password,
            &count.to_string(),
            &threads.to_string(),
            sizes,
            &addresses.join(","),
        ]);
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                let output = tool.run();
                is_done.store(true, Ordering::Relaxed);
                output
            });
            let mut result = Ok(());
            while !is_done.load(Ordering::Relaxed) && result.is_ok() {
                result = meanwhile(&self.suite);
            }
            let output = sending.join();
            result?;
            let output = output.map_err(|_| anyhow::anyhow!("the sender panicked"))?;
            Ok(output?.text())
        })
    }

    /// Waits until nothing is left to deliver.
    fn drain(&self, mut meanwhile: impl FnMut(&Suite) -> Result<()>) -> Result<()> {
        let end = std::time::Instant::now() + Duration::from_mins(5);
        loop {
            meanwhile(&self.suite)?;
            let listed = self.suite.cli(&["queue", "list", "--json"]).output()?;
            if listed.success && listed.text().trim().is_empty() {
                return Ok(());
            }
            ensure!(
                std::time::Instant::now() < end,
                "the queue does not get empty:\n{}\n{}",
                listed.text(),
                self.suite.recent_logs()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Compares the mailboxes with what the sender was told. Gives the number of accepted messages.
    fn compare(&self, told: &str) -> Result<usize> {
        let ports = self.suite.ports();
        let mut counts: HashMap<String, usize> = HashMap::new();
        for receiver in &self.receivers {
            let output = Tool::python(READER)
                .args([
                    &ports.ip.to_string(),
                    &ports.pop3.to_string(),
                    &ports.imap.to_string(),
                    &receiver.address,
                    &receiver.password,
                ])
                .run()?;
            for line in output.text().lines() {
                *counts
                    .entry(format!("{line} {}", receiver.address))
                    .or_default() += 1;
            }
        }
        let mut wrong = String::new();
        let mut accepted = 0;
        for line in told.lines() {
            let (what, rest) = line.split_once(' ').context("a line without a word")?;
            accepted += usize::from(what == "accepted");
            for kind in ["pop3", "imap"] {
                let count = counts.remove(&format!("{kind} {rest}")).unwrap_or(0);
                if count > 1 || (count == 0 && what == "accepted") {
                    writeln!(wrong, "{line}: {count} times by {kind}")?;
                }
            }
        }
        for (line, count) in counts {
            writeln!(wrong, "{line}: {count} times, which nobody has sent")?;
        }
        ensure!(wrong.is_empty(), "{wrong}{}", self.suite.recent_logs());
        Ok(accepted)
    }
}

#[test]
fn mail_of_all_sizes_survives_kills() -> Result<()> {
    if !have(&["python3"]) {
        return Ok(());
    }
    let scene = Scene::new()?;
    let victims = [Daemon::Queued, Daemon::Localdeliver, Daemon::Smtpd];
    let mut number: usize = 0;
    let kill = |suite: &Suite| {
        // Another moment each time, and later and later: on a slow machine too a message gets
        // through between two of them.
        let moment = 100 + (number * 37) % 250 + number * 25;
        thread::sleep(Duration::from_millis(u64::try_from(moment)?));
        let victim = victims.get(number % victims.len()).context("no victim")?;
        number += 1;
        suite.kill(*victim)?;
        suite.start(*victim)
    };
    let sizes = "500,4000,70000,300,2000000,9000,130000,1000,400000,65000";
    let told = scene.send((150, 8, sizes), kill)?;
    scene.drain(|_| Ok(()))?;
    let accepted = scene.compare(&told)?;
    ensure!(accepted == 150, "{accepted} were accepted:\n{told}");
    Ok(())
}

/// As many as wanted by `CORREO_LARGE`, such as `200x5,20x50`: messages at once, and of how many MB.
#[test]
fn large_mail_does_not_take_large_memory() -> Result<()> {
    if !have(&["python3"]) {
        return Ok(());
    }
    let wanted = std::env::var("CORREO_LARGE").unwrap_or_else(|_| "40x5,4x50".to_owned());
    let scene = Scene::new()?;
    // Their budgets for mail, and what a daemon has besides.
    let bounds = [
        (Daemon::Smtpd, 384),
        (Daemon::Queued, 256),
        (Daemon::Localdeliver, 512),
    ];
    let mut all = String::new();
    for load in wanted.split(',') {
        let (count, size) = load.split_once('x').context("COUNTxMEGABYTES")?;
        let (count, size): (usize, usize) = (count.parse()?, size.parse()?);
        let mut most = bounds.map(|_| 0);
        let mut watch = |suite: &Suite| {
            for ((daemon, _), most) in bounds.iter().zip(&mut most) {
                *most = suite.memory(*daemon)?.max(*most);
            }
            thread::sleep(Duration::from_millis(20));
            Ok(())
        };
        let sizes = (size * 1_000_000).to_string();
        let begun = std::time::Instant::now();
        let told = scene.send((count, count, &sizes), &mut watch)?;
        let accepted = told.lines().filter(|line| line.starts_with("accepted"));
        let accepted = accepted.count();
        let took = begun.elapsed().as_secs_f64();
        scene.drain(&mut watch)?;
        let text = format!("{load}: {accepted} accepted in {took:.1} s;");
        all.push_str(&text);
        for ((daemon, _), most) in bounds.iter().zip(most) {
            write!(all, " {} {} MiB", daemon.name(), most / 1024)?;
        }
        all.push('\n');
        for ((daemon, bound), most) in bounds.iter().zip(most) {
            ensure!(
                most / 1024 < *bound,
                "{} took {} MiB:\n{all}",
                daemon.name(),
                most / 1024
            );
        }
        ensure!(accepted == count, "{accepted} were accepted:\n{told}");
    }
    if std::env::var_os("CORREO_LARGE").is_some() {
        print_figures(&all);
    }
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "whoever asks for a load wants its figures"
)]
fn print_figures(figures: &str) {
    println!("{figures}");
}
