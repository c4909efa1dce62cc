//! `cargo xtask torture`: the whole suite under load while daemons are killed and stopped, the disk
//! fills up and fails, connections break and the clock jumps. In the end every message that was
//! answered with 250 is in its mailboxes exactly once, every change that IMAP acknowledged is there,
//! and every store passes its check.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use testkit::{Daemon, Suite, Tool};

use crate::daemons::Daemons;
use crate::image::Image;
use crate::imap::Client;
use crate::trouble::Means;
use crate::wire::Cutter;
use crate::world::{PASSWORD, World};

mod daemons;
mod image;
mod imap;
mod ledger;
mod mailboxes;
mod smtp;
mod text;
mod trouble;
mod verify;
mod wire;
mod world;

const DOMAIN: &str = "aula.test";
/// With so many findings it is no use to go on.
const TOO_MANY: usize = 30;
/// Set once this runs where its mounts are its own.
const INSIDE: &str = "CORREO_TORTURE_INSIDE";
/// Resident memory that a daemon may reach, in MiB: its budgets in the configuration below, and
/// what its connections and its engine take.
const MEMORY: [(Daemon, u64); 7] = [
    (Daemon::Directoryd, 256),
    (Daemon::Imapd, 256),
    (Daemon::Localdeliver, 512),
    (Daemon::Pop3d, 128),
    (Daemon::Queued, 384),
    (Daemon::Remotedeliver, 128),
    (Daemon::Smtpd, 384),
];

/// Torture the suite
#[derive(Debug, Parser)]
#[command(name = "correo-torture")]
struct Cli {
    /// How often something happens
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// What happens follows from it; random without
    #[arg(long)]
    seed: Option<u64>,
    /// 25 rounds, few accounts, short stops
    #[arg(long)]
    quick: bool,
    /// Accounts
    #[arg(long, default_value_t = 40)]
    accounts: usize,
    /// Where logs are kept if something is found
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if std::env::var_os(INSIDE).is_none() && nix::unistd::geteuid().is_root() {
        // Mounts end with the process, however it ends.
        let error = own_mounts();
        say(&format!("without mounts of its own: {error}"));
    }
    match testkit::unwind_on_signals().and_then(|()| run(&cli)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("torture failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn own_mounts() -> std::io::Error {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.arg(program).args(std::env::args_os().skip(1));
    command.env(INSIDE, "1").exec()
}

/// Says what happens.
pub(crate) fn say(line: &str) {
    // Nobody is left to be told that nobody listens.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn run(cli: &Cli) -> Result<bool> {
    let seed = cli
        .seed
        .unwrap_or_else(|| rand::rng().random_range(1..1_000_000));
    let mut rng = StdRng::seed_from_u64(seed);
    let out = tempfile::Builder::new()
        .prefix("correo-torture-")
        .tempdir()?;
    let logs = out.path().join("logs");
    std::fs::create_dir_all(&logs)?;
    let means = means(cli, out.path())?;
    let rounds = if cli.quick {
        cli.rounds.min(25)
    } else {
        cli.rounds
    };
    say(&format!(
        "seed {seed}, {rounds} rounds; once more with: cargo xtask torture --seed {seed}"
    ));
    say(trouble::Kind::missing(&means).trim_end());
    let accounts = if cli.quick {
        cli.accounts.min(12)
    } else {
        cli.accounts
    };
    let world = start(&means, out.path(), accounts)?;
    let daemons = Daemons::default();
    let begin = Instant::now();
    let result = torture(&world, &daemons, &means, rounds, &mut rng, cli.quick);
    if let Err(error) = &result {
        world.findings.add(format!("it could not go on: {error:#}"));
    }
    let happened = result.unwrap_or_default();
    report(&world, &daemons, &happened, begin.elapsed());
    let is_good = world.findings.count() == 0;
    drop(world);
    drop(means);
    if !is_good {
        let kept = cli.out.clone();
        let kept = kept.unwrap_or_else(|| std::env::temp_dir().join(format!("torture-{seed}")));
        std::fs::create_dir_all(&kept)?;
        Tool::new("cp").arg("-r").arg(&logs).arg(&kept).run()?;
        say(&format!("the logs are in {}; seed {seed}", kept.display()));
    }
    Ok(is_good)
}

fn means(cli: &Cli, folder: &Path) -> Result<Means> {
    let means = Means {
        image: Image::make(folder)?,
        clock: trouble::faketime().map(|_| folder.join("clock")),
        can_trace: trouble::can_trace(),
        folder: folder.to_owned(),
        longest_stop: Duration::from_secs(if cli.quick { 3 } else { 30 }),
    };
    trouble::set_clock(&means, 0)?;
    Ok(means)
}

fn start(means: &Means, folder: &Path, accounts: usize) -> Result<World> {
    let home = means.image.as_ref().map_or(folder, Image::folder);
    let mut suite = Suite::of(DOMAIN)
        .within(home)
        .logs(&folder.join("logs"))
        .option("server", "grace = \"3s\"")
        .option("queued", "retry_min = \"1s\"")
        .option("queued", "retry_max = \"4s\"")
        // A clock that jumps by weeks must not make mail expire: that is `min_attempts`' part, but
        // here many attempts are made in no time.
        .option("queued", "lifetime = \"400d\"")
        .option("queued", "delay_warning = \"0s\"")
        // The disk is to be full in the middle of a write.
        .option("queued", "min_free = \"1MiB\"")
        .option("localdeliver", "segment_size = \"4MiB\"")
        .option("localdeliver", "journal_size = \"4MiB\"")
        .option("localdeliver", "open_accounts = 16");
    if let (Some(clock), Some(library)) = (&means.clock, trouble::faketime()) {
        suite = suite
            .environment("LD_PRELOAD", library)
            .environment("FAKETIME_TIMESTAMP_FILE", clock)
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
    let mut names = Vec::new();
    for number in 0..accounts {
        let local = format!("user{number}");
        names.push(format!("{local}@{DOMAIN}"));
        suite = suite.account(&local, PASSWORD);
    }
    Ok(World::new(suite.start()?, names))
}

/// What was done, in lines.
type Happened = Vec<(trouble::Kind, String)>;

fn torture(
    world: &World,
    daemons: &Daemons,
    means: &Means,
    rounds: usize,
    rng: &mut StdRng,
    quick: bool,
) -> Result<Happened> {
    let (senders, readers) = if quick { (4, 3) } else { (8, 6) };
    ensure!(world.accounts.len() > readers, "too few accounts");
    let pause = Duration::from_millis(40);
    let is_over = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let over = is_over.clone();
        scope.spawn(move || daemons.watch(world, || over.load(Ordering::Relaxed)));
        let mut sending = Vec::new();
        for number in 0..senders {
            let seed = rng.random();
            sending.push(scope.spawn(move || smtp::run(world, number, seed, pause)));
        }
        let mut reading = Vec::new();
        for number in 0..readers {
            let mut client = Client::new(world, number, rng.random(), pause);
            reading.push(scope.spawn(move || {
                client.run();
                client
            }));
        }
        let happened = all_rounds(world, daemons, means, rounds, rng);
        world.stop();
        let clients: Vec<_> = reading
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        for sender in sending {
            if sender.join().is_err() {
                world.findings.add("a sender panicked");
            }
        }
        let result = finish(world, means, happened, clients);
        is_over.store(true, Ordering::Relaxed);
        result
    })
    .and_then(|happened| verify::stop(world).map(|()| happened))
}

fn finish(
    world: &World,
    means: &Means,
    happened: Result<Happened>,
    clients: Vec<std::thread::Result<Client<'_>>>,
) -> Result<Happened> {
    let happened = happened?;
    trouble::set_clock(means, 0)?;
    wait_up(world)?;
    verify::drain(world)?;
    say("the queue is empty; comparing");
    for client in clients {
        let client = client.ok().context("a client panicked")?;
        client.verify_alone(&Arc::new(Cutter::default()))?;
    }
    let found = verify::mailboxes(world)?;
    say(&format!("{found} copies are in mailboxes"));
    Ok(happened)
}

fn all_rounds(
    world: &World,
    daemons: &Daemons,
    means: &Means,
    rounds: usize,
    rng: &mut StdRng,
) -> Result<Happened> {
    flows(world, "the start");
    let mut happened = Vec::new();
    for round in 1..=rounds {
        world.findings.begin(round);
        testkit::check_interrupt()?;
        std::thread::sleep(Duration::from_millis(rng.random_range(0..700)));
        wait_up(world)?;
        let (kind, said) = match trouble::make(world, daemons, means, rng) {
            Ok(done) => done,
            Err(error) => {
                // A daemon that was to be met was being started at that moment.
                say(&format!("{round:3} nothing: {error:#}"));
                continue;
            }
        };
        wait_up(world)?;
        flows(world, &said);
        let (accepted, unknown, _) = world.ledger.counts();
        say(&format!(
            "{round:3} {said}; {accepted} accepted, {unknown} unknown"
        ));
        happened.push((kind, said));
        if world.findings.count() >= TOO_MANY {
            say("that is enough");
            break;
        }
    }
    Ok(happened)
}

/// Waits until mail is accepted again.
fn flows(world: &World, after: &str) {
    let before = world.ledger.counts().0;
    let end = Instant::now() + Duration::from_secs(90);
    while world.ledger.counts().0 < before + 5 && !testkit::interrupted() {
        if Instant::now() > end {
            let what = format!("no mail is accepted after: {after}");
            world
                .findings
                .add(format!("{what}\n{}", world.suite.recent_logs()));
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_up(world: &World) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(90);
    while !Daemons::are_up(world) {
        testkit::check_interrupt()?;
        ensure!(
            Instant::now() < end,
            "the daemons do not start any more:\n{}",
            world.suite.recent_logs()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn report(world: &World, daemons: &Daemons, happened: &Happened, time: Duration) {
    let (accepted, unknown, refused) = world.ledger.counts();
    let changes = world.changes.load(Ordering::Relaxed);
    say(&format!("\n{} rounds in {time:.0?}", happened.len()));
    for kind in trouble::Kind::ALL {
        let count = happened.iter().filter(|(done, _)| *done == kind).count();
        say(&format!("  {count:4} {kind:?}"));
    }
    let cut = world.cutter.count();
    say(&format!(
        "{accepted} messages accepted, {unknown} without an answer, {refused} refusals for now; \
         {changes} changes by IMAP; {cut} connections cut"
    ));
    for (daemon, bound) in MEMORY {
        let (name, starts) = (daemon.name(), daemons.starts(daemon));
        let memory = daemons.memory(daemon) / 1024;
        say(&format!(
            "  {name}: started again {starts} times, at most {memory} MiB"
        ));
        if memory > bound {
            world
                .findings
                .add(format!("{name} took {memory} MiB, more than {bound}"));
        }
    }
    let count = world.findings.count();
    say(&format!("{count} findings"));
    for finding in world.findings.all() {
        say(&format!("- {finding}"));
    }
}
