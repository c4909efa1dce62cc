//! A disk that fails as it is told, and that forgets what was not synced when the power goes.
//!
//! The files as a process sees them are real ones. Beside them it keeps, for each, the octets that a
//! power failure leaves for certain, and the writes since the last sync, which it may leave, drop or
//! tear. Names are the same: a file or folder that was made, renamed or removed is so after a power
//! failure only once its folder was synced, or by chance.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use mailbox_store::{Disk, DiskFile, FileSystem};

/// What goes wrong, and at which write, change of length, sync or name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A write or a change of names fails and does nothing.
    Fail,
    /// Half of a write is done, and it fails.
    Tear,
    /// The first sync from there on fails, and what it was for is lost.
    Sync,
    /// From there on everything that takes room fails, half done.
    Full,
    /// From there on nothing works, half done; the files are as they are.
    Off,
}

#[derive(Debug, Clone)]
enum Write {
    Octets(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug, Default)]
struct Node {
    is_folder: bool,
    durable: Vec<u8>,
    /// Since the last sync.
    pending: Vec<Write>,
}

#[derive(Debug, Clone)]
enum Naming {
    Make(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

type Names = BTreeMap<PathBuf, usize>;

#[derive(Debug)]
struct State {
    root: PathBuf,
    steps: usize,
    fault: Option<(usize, Fault)>,
    is_full: bool,
    is_off: bool,
    has_happened: bool,
    nodes: Vec<Node>,
    live: Names,
    durable: Names,
    pending: Vec<Naming>,
}

/// See the module's head.
#[derive(Debug, Clone)]
pub struct FaultyDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct FaultyFile {
    disk: FaultyDisk,
    node: usize,
    file: Box<dyn DiskFile>,
}

/// How an operation goes.
enum Course {
    Well,
    Half(io::Error),
    Not(io::Error),
}

impl FaultyDisk {
    /// A disk with a folder on it, all of which is durable.
    pub fn new(root: &Path) -> Self {
        let mut state = State {
            root: root.to_owned(),
            steps: 0,
            fault: None,
            is_full: false,
            is_off: false,
            has_happened: false,
            nodes: Vec::new(),
            live: Names::new(),
            durable: Names::new(),
            pending: Vec::new(),
        };
        state.scan(root);
        state.durable = state.live.clone();
        Self(Arc::new(Mutex::new(state)))
    }

    /// From now on; `at` counts from here.
    pub fn set_fault(&self, at: usize, fault: Fault) {
        let mut state = self.lock();
        state.fault = Some((state.steps + at, fault));
        state.has_happened = false;
    }

    pub fn has_happened(&self) -> bool {
        self.lock().has_happened
    }

    /// There is room again, and nothing fails any more.
    pub fn mend(&self) {
        let mut state = self.lock();
        state.fault = None;
        state.is_full = false;
    }

    /// The process ends: nothing is done any more.
    pub fn turn_off(&self) {
        self.lock().is_off = true;
    }

    /// Writes what a power failure leaves into another folder. What is left to chance follows from
    /// the seed.
    pub fn after_power_failure(&self, target: &Path, seed: u64) {
        let state = self.lock();
        let mut chance = Chance(seed | 1);
        let mut names = state.durable.clone();
        let kept = chance.below(state.pending.len() as u64 + 1) as usize;
        for naming in &state.pending[..kept] {
            apply(&mut names, naming);
        }
        // In the order of paths, so that a folder is made before what is in it.
        for (path, node) in &names {
            let relative = path.strip_prefix(&state.root).unwrap();
            let (node, to) = (&state.nodes[*node], target.join(relative));
            // What is in a folder that is not there is not there either.
            if !to.parent().is_some_and(Path::is_dir) {
                continue;
            }
            if node.is_folder {
                std::fs::create_dir_all(to).unwrap();
            } else {
                std::fs::write(to, node.after_power_failure(&mut chance)).unwrap();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn scan(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_folder = path.is_dir();
            let durable = if is_folder {
                Vec::new()
            } else {
                std::fs::read(&path).unwrap()
            };
            let pending = Vec::new();
            self.nodes.push(Node {
                is_folder,
                durable,
                pending,
            });
            self.live.insert(path.clone(), self.nodes.len() - 1);
            if is_folder {
                self.scan(&path);
            }
        }
    }

    /// One more step.
    fn step(&mut self, takes_room: bool, is_sync: bool) -> Course {
        let now = self.steps;
        self.steps += 1;
        if self.is_off {
            return Course::Not(io::Error::other("the power is off"));
        }
        if let Some((at, fault)) = self.fault
            && now >= at
            && match fault {
                Fault::Sync => is_sync,
                Fault::Fail | Fault::Tear => !is_sync,
                Fault::Full => takes_room,
                Fault::Off => true,
            }
        {
            self.has_happened = true;
            self.fault = None;
            match fault {
                Fault::Tear => return Course::Half(io::Error::from_raw_os_error(5)),
                Fault::Fail | Fault::Sync => {
                    return Course::Not(io::Error::from_raw_os_error(5));
                }
                Fault::Full => self.is_full = true,
                Fault::Off => {
                    self.is_off = true;
                    return Course::Half(io::Error::other("the power is off"));
                }
            }
        }
        if self.is_full && takes_room {
            return Course::Half(io::Error::from_raw_os_error(28));
        }
        Course::Well
    }

    fn name(&mut self, naming: Naming) {
        apply(&mut self.live, &naming);
        self.pending.push(naming);
    }
}

fn apply(names: &mut Names, naming: &Naming) {
    match naming {
        Naming::Make(path, node) => {
            names.insert(path.clone(), *node);
        }
        Naming::Rename(from, to) => {
            let moved = take(names, from);
            take(names, to);
            for (path, node) in moved {
                let rest = path.strip_prefix(from).unwrap();
                let path = if rest.as_os_str().is_empty() {
                    to.clone()
                } else {
                    to.join(rest)
                };
                names.insert(path, node);
            }
        }
        Naming::Remove(path) => {
            take(names, path);
        }
    }
}

/// A name, and all below it.
fn take(names: &mut Names, path: &Path) -> Names {
    let taken: Names = names
        .iter()
        .filter(|(name, _)| name.starts_with(path))
        .map(|(name, node)| (name.clone(), *node))
        .collect();
    names.retain(|name, _| !name.starts_with(path));
    taken
}

fn parent(naming: &Naming) -> Option<&Path> {
    match naming {
        Naming::Make(path, _) | Naming::Remove(path) | Naming::Rename(path, _) => path.parent(),
    }
}

impl Node {
    fn after_power_failure(&self, chance: &mut Chance) -> Vec<u8> {
        let mut octets = self.durable.clone();
        for write in &self.pending {
            match chance.below(3) {
                0 => {}
                1 => write.apply(&mut octets),
                _ => write.torn(chance).apply(&mut octets),
            }
        }
        octets
    }
}

impl Write {
    fn apply(&self, octets: &mut Vec<u8>) {
        match self {
            Self::Length(length) => octets.resize(usize::try_from(*length).unwrap(), 0),
            Self::Octets(offset, data) => {
                let (from, to) = (*offset as usize, *offset as usize + data.len());
                if octets.len() < to {
                    octets.resize(to, 0);
                }
                octets[from..to].copy_from_slice(data);
            }
        }
    }

    /// Some of its sectors.
    fn torn(&self, chance: &mut Chance) -> Self {
        match self {
            Self::Length(_) => self.clone(),
            Self::Octets(offset, data) => {
                let sectors = data.len().div_ceil(512) as u64;
                let from = chance.below(sectors + 1) as usize * 512;
                let from = from.min(data.len());
                let len = (chance.below(sectors + 1) as usize * 512).min(data.len() - from);
                Self::Octets(offset + from as u64, data[from..from + len].to_vec())
            }
        }
    }
}

/// Chance that follows from a seed.
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        let known = state.live.get(path).copied();
        let node = if let Some(node) = known {
            node
        } else {
            match state.step(true, false) {
                Course::Well => {}
                Course::Half(error) | Course::Not(error) => return Err(error),
            }
            state.nodes.push(Node::default());
            let node = state.nodes.len() - 1;
            state.name(Naming::Make(path.to_owned(), node));
            node
        };
        Ok(Box::new(FaultyFile {
            disk: self.clone(),
            node,
            file: FileSystem.open(path)?,
        }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        match state.step(true, false) {
            Course::Well => {}
            Course::Half(error) | Course::Not(error) => return Err(error),
        }
        FileSystem.create_folder(path)?;
        let is_folder = true;
        state.nodes.push(Node {
            is_folder,
            ..Node::default()
        });
        let node = state.nodes.len() - 1;
        state.name(Naming::Make(path.to_owned(), node));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        match state.step(false, false) {
            Course::Well => {}
            Course::Half(error) | Course::Not(error) => return Err(error),
        }
        FileSystem.rename(from, to)?;
        state.name(Naming::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        match state.step(false, false) {
            Course::Well => {}
            Course::Half(error) | Course::Not(error) => return Err(error),
        }
        FileSystem.remove_file(path)?;
        state.name(Naming::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        match state.step(false, false) {
            Course::Well => {}
            Course::Half(error) | Course::Not(error) => return Err(error),
        }
        FileSystem.remove_folder(path)?;
        state.name(Naming::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        match state.step(false, true) {
            Course::Well => {}
            Course::Half(error) | Course::Not(error) => return Err(error),
        }
        let pending = std::mem::take(&mut state.pending);
        for naming in pending {
            if parent(&naming) == Some(path) {
                apply(&mut state.durable, &naming);
            } else {
                state.pending.push(naming);
            }
        }
        Ok(())
    }
}

impl FaultyFile {
    fn write(&self, write: Write) -> io::Result<()> {
        let mut state = self.disk.lock();
        // Cutting a file takes no room; writing over what is there does, on a file system that
        // allocates late or copies.
        let takes_room = match &write {
            Write::Octets(..) => true,
            Write::Length(length) => *length > self.file.length()?,
        };
        match (state.step(takes_room, false), write) {
            (Course::Well, write) => {
                self.put(&write)?;
                state.nodes[self.node].pending.push(write);
                Ok(())
            }
            (Course::Half(error), Write::Octets(offset, data)) => {
                let half = Write::Octets(offset, data[..data.len() / 2].to_vec());
                self.put(&half)?;
                state.nodes[self.node].pending.push(half);
                Err(error)
            }
            (Course::Half(error) | Course::Not(error), _) => Err(error),
        }
    }

    fn put(&self, write: &Write) -> io::Result<()> {
        match write {
            Write::Octets(offset, data) => self.file.write_at(data, *offset),
            Write::Length(length) => self.file.set_length(*length),
        }
    }
}

impl DiskFile for FaultyFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, octets: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(octets, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        self.write(Write::Octets(offset, octets.to_vec()))
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.write(Write::Length(length))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        let course = state.step(false, true);
        let node = &mut state.nodes[self.node];
        let pending = std::mem::take(&mut node.pending);
        match course {
            Course::Well => {
                for write in pending {
                    write.apply(&mut node.durable);
                }
                Ok(())
            }
            // The power went, and took with it what chance decides.
            Course::Half(error) => {
                node.pending = pending;
                Err(error)
            }
            // As Linux does it: the pages count as written, so that no later sync writes them.
            Course::Not(error) => Err(error),
        }
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
