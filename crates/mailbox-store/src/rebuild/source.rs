//! Where a new index takes from what segments do not tell.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::ReadableDatabase;

use super::Rebuilt;
use crate::StoreError;
use crate::index_file::open_index;
use crate::maintain::Told;
use crate::snapshot::{IndexCopy, Kept};

/// See the module's head.
pub(super) enum Source {
    /// Mailboxes, UIDs, flags and the rest.
    Known {
        copy: IndexCopy,
        /// Nothing but new mail came behind it.
        is_exact: bool,
    },
    /// Records alone.
    Records {
        /// Nothing but new mail ever came.
        is_exact: bool,
    },
}

impl Source {
    /// Nothing but new mail came behind what it tells.
    pub(super) fn is_exact(&self) -> bool {
        match self {
            Self::Known { is_exact, .. } | Self::Records { is_exact } => *is_exact,
        }
    }

    /// The index itself if it is whole, or else the last snapshot that is.
    pub(super) fn find(account: &Rebuilt<'_>, told: &mut Told<'_, '_>) -> Result<Self, StoreError> {
        let index = account.folder.join("index.redb");
        if !account.ignore_index && index.exists() {
            match read_index(account, &index) {
                Ok(copy) => {
                    told.note("flags, UIDs and names are taken from the index that was there");
                    let is_exact = true;
                    return Ok(Self::Known { copy, is_exact });
                }
                // It may be whole: a snapshot in its place would lose what came since.
                Err(
                    error @ (StoreError::Busy
                    | StoreError::Full
                    | StoreError::Fatal(_)
                    | StoreError::Io { .. }),
                ) => return Err(error),
                Err(error) => told.wrong(format!("{}: {error}", index.display())),
            }
        }
        let Kept { copy, is_stale } = IndexCopy::read(account.folder, |what| told.wrong(what));
        let Some(copy) = copy else {
            // A mark that is lost as well, while the journal still tells of changes.
            let is_stale = is_stale || account.journal.last_operation(account.id)? > 0;
            if is_stale {
                told.lost(
                    "there is no snapshot of the index: later flags, keywords, copies, moves, \
                     renames and subscriptions; what was expunged is back, unless its space was \
                     used again. UIDNEXT and MODSEQ are raised, so that no client takes old for new",
                );
            } else {
                told.note("all is taken from the segments: nothing but new mail ever came");
            }
            return Ok(Self::Records {
                is_exact: !is_stale,
            });
        };
        let taken = copy.taken;
        if is_stale {
            told.lost(format!(
                "what changed behind the snapshot (Unix time {taken}) but for new mail: flags, \
                 copies, moves, expunges and mailboxes; UIDNEXT and MODSEQ are raised, so that no \
                 client takes old for new"
            ));
        } else {
            told.note(format!(
                "flags, UIDs and names are taken from the snapshot (Unix time {taken}), behind \
                 which only new mail came"
            ));
        }
        Ok(Self::Known {
            copy,
            is_exact: !is_stale,
        })
    }
}

/// The engine may panic over octets that it did not write.
fn read_index(account: &Rebuilt<'_>, path: &Path) -> Result<IndexCopy, StoreError> {
    let read = || {
        let options = account.options;
        let mut db = open_index(&*options.disk, path, options.index_cache)?;
        if !db.engine().check_integrity()? {
            let what = "the index is not what was written".to_owned();
            return Err(StoreError::Engine(what));
        }
        IndexCopy::of(&db.begin_read()?, account.now)
    };
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        let what = "the index is so damaged that it cannot be read".to_owned();
        Err(StoreError::Engine(what))
    })
}
