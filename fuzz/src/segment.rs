//! Segments and journals after damage: nothing that was written whole and not touched is lost, and
//! nothing is found that was not written, even where mail holds what looks like a record.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use mailbox_store::fuzzing::{self, Record};

use crate::control;

thread_local! {
    static FOLDER: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

fn folder() -> PathBuf {
    FOLDER.with_borrow_mut(|folder| {
        folder
            .get_or_insert_with(|| {
                let name = format!("correo-fuzz-{}", std::process::id());
                let memory = Path::new("/dev/shm");
                let folder = if memory.is_dir() {
                    memory.join(name)
                } else {
                    std::env::temp_dir().join(name)
                };
                fs::create_dir_all(&folder).expect("a folder");
                folder
            })
            .clone()
    })
}

/// Control: how many records, what is done to the file, where, and what is written there. The rest
/// is the records' contents.
pub fn run(data: &[u8]) {
    let ([count, damage, high, low, value], rest) = control(data);
    let records = records(usize::from(count % 4) + 1, rest);
    let (mut file, starts) = fuzzing::write(&records);
    let at = usize::from(u16::from_be_bytes([high, low])) % (file.len() + 1);
    // From `at` on so many octets are not what was written.
    let mut touched = 0;
    match damage % 4 {
        0 => {}
        1 => {
            file.truncate(at);
            touched = usize::MAX - at;
        }
        2 if at < file.len() && value != 0 => {
            file[at] ^= value;
            touched = 1;
        }
        _ => {
            let end = file.len().min(at + usize::from(value));
            file[at..end].fill(0);
            touched = end - at;
        }
    }
    let path = folder().join("00000001.journal");
    fs::write(&path, &file).expect("a file");
    let found = fuzzing::scan(&path).expect("a file that can be read");
    let is_whole = |start: usize, end: usize| touched == 0 || end <= at || start >= at + touched;
    for (place, record) in records.iter().enumerate() {
        let (start, end) = (starts[place], starts[place + 1]);
        if is_whole(start, end) {
            assert!(
                found
                    .iter()
                    .any(|(offset, found)| *offset == start as u64 && found == record),
                "the record at {start} is lost"
            );
        }
    }
    if touched == 0 {
        assert_eq!(found.len(), records.len());
    }
    // A journal ends where the first record is not whole; what is before it counts.
    let whole = (0..records.len()).take_while(|place| is_whole(starts[*place], starts[place + 1]));
    let entries = fuzzing::journal(&folder()).expect("a journal");
    assert!(entries >= whole.count().min(records.len()));
}

fn records(count: usize, contents: &[u8]) -> Vec<Record> {
    let size = contents.len() / count;
    (0..count)
        .map(|place| {
            let content = &contents[place * size..][..size];
            Record {
                email: place as u64 + 1,
                uid: place as u32 + 1,
                key: (place % 2 == 0).then_some((place as u64, 3)),
                mailbox: "INBOX".to_owned(),
                // Mail can hold whatever looks like a record of ours.
                content: match content.first() {
                    Some(b'F') => fuzzing::forge(content),
                    _ => content.to_vec(),
                },
            }
        })
        .collect()
}
