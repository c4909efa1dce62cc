//! Summaries of the messages in `testdata/*.eml`, each beside what is expected of it: ENVELOPE,
//! BODY and BODYSTRUCTURE, a line each.
//!
//! The expectations are what Dovecot 2.3.19 answers, but for these messages:
//! - `type-*`, `encoding-odd`: a syntax error in Content-Type means text/plain (RFC 2045 §5.2), and
//!   comments may stand in front of an encoding (RFC 2045 §6.1).
//! - `no-boundary`: a multipart without boundary is opaque; part 1 is all of it.
//! - `boundary-space`: a boundary does not end with white space (RFC 2046 §5.1.1).
//! - `bare-lf`: sizes are those of the octets that FETCH gives.
//! - `dup-fields`: the first field of a name counts, as for Content-Type.
//! - `folded`, `plain`: unfolding keeps white space (RFC 5322 §2.2.3), and quoted strings hold
//!   quotes as well as literals do.
//! - `long-subject`: a literal, since lines of clients are not without end.
//! - `addr-*`, `route`, `params-odd`, `param-unquoted`, `rfc2231`, `language-odd`,
//!   `disposition-odd`: more is made of broken fields, or in another order.

use std::fs;
use std::path::Path;

use mail_message::summarize;

#[test]
fn summaries_are_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "eml") {
            continue;
        }
        seen += 1;
        let summary = summarize(&fs::read(&path).unwrap());
        let ours = [summary.envelope, summary.body, summary.body_structure];
        let ours = ours.map(|text| [text, b"\n".to_vec()].concat()).concat();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(path.with_extension("expected"), &ours).unwrap();
        }
        let expected = fs::read(path.with_extension("expected")).unwrap();
        if ours != expected {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let [expected, ours] =
                [expected, ours].map(|t| String::from_utf8_lossy(&t).into_owned());
            wrong.push(format!("== {name}\nexpected:\n{expected}ours:\n{ours}"));
        }
    }
    assert!(seen > 50, "the messages are not there");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
