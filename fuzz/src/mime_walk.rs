//! Walking a message: what IMAP lists show is well formed, and all parts lie within the message.

use mail_message::{HeaderFields, PartIndex, Section, summarize};

use crate::imap_syntax;

const SECTIONS: [Section; 4] = [
    Section::Header,
    Section::Mime,
    Section::Text,
    Section::Whole,
];
const PATHS: [&[u32]; 10] = [
    &[],
    &[0],
    &[1],
    &[2],
    &[3],
    &[1, 1],
    &[1, 2],
    &[2, 1],
    &[1, 1, 1],
    &[u32::MAX],
];

/// The input is a message, and also a stored index.
pub fn run(data: &[u8]) {
    let summary = summarize(data);
    imap_syntax::envelope(&imap_syntax::read(&summary.envelope));
    imap_syntax::body(&imap_syntax::read(&summary.body), false);
    imap_syntax::body(&imap_syntax::read(&summary.body_structure), true);
    let index = PartIndex::parse(&summary.parts).expect("what was written");
    assert_eq!(index, PartIndex::of_message(data));
    assert_eq!(
        index.locate(&[], Section::Whole),
        Some(0..data.len() as u64)
    );
    assert_eq!(
        index.locate(&[], Section::Header),
        Some(0..summary.header_len)
    );
    for path in PATHS {
        for section in SECTIONS {
            if let Some(range) = index.locate(path, section) {
                assert!(range.start <= range.end && range.end <= data.len() as u64);
            }
        }
    }
    let fields = HeaderFields::new(&summary.common_fields).count();
    assert!(fields <= HeaderFields::new(data).count());
    assert!(summary.thread.references.len() <= 100);
    if let Ok(index) = PartIndex::parse(data) {
        assert_eq!(PartIndex::parse(&index.to_bytes()).as_ref(), Ok(&index));
        for path in PATHS {
            for section in SECTIONS {
                let _ = index.locate(path, section);
            }
        }
    }
}
