//! Those who read, file and delete: each knows what the server has to have.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};

use crate::mailboxes::{Answer, Fetched, Session, flag_names, uid_in};
use crate::text::{Source, new_id, text};
use crate::wire::Cutter;
use crate::world::World;

/// Mailboxes of a client that are in use at once.
const BOXES: usize = 3;
/// Messages in one before some are removed.
const CROWDED: usize = 30;

/// A place and the flags there.
type State = Option<(usize, u8)>;

/// A mailbox that the client made.
#[derive(Debug)]
struct Folder {
    /// Two while nobody knows whether it was renamed; then nothing is done in it any more.
    names: Vec<String>,
    messages: BTreeMap<u32, Known>,
}

/// A message whose place and flags are certain.
#[derive(Debug, Clone)]
struct Known {
    id: String,
    flags: u8,
}

/// One that is in one of two states, since no answer came. It is left alone from then on.
#[derive(Debug)]
struct Doubt {
    id: String,
    states: [State; 2],
}

/// A client with an account that nobody else changes, but for mail that arrives in INBOX.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    world: &'a World,
    account: usize,
    rng: StdRng,
    number: u64,
    folders: Vec<Folder>,
    doubts: Vec<Doubt>,
    /// Folders whose making was not answered.
    next_name: u64,
    pause: Duration,
}

impl<'a> Client<'a> {
    pub(crate) fn new(world: &'a World, account: usize, seed: u64, pause: Duration) -> Self {
        Self {
            world,
            account,
            rng: StdRng::seed_from_u64(seed),
            number: 0,
            folders: Vec::new(),
            doubts: Vec::new(),
            next_name: 0,
            pause,
        }
    }

    /// Works until the world stops.
    pub(crate) fn run(&mut self) {
        while !self.world.is_stopped() {
            // Broken sessions are what this is about.
            let _ = self.session();
            World::pause(Duration::from_millis(self.rng.random_range(5..100)));
        }
    }

    fn session(&mut self) -> io::Result<()> {
        let mut session = Session::open(self.world, &self.world.cutter, self.account)?;
        if self.rng.random_bool(0.5) {
            self.verify(&mut session)?;
        }
        for _ in 0..self.rng.random_range(5..60) {
            if self.world.is_stopped() {
                break;
            }
            self.step(&mut session)?;
            World::pause(self.pause.mul_f64(self.rng.random_range(0.0..2.0)));
        }
        session.ok("LOGOUT").map(|_| ())
    }

    fn step(&mut self, session: &mut Session) -> io::Result<()> {
        let live: Vec<usize> = (0..self.folders.len())
            .filter(|at| {
                self.folders
                    .get(*at)
                    .is_some_and(|one| one.names.len() == 1)
            })
            .collect();
        if live.len() < BOXES {
            return self.create(session);
        }
        let folder = live.iter().choose(&mut self.rng).copied().unwrap_or(0);
        let other = live.iter().choose(&mut self.rng).copied().unwrap_or(0);
        let count = self.folders.get(folder).map_or(0, |one| one.messages.len());
        match self.rng.random_range(0..100) {
            _ if count > CROWDED => self.expunge(session, folder),
            0..45 => self.append(session, folder),
            45..70 => self.change_flags(session, folder),
            70..85 => self.relocate(session, folder, other),
            85..92 => self.expunge(session, folder),
            92..95 => self.rename(session, folder),
            _ => self.file_delivered(session),
        }
    }

    fn create(&mut self, session: &mut Session) -> io::Result<()> {
        self.next_name += 1;
        let name = format!("box{}", self.next_name);
        // Without an answer the next name is taken; an empty mailbox more is no harm.
        if let Answer::Ok(_) = session.command(&format!("CREATE {name}"))? {
            self.folders.push(Folder {
                names: vec![name],
                messages: BTreeMap::new(),
            });
            self.count();
        }
        Ok(())
    }

    fn append(&mut self, session: &mut Session, folder: usize) -> io::Result<()> {
        self.number += 1;
        let size = if self.rng.random_bool(0.03) {
            400_000
        } else {
            2000
        };
        let id = new_id(Source::Append, self.account, self.number, size);
        let flags = self.rng.random_range(0..16);
        let text = text(&id, self.world.address(self.account));
        let states = [None, Some((folder, flags))];
        let result = session.append(&self.name(folder), flags, &text);
        let Some(lines) = self.certain(result, &id, states)? else {
            return Ok(());
        };
        match uid_in(&lines, "[APPENDUID ") {
            Some(uid) => self.put(folder, uid, Known { id, flags }),
            None => self
                .world
                .findings
                .add(format!("APPEND without APPENDUID: {lines:?}")),
        }
        Ok(())
    }

    fn change_flags(&mut self, session: &mut Session, folder: usize) -> io::Result<()> {
        let Some((uid, known)) = self.pick(folder) else {
            return Ok(());
        };
        self.select(session, folder)?;
        let (bits, sign) = (self.rng.random_range(1..16), self.rng.random_bool(0.5));
        let flags = if sign {
            known.flags | bits
        } else {
            known.flags & !bits
        };
        let (sign, names) = (if sign { '+' } else { '-' }, flag_names(bits));
        let states = [Some((folder, known.flags)), Some((folder, flags))];
        self.remove(folder, uid);
        let command = format!("UID STORE {uid} {sign}FLAGS.SILENT ({names})");
        let result = session.command(&command);
        if self.certain(result, &known.id, states)?.is_some() {
            let id = known.id;
            self.put(folder, uid, Known { id, flags });
        }
        Ok(())
    }

    fn relocate(&mut self, session: &mut Session, from: usize, to: usize) -> io::Result<()> {
        let Some((uid, known)) = self.pick(from).filter(|_| from != to) else {
            return Ok(());
        };
        self.select(session, from)?;
        let states = [Some((from, known.flags)), Some((to, known.flags))];
        self.remove(from, uid);
        let result = session.command(&format!("UID MOVE {uid} {}", self.name(to)));
        let Some(lines) = self.certain(result, &known.id, states)? else {
            return Ok(());
        };
        match uid_in(&lines, "[COPYUID ") {
            Some(uid) => self.put(to, uid, known),
            None => self
                .world
                .findings
                .add(format!("MOVE without COPYUID: {lines:?}")),
        }
        Ok(())
    }

    fn expunge(&mut self, session: &mut Session, folder: usize) -> io::Result<()> {
        let Some((uid, known)) = self.pick(folder) else {
            return Ok(());
        };
        self.select(session, folder)?;
        let there = Some((folder, known.flags));
        self.remove(folder, uid);
        let mark = session.command(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"));
        // \Deleted is not among the flags that are compared.
        if self.certain(mark, &known.id, [there, there])?.is_some() {
            let result = session.command(&format!("UID EXPUNGE {uid}"));
            if self.certain(result, &known.id, [there, None])?.is_some() {
                let id = known.id;
                // Gone, and to stay so.
                self.doubts.push(Doubt {
                    id,
                    states: [None, None],
                });
            }
        }
        Ok(())
    }

    fn rename(&mut self, session: &mut Session, folder: usize) -> io::Result<()> {
        self.next_name += 1;
        let name = format!("box{}", self.next_name);
        let old = self.name(folder);
        let Some(one) = self.folders.get_mut(folder) else {
            return Ok(());
        };
        one.names.push(name.clone());
        if let Answer::Ok(_) = session.command(&format!("RENAME {old} {name}"))? {
            one.names = vec![name];
            self.count();
        }
        Ok(())
    }

    /// Files a message that was delivered: wherever it is, it has to be there once.
    fn file_delivered(&mut self, session: &mut Session) -> io::Result<()> {
        session.ok("SELECT INBOX")?;
        let last = session.fetch("*", false)?;
        if let Some(last) = last.first() {
            let uid = self.rng.random_range(1..=last.uid);
            session.command(&format!("UID MOVE {uid} Archive"))?;
            self.count();
        }
        Ok(())
    }

    /// What an acknowledged command brought, or a note of what is in doubt now.
    fn certain(
        &mut self,
        result: io::Result<Answer>,
        id: &str,
        states: [State; 2],
    ) -> io::Result<Option<Vec<crate::mailboxes::Line>>> {
        if let Ok(Answer::Ok(lines)) = result {
            self.count();
            return Ok(Some(lines));
        }
        let id = id.to_owned();
        self.doubts.push(Doubt { id, states });
        result.map(|_| None)
    }

    fn count(&self) {
        self.world.changes.fetch_add(1, Ordering::Relaxed);
    }

    fn name(&self, folder: usize) -> String {
        let name = self.folders.get(folder).and_then(|one| one.names.first());
        name.cloned().unwrap_or_default()
    }

    fn select(&self, session: &mut Session, folder: usize) -> io::Result<()> {
        let name = self.name(folder);
        if let Answer::No(words) = session.command(&format!("SELECT {name}"))? {
            // For now a mailbox may be out of reach, but it must not be gone.
            if words.contains("NONEXISTENT") {
                self.report(format!("{name} is gone: {words}"));
            }
            return Err(io::Error::other(words));
        }
        Ok(())
    }

    fn pick(&mut self, folder: usize) -> Option<(u32, Known)> {
        let messages = &self.folders.get(folder)?.messages;
        let (uid, known) = messages.iter().choose(&mut self.rng)?;
        Some((*uid, known.clone()))
    }

    fn put(&mut self, folder: usize, uid: u32, known: Known) {
        if let Some(one) = self.folders.get_mut(folder)
            && let Some(other) = one.messages.insert(uid, known)
        {
            self.report(format!("UID {uid} was given twice; {} had it", other.id));
        }
    }

    fn remove(&mut self, folder: usize, uid: u32) {
        if let Some(one) = self.folders.get_mut(folder) {
            one.messages.remove(&uid);
        }
    }

    fn report(&self, what: impl std::fmt::Display) {
        let address = self.world.address(self.account);
        self.world.findings.add(format!("IMAP {address}: {what}"));
    }
}

impl Client<'_> {
    /// Compares all folders with what is known of them. A change that was not answered may come
    /// while they are read, so what seems wrong is looked at again.
    pub(crate) fn verify(&self, session: &mut Session) -> io::Result<()> {
        if self.look(session)?.is_empty() {
            return Ok(());
        }
        World::pause(Duration::from_secs(3));
        for what in self.look(session)? {
            self.report(what);
        }
        Ok(())
    }

    /// The same in a session of its own.
    pub(crate) fn verify_alone(&self, cutter: &Arc<Cutter>) -> io::Result<()> {
        self.verify(&mut Session::open(self.world, cutter, self.account)?)
    }

    fn look(&self, session: &mut Session) -> io::Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut found: BTreeMap<String, Vec<(usize, u8)>> = BTreeMap::new();
        for (at, folder) in self.folders.iter().enumerate() {
            let Some(there) = Self::read(session, folder, &mut wrong)? else {
                continue;
            };
            for message in &there {
                let Some(id) = &message.id else {
                    wrong.push("a message without its field".to_owned());
                    continue;
                };
                let places = found.entry(id.clone()).or_default();
                places.push((at, message.flags));
                let known = folder.messages.get(&message.uid);
                if let Some(known) = known
                    && (known.id != *id || known.flags != message.flags)
                {
                    let (uid, flags) = (message.uid, flag_names(message.flags));
                    wrong.push(format!("UID {uid} is {id} with {flags}, not {known:?}"));
                }
            }
            for (uid, known) in &folder.messages {
                if !there.iter().any(|message| message.uid == *uid) {
                    let id = &known.id;
                    let names = &folder.names;
                    wrong.push(format!("{id} is not at UID {uid} of {names:?} any more"));
                }
            }
        }
        self.compare(&found, &mut wrong);
        Ok(wrong)
    }

    fn read(
        session: &mut Session,
        folder: &Folder,
        wrong: &mut Vec<String>,
    ) -> io::Result<Option<Vec<Fetched>>> {
        for name in &folder.names {
            match session.command(&format!("EXAMINE {name}"))? {
                Answer::Ok(_) => return session.fetch("1:*", false).map(Some),
                Answer::No(words) if words.contains("NONEXISTENT") => {}
                Answer::No(words) => return Err(io::Error::other(words)),
            }
        }
        let names = &folder.names;
        wrong.push(format!("no mailbox with a name of {names:?} is there"));
        Ok(None)
    }

    fn compare(&self, found: &BTreeMap<String, Vec<(usize, u8)>>, wrong: &mut Vec<String>) {
        let none = Vec::new();
        for doubt in &self.doubts {
            let places = found.get(&doubt.id).unwrap_or(&none);
            let is_one_of = doubt.states.iter().any(|state| match state {
                None => places.is_empty(),
                Some(state) => places[..] == [*state],
            });
            if !is_one_of {
                wrong.push(format!("{doubt:?} is at {places:?}"));
            }
        }
        for (id, places) in found {
            if places.len() > 1 {
                wrong.push(format!("{id} is there {} times: {places:?}", places.len()));
            }
        }
    }
}
