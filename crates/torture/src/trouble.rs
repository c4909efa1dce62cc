//! What is done to the suite, one thing a round.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use testkit::{Daemon, Process, have};

use crate::daemons::Daemons;
use crate::image::Image;
use crate::world::World;

/// What this machine allows.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) image: Option<Image>,
    /// The file that says how wrong the clock is.
    pub(crate) clock: Option<PathBuf>,
    pub(crate) can_trace: bool,
    /// For the tracer's output.
    pub(crate) folder: PathBuf,
    /// The longest that a daemon is stopped.
    pub(crate) longest_stop: Duration,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Kill,
    KillSeveral,
    KillAll,
    Stop,
    Restart,
    FillDisk,
    FailSync,
    CutConnections,
    MoveClock,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Kill,
        Self::KillSeveral,
        Self::KillAll,
        Self::Stop,
        Self::Restart,
        Self::FillDisk,
        Self::FailSync,
        Self::CutConnections,
        Self::MoveClock,
    ];

    fn weight(self, means: &Means) -> u32 {
        match self {
            Self::Kill => 8,
            Self::KillSeveral => 5,
            Self::KillAll | Self::Stop | Self::Restart | Self::CutConnections => 3,
            Self::FillDisk if means.image.is_some() => 3,
            Self::FailSync if means.can_trace => 3,
            Self::MoveClock if means.clock.is_some() => 3,
            Self::FillDisk | Self::FailSync | Self::MoveClock => 0,
        }
    }

    /// What is not done here, and why.
    pub(crate) fn missing(means: &Means) -> String {
        let mut missing = String::new();
        let reasons = [
            (
                Self::FillDisk,
                "one may not mount here, or mkfs.ext4 is missing",
            ),
            (Self::FailSync, "strace is missing"),
            (Self::MoveClock, "libfaketime is missing"),
        ];
        for (kind, reason) in reasons {
            if kind.weight(means) == 0 {
                // A String takes everything.
                let _ = writeln!(missing, "left out: {kind:?}, since {reason}");
            }
        }
        missing
    }
}

/// Does one of them, and says what it was.
pub(crate) fn make(
    world: &World,
    daemons: &Daemons,
    means: &Means,
    rng: &mut StdRng,
) -> Result<(Kind, String)> {
    let kind = *Kind::ALL
        .choose_weighted(rng, |kind| kind.weight(means))
        .context("nothing can be done")?;
    let said = match kind {
        Kind::Kill => kill(world, daemons, 1, rng)?,
        Kind::KillSeveral => {
            let count = rng.random_range(2..5);
            kill(world, daemons, count, rng)?
        }
        Kind::KillAll => kill(world, daemons, Daemon::ALL.len(), rng)?,
        Kind::Stop => stop(world, means, rng)?,
        Kind::Restart => restart(world, daemons, rng)?,
        Kind::FillDisk => fill_disk(world, daemons, means, rng)?,
        Kind::FailSync => fail_sync(world, daemons, means, rng)?,
        Kind::CutConnections => cut(world, rng),
        Kind::MoveClock => move_clock(means, rng)?,
    };
    Ok((kind, said))
}

/// Often the ones that write.
fn pick(rng: &mut StdRng) -> Daemon {
    let writers = [Daemon::Localdeliver, Daemon::Queued];
    if rng.random_bool(0.5) {
        writers.choose(rng).copied().unwrap_or(Daemon::Queued)
    } else {
        Daemon::ALL.choose(rng).copied().unwrap_or(Daemon::Smtpd)
    }
}

fn kill(world: &World, daemons: &Daemons, count: usize, rng: &mut StdRng) -> Result<String> {
    let mut chosen = match count {
        1 => vec![pick(rng)],
        _ => Daemon::ALL.to_vec(),
    };
    chosen.shuffle(rng);
    chosen.truncate(count);
    for daemon in &chosen {
        let down = Duration::from_millis(if rng.random_bool(0.7) {
            0
        } else {
            rng.random_range(0..1500)
        });
        daemons.kill(world, *daemon, down)?;
        if rng.random_bool(0.3) {
            std::thread::sleep(Duration::from_millis(rng.random_range(0..50)));
        }
    }
    let names: Vec<&str> = chosen.iter().map(|daemon| daemon.name()).collect();
    Ok(format!("killed {}", names.join(", ")))
}

fn stop(world: &World, means: &Means, rng: &mut StdRng) -> Result<String> {
    let daemon = pick(rng);
    let longest = means.longest_stop.as_millis().try_into()?;
    let time = Duration::from_millis(rng.random_range(200..=longest));
    world.suite.signal(daemon, Signal::SIGSTOP)?;
    std::thread::sleep(time);
    world.suite.signal(daemon, Signal::SIGCONT)?;
    Ok(format!("stopped {} for {time:.1?}", daemon.name()))
}

fn restart(world: &World, daemons: &Daemons, rng: &mut StdRng) -> Result<String> {
    let all = rng.random_bool(0.4);
    let chosen = if all {
        Daemon::ALL.to_vec()
    } else {
        vec![pick(rng)]
    };
    let before: Vec<u64> = chosen.iter().map(|one| daemons.starts(*one)).collect();
    for daemon in &chosen {
        daemons.terminate(world, *daemon, Duration::ZERO)?;
    }
    // How long it may take is told by `grace`.
    let end = Instant::now() + Duration::from_secs(30);
    let is_done = || {
        let pairs = chosen.iter().zip(&before);
        pairs
            .into_iter()
            .all(|(one, before)| daemons.starts(*one) > *before)
    };
    while !is_done() {
        testkit::check_interrupt()?;
        if Instant::now() > end {
            world
                .findings
                .add(format!("{chosen:?} did not end 30 s after SIGTERM"));
            for daemon in &chosen {
                daemons.kill(world, *daemon, Duration::ZERO)?;
            }
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let what = if all {
        "everything"
    } else {
        chosen.first().map_or("", |one| one.name())
    };
    Ok(format!("restarted {what}"))
}

fn fill_disk(world: &World, daemons: &Daemons, means: &Means, rng: &mut StdRng) -> Result<String> {
    let image = means.image.as_ref().context("no image")?;
    let left = rng.random_range(0..4_000_000);
    let time = Duration::from_millis(rng.random_range(500..5000));
    // queued ends when it cannot write, and cannot start either.
    for daemon in Daemon::ALL {
        daemons.excuse(daemon, time + Duration::from_secs(15));
    }
    image.fill(left)?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
        if rng.random_bool(0.02) {
            // It may be starting again at that moment; the disk must not stay full for that.
            let _ = daemons.kill(world, pick(rng), Duration::ZERO);
        }
    }
    image.empty()?;
    Ok(format!(
        "filled the disk but for {left} octets for {time:.1?}"
    ))
}

/// One sync fails, by the tracer's hand; the daemon has to end.
fn fail_sync(world: &World, daemons: &Daemons, means: &Means, rng: &mut StdRng) -> Result<String> {
    let writers = [Daemon::Localdeliver, Daemon::Queued];
    let daemon = *writers.choose(rng).context("no daemon")?;
    let nth = rng.random_range(1..4);
    let log = means.folder.join("strace.log");
    let starts = daemons.starts(daemon);
    let pid = world.suite.pid(daemon)?.to_string();
    daemons.excuse(daemon, Duration::from_secs(10));
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-qq", "-p", &pid, "-e", "trace=fsync,fdatasync"]);
    command.arg("-e");
    command.arg(format!("inject=fsync,fdatasync:error=EIO:when={nth}"));
    command.arg("-o").arg(&log);
    let _ = std::fs::remove_file(&log);
    let mut tracer = Process::start(&mut command, &means.folder.join("strace.out"))?;
    let was_injected = wait(Duration::from_secs(4), || is_injected(&log));
    // Told to end it would wait for threads that are gone; killed it lets go of all at once.
    tracer.kill()?;
    let name = daemon.name();
    if !was_injected {
        return Ok(format!("no sync of {name} failed, it made none"));
    }
    if !wait(Duration::from_secs(15), || daemons.starts(daemon) > starts) {
        let tail = world.tail(daemon, 8);
        let what = format!("{name} goes on after a sync failed; it said:\n{tail}");
        world.findings.add(what);
    }
    Ok(format!("let a sync of {name} fail"))
}

fn is_injected(log: &Path) -> bool {
    std::fs::read_to_string(log).is_ok_and(|text| text.contains("(INJECTED)"))
}

fn cut(world: &World, rng: &mut StdRng) -> String {
    let share = *[0.2, 0.5, 1.0].choose(rng).unwrap_or(&1.0);
    world.cutter.cut(share, rng);
    format!("cut {} % of the connections", share * 100.0)
}

fn move_clock(means: &Means, rng: &mut StdRng) -> Result<String> {
    let days = if rng.random_bool(0.3) { 30 } else { 1 };
    let seconds: i64 = rng.random_range(-86_400 * days..86_400 * days);
    set_clock(means, seconds)?;
    Ok(format!("set the clock to {seconds:+} s"))
}

/// Sets how wrong the clock is, in seconds.
pub(crate) fn set_clock(means: &Means, seconds: i64) -> Result<()> {
    if let Some(file) = &means.clock {
        let new = file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n"))?;
        std::fs::rename(new, file)?;
    }
    Ok(())
}

/// libfaketime, where Debian puts it.
pub(crate) fn faketime() -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/lib").ok()?;
    let mut found = found.flatten().map(|entry| entry.path());
    found.find_map(|folder| {
        let library = folder.join("faketime/libfaketime.so.1");
        library.is_file().then_some(library)
    })
}

/// Can syscalls be made to fail?
pub(crate) fn can_trace() -> bool {
    have(&["strace"])
}

fn wait(time: Duration, is_done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + time;
    while Instant::now() < end {
        if is_done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    is_done()
}
