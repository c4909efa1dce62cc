//! Sessions at one mailbox: whatever comes in whatever order, each client ends with the truth, and
//! what it is told on the way never contradicts what it was told before.

use std::collections::{BTreeMap, HashMap, VecDeque};

use mail_types::{Flags, SystemFlag};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::rows::Rows;
use super::*;
use crate::view::Show;

const KEYWORDS: [&str; 4] = ["$Later", "Work", "$Junk", "Zeta"];

/// What the store has.
#[derive(Debug, Default)]
struct Truth {
    messages: BTreeMap<u32, Entry>,
    keywords: Vec<String>,
    uid_next: u32,
    modseq: u64,
    epoch: u64,
}

impl Truth {
    fn fresh(&self) -> Fresh {
        let all: Vec<Entry> = self.messages.values().copied().collect();
        Fresh {
            mailbox_id: 7,
            name: "INBOX".to_owned(),
            epoch: self.epoch,
            first_recent: 0,
            version: Version {
                rows: Rows::pack(&all, &Rows::default()),
                keywords: Arc::new(self.keywords.clone()),
                uid_validity: 9,
                uid_next: self.uid_next,
                highest_modseq: self.modseq,
            },
        }
    }

    fn append(&mut self, random: &mut StdRng) -> pb::Change {
        self.modseq += random.random_range(1..3);
        let count = random.random_range(1..30);
        let mut appended = Vec::new();
        for _ in 0..count {
            let entry = Entry {
                uid: self.uid_next,
                flags: Flags::NONE,
                modseq: self.modseq,
                size: random.random_range(100..90_000),
            };
            self.uid_next += if random.random_bool(0.1) { 300 } else { 1 };
            self.messages.insert(entry.uid, entry);
            appended.push(state(&entry));
        }
        pb::Change {
            modseq: self.modseq,
            appended,
            recent: true,
            ..pb::Change::default()
        }
    }

    /// Sets flags of those of the messages that are there.
    fn store(&mut self, random: &mut StdRng, uids: &[u32]) -> pb::Change {
        self.modseq += 1;
        let mut new_keywords = Vec::new();
        if self.keywords.len() < KEYWORDS.len() && random.random_bool(0.2) {
            new_keywords.push(KEYWORDS[self.keywords.len()].to_owned());
            self.keywords.extend(new_keywords.clone());
        }
        let bits = random.random_range(0..1 << (5 + self.keywords.len()));
        let mut flags_changed = Vec::new();
        for uid in uids {
            if let Some(entry) = self.messages.get_mut(uid) {
                (entry.flags, entry.modseq) = (Flags::from(bits), self.modseq);
                flags_changed.push(state(entry));
            }
        }
        pb::Change {
            modseq: self.modseq,
            new_keywords,
            flags_changed,
            ..pb::Change::default()
        }
    }

    fn expunge(&mut self, uids: &[u32]) -> pb::Change {
        self.modseq += 1;
        let mut bounds = Vec::new();
        for uid in uids {
            if self.messages.remove(uid).is_some() {
                bounds.extend([*uid, *uid]);
            }
        }
        pb::Change {
            modseq: self.modseq,
            expunged: Some(pb::UidSet { bounds }),
            ..pb::Change::default()
        }
    }
}

fn state(entry: &Entry) -> pb::MessageState {
    pb::MessageState {
        uid: entry.uid,
        flags: entry.flags.bits(),
        modseq: entry.modseq,
        size: entry.size,
    }
}

/// What a client knows of a message: nothing but its number, until it has asked.
type Known = Option<(u32, Flags)>;

/// A client that believes what it is told.
struct Client {
    view: View,
    messages: Vec<Known>,
    keywords: Vec<String>,
    modseqs: HashMap<u32, u64>,
}

impl Client {
    fn select(open: &Arc<Open>, read_only: bool) -> Self {
        let view = View::new(Seat::alone(open.clone()), read_only);
        let mut client = Self {
            messages: vec![None; view.told.rows.len()],
            keywords: view.told.keywords.to_vec(),
            modseqs: HashMap::new(),
            view,
        };
        client.fetch();
        client
    }

    /// FETCH 1:* (UID FLAGS)
    fn fetch(&mut self) {
        assert_eq!(self.messages.len(), self.view.told.rows.len());
        for (known, entry) in self.messages.iter_mut().zip(self.view.told.rows.iter()) {
            if let Some((uid, flags)) = known {
                assert_eq!((*uid, *flags), (entry.uid, entry.flags));
            }
            *known = Some((entry.uid, entry.flags));
        }
    }

    fn update(&mut self, expunge: bool) {
        let show = Show {
            expunge,
            uid: true,
            modseq: true,
        };
        let mut out = Vec::new();
        self.view.update(&mut out, show);
        self.hear(&out, expunge);
        assert_eq!(self.messages.len(), self.view.told.rows.len());
    }

    fn hear(&mut self, out: &[u8], expunge: bool) {
        let text = std::str::from_utf8(out).unwrap();
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = words[1].parse::<usize>().unwrap_or(0);
            match words[2] {
                "EXISTS" => {
                    assert!(number >= self.messages.len(), "{line}");
                    self.messages.resize(number, None);
                }
                "RECENT" => assert!(number <= self.messages.len(), "{line}"),
                "EXPUNGE" => {
                    assert!(expunge, "{line}");
                    self.messages.remove(number - 1);
                }
                "FETCH" => self.fetched(number, line),
                _ => {
                    let list = line
                        .strip_prefix("* FLAGS (")
                        .unwrap()
                        .trim_end_matches(')');
                    self.keywords = list.split(' ').skip(5).map(str::to_owned).collect();
                }
            }
        }
    }

    fn fetched(&mut self, number: usize, line: &str) {
        let between = |from: &str, to: char| {
            let rest = &line[line.find(from).unwrap() + from.len()..];
            rest[..rest.find(to).unwrap()].to_owned()
        };
        let uid: u32 = between("UID ", ' ').parse().unwrap();
        let modseq: u64 = between("MODSEQ (", ')').parse().unwrap();
        let mut flags = Flags::NONE;
        for name in between("FLAGS (", ')')
            .split(' ')
            .filter(|name| !name.is_empty())
        {
            let keyword = |name: &str| {
                let at = self.keywords.iter().position(|known| known == name);
                Flags::keyword(at.unwrap_or_else(|| panic!("unknown keyword: {line}"))).unwrap()
            };
            flags = flags
                | match SystemFlag::from_name(name) {
                    Some(flag) => flag.into(),
                    None if name == "\\Recent" => Flags::NONE,
                    None => keyword(name),
                };
        }
        let last = self.modseqs.insert(uid, modseq).unwrap_or(0);
        assert!(last < modseq, "told twice, or an older state: {line}");
        let known = &mut self.messages[number - 1];
        assert!(
            known.is_none_or(|(known, _)| known == uid),
            "{known:?}: {line}"
        );
        *known = Some((uid, flags));
    }

    fn uids(&self, random: &mut StdRng) -> Vec<u32> {
        let known = self.messages.iter().flatten().map(|(uid, _)| *uid);
        known.filter(|_| random.random_bool(0.1)).collect()
    }

    /// All flags as the store has them, and nothing but what is there unless numbers are in use.
    fn check(&self, truth: &Truth, may_have_more: bool) {
        let gone = |uid: &u32| !truth.messages.contains_key(uid);
        let rows = &self.view.told.rows;
        let mut there = Vec::new();
        for (known, entry) in self.messages.iter().zip(rows.iter()) {
            if let Some((uid, flags)) = known {
                assert_eq!(*uid, entry.uid);
                assert!(gone(uid) || truth.messages[uid].flags == *flags, "{uid}");
            }
            assert!(may_have_more || !gone(&entry.uid), "{}", entry.uid);
            there.extend((!gone(&entry.uid)).then_some(entry));
        }
        assert!(there.iter().eq(truth.messages.values()));
        assert_eq!(self.keywords, truth.keywords);
    }
}

struct World {
    random: StdRng,
    truth: Truth,
    open: Arc<Open>,
    clients: Vec<Client>,
    /// Changes that the feed has not brought yet.
    under_way: VecDeque<pb::Change>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut truth = Truth {
            uid_next: random.random_range(1..600),
            modseq: 1,
            ..Truth::default()
        };
        for _ in 0..random.random_range(0..20) {
            truth.append(&mut random);
        }
        let open = Arc::new(Open::new(3, truth.fresh(), true));
        let clients = vec![Client::select(&open, false), Client::select(&open, false)];
        Self {
            random,
            truth,
            open,
            clients,
            under_way: VecDeque::new(),
        }
    }

    fn deliver(&mut self, most: usize) {
        let count = most.min(self.under_way.len());
        let changes: Vec<pb::Change> = self.under_way.drain(..count).collect();
        if !changes.is_empty() {
            self.open.apply(&changes);
        }
    }

    /// STORE with its answer, which may be there before the feed.
    fn store(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let uids = client.uids(&mut self.random);
        let change = self.truth.store(&mut self.random, &uids);
        let states = change.flags_changed.clone();
        let keywords = self.truth.keywords.clone();
        self.under_way.push_back(change);
        if self.random.random_bool(0.5) {
            self.deliver(usize::MAX);
        }
        let client = &mut self.clients[at];
        let mut out = Vec::new();
        client.view.learn(&states, &keywords, &mut out);
        client.hear(&out, false);
        for told in states {
            client.modseqs.insert(told.uid, told.modseq);
            let place = client.view.told.rows.find(told.uid).unwrap();
            client.messages[place] = Some((told.uid, Flags::from(told.flags)));
        }
        client.update(self.random.random_bool(0.5));
    }

    fn step(&mut self) {
        let at = self.random.random_range(0..self.clients.len());
        match self.random.random_range(0..12) {
            0 | 1 => {
                let change = self.truth.append(&mut self.random);
                self.under_way.push_back(change);
            }
            2 => {
                let uids = self.clients[at].uids(&mut self.random);
                let change = self.truth.expunge(&uids);
                self.under_way.push_back(change);
            }
            3 | 4 => self.store(at),
            5 => self.deliver(1),
            6 => self.deliver(3),
            7 => self.clients[at].fetch(),
            8 => {
                // The feed breaks: what is under way is lost, and a snapshot has it all.
                self.under_way.clear();
                self.truth.epoch += 1;
                assert!(self.open.renew(self.truth.fresh(), true));
            }
            9 if self.clients.len() < 5 => {
                let read_only = self.random.random_bool(0.3);
                self.clients.push(Client::select(&self.open, read_only));
            }
            9 => {
                self.clients.remove(at);
            }
            10 => self.clients[at].update(false),
            _ => self.clients[at].update(true),
        }
        if self.random.random_bool(0.1) {
            let at = self.random.random_range(0..self.clients.len());
            self.deliver(usize::MAX);
            self.clients[at].update(false);
            self.clients[at].check(&self.truth, true);
        }
    }

    fn end(&mut self) {
        self.deliver(usize::MAX);
        for client in &mut self.clients {
            client.update(true);
            client.check(&self.truth, false);
            client.fetch();
            client.check(&self.truth, false);
            let before = client.view.told.clone();
            client.update(true);
            assert!(Arc::ptr_eq(&before, &client.view.told));
            assert!(
                Arc::ptr_eq(&before, &self.open.current()),
                "the version is shared"
            );
        }
        for uid in self.truth.messages.keys() {
            let recent = self
                .clients
                .iter()
                .filter(|client| client.view.is_recent(*uid));
            assert!(recent.count() <= 1, "{uid} is recent to several");
        }
    }
}

#[test]
fn every_client_ends_with_the_truth() {
    for seed in 0..150 {
        let mut world = World::new(seed);
        for _ in 0..120 {
            world.step();
        }
        world.end();
    }
}

fn small() -> (Truth, Arc<Open>, StdRng) {
    let mut random = StdRng::seed_from_u64(1);
    let mut truth = Truth {
        uid_next: 1,
        ..Truth::default()
    };
    truth.append(&mut random);
    let open = Arc::new(Open::new(3, truth.fresh(), true));
    (truth, open, random)
}

#[test]
fn another_history_is_another_mailbox() {
    let (truth, open, _) = small();
    let other = |validity: u32, modseq: u64| {
        let mut fresh = truth.fresh();
        fresh.version.uid_validity = validity;
        fresh.version.highest_modseq = modseq;
        fresh
    };
    assert!(!open.renew(other(10, truth.modseq), true));
    assert!(!open.renew(other(9, truth.modseq - 1), true));
    assert!(open.renew(other(9, truth.modseq), true));
}

#[test]
fn a_message_is_recent_to_the_first_who_hears() {
    let (mut truth, open, mut random) = small();
    let mut reader = Client::select(&open, true);
    let mut first = Client::select(&open, false);
    let mut second = Client::select(&open, false);
    let change = truth.append(&mut random);
    let uid = change.appended[0].uid;
    open.apply(&[change]);
    reader.update(true);
    second.update(true);
    first.update(true);
    let recent = [&reader, &first, &second].map(|client| client.view.is_recent(uid));
    assert_eq!(recent, [false, false, true]);
}

#[tokio::test]
async fn a_feed_that_is_given_up_gives_its_claims() {
    let (mut truth, open, mut random) = small();
    let mut changes: Vec<pb::Change> = (0..3).map(|_| truth.append(&mut random)).collect();
    changes[1].recent = false;
    let uids = |change: &pb::Change| change.appended.iter().map(|new| new.uid).collect();
    let uids: Vec<Vec<u32>> = changes.iter().map(uids).collect();
    let events = changes.iter().map(|change| {
        let event = Some(pb::watch_event::Event::Change(change.clone()));
        Ok(pb::WatchEvent { event })
    });
    let last = changes.last().map_or(0, |change| change.modseq);
    // The last ones are on their way.
    let (sender, receiver) = tokio::sync::mpsc::channel(3);
    let mut old = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let (held, sender) = tokio::join!(feed::held(&mut old, (1, last)), async {
        for event in events {
            tokio::task::yield_now().await;
            sender.send(event).await.unwrap();
        }
        sender
    });
    drop(sender);
    open.add_recent(&held);
    // The other feed brings the messages, which are recent to the first session all the same.
    for change in &mut changes {
        change.recent = false;
    }
    open.apply(&changes);
    let client = Client::select(&open, false);
    for (uids, is_recent) in uids.iter().zip([true, false, true]) {
        for uid in uids {
            assert_eq!(client.view.is_recent(*uid), is_recent, "{uid}");
        }
    }
}

#[tokio::test]
async fn the_feed_claims_as_long_as_somebody_wants_it() {
    let (truth, open, _) = small();
    assert!(open.claims_as_wanted() && open.claims());
    open.want_claim(false);
    open.turned().await;
    assert!(!open.claims_as_wanted());
    // Somebody else comes before there is another feed: this one claims on.
    open.want_claim(true);
    open.turned().await;
    assert!(open.claims_as_wanted() && open.turn() && open.claims());
    // And while another one is looked for: it has to be the next one.
    open.want_claim(false);
    open.turned().await;
    assert!(!open.turn() && !open.claims());
    open.want_claim(true);
    assert!(open.renew(truth.fresh(), false));
    open.turned().await;
    assert!(!open.claims() && !open.claims_as_wanted() && open.turn());
    assert!(open.renew(truth.fresh(), true));
    assert!(open.claims() && open.claims_as_wanted());
}

#[tokio::test]
async fn waiting_ends_with_the_change_or_the_mailbox() {
    let (mut truth, open, mut random) = small();
    let mut client = Client::select(&open, false);
    let change = truth.append(&mut random);
    let modseq = change.modseq;
    tokio::join!(client.view.reach(modseq), async {
        tokio::task::yield_now().await;
        open.apply(&[change]);
    });
    assert_eq!(open.current().highest_modseq, modseq);
    client.view.changed().await;
    client.update(true);
    client.check(&truth, false);
    open.set_health(Health::Lost);
    tokio::join!(client.view.settled(), async {
        tokio::task::yield_now().await;
        assert!(open.renew(truth.fresh(), true));
    });
    tokio::join!(client.view.reach(modseq + 100), async {
        tokio::task::yield_now().await;
        open.set_health(Health::Gone);
    });
    assert_eq!(client.view.health(), Health::Gone);
}
