//! What checking, mending and making anew have in common: what they tell while they run.

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Not as it should be.
    Wrong(String),
    /// Was not as it should be, and is now.
    Mended(String),
    /// Cannot be had back.
    Lost(String),
    /// Worth knowing; nothing is wrong.
    Note(String),
}

/// What is told while work goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Octets of segments that were read, and all of them.
    Progress {
        /// So far.
        done: u64,
        /// At the end.
        all: u64,
    },
    /// Something was found.
    Found(Finding),
}

/// What an account has, counted by who went through all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages in mailboxes, copies counted each.
    pub messages: u64,
    /// Contents.
    pub emails: u64,
    /// Mailboxes.
    pub mailboxes: usize,
}

/// Whoever wants to know. Returning false ends a check; what changes something is not left half
/// done.
pub type Observer<'a> = dyn FnMut(Report) -> bool + 'a;

/// Collects what is told.
pub(crate) struct Told<'a, 'b> {
    observer: &'a mut Observer<'b>,
    done: u64,
    all: u64,
    is_stopped: bool,
}

/// Octets between two words on progress.
const STEP: u64 = 4 * 1024 * 1024;

impl<'a, 'b> Told<'a, 'b> {
    pub(crate) fn new(observer: &'a mut Observer<'b>) -> Self {
        Self {
            observer,
            done: 0,
            all: 0,
            is_stopped: false,
        }
    }

    pub(crate) fn wrong(&mut self, what: impl Into<String>) {
        self.found(Finding::Wrong(what.into()));
    }

    pub(crate) fn mended(&mut self, what: impl Into<String>) {
        self.found(Finding::Mended(what.into()));
    }

    pub(crate) fn lost(&mut self, what: impl Into<String>) {
        self.found(Finding::Lost(what.into()));
    }

    pub(crate) fn note(&mut self, what: impl Into<String>) {
        self.found(Finding::Note(what.into()));
    }

    fn found(&mut self, finding: Finding) {
        self.tell(Report::Found(finding));
    }

    fn tell(&mut self, report: Report) {
        self.is_stopped |= !(self.observer)(report);
    }

    /// So many octets are to be read.
    pub(crate) fn expect(&mut self, all: u64) {
        self.all = all;
        self.tell(Report::Progress { done: 0, all });
    }

    /// So many more were read.
    pub(crate) fn read(&mut self, octets: u64) {
        let before = self.done;
        self.done += octets;
        if before / STEP != self.done / STEP {
            let (done, all) = (self.done, self.all);
            self.tell(Report::Progress { done, all });
        }
    }

    /// Nobody wants to know any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped
    }
}
