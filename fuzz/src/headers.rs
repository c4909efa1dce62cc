//! Walking over header fields, filtering them, and what is read from them.

use mail_message::submission::{MissingFields, Supplement};
use mail_message::trace::count_received;
use mail_message::{HeaderFields, MailDate, filter_fields, header_len};

/// The input is a message.
pub fn run(data: &[u8]) {
    let len = header_len(data);
    let header = &data[..len];
    let fields: Vec<_> = HeaderFields::new(header).collect();
    let raw: Vec<u8> = fields
        .iter()
        .flat_map(|field| field.raw())
        .copied()
        .collect();
    let empty_line = &header[raw.len()..];
    assert!(header.starts_with(&raw) && matches!(empty_line, b"" | b"\n" | b"\r\n"));
    for field in &fields {
        assert!(!field.raw().is_empty());
        let value = field.unfolded();
        assert!(!value.contains(&b'\n') && value.len() <= field.raw().len());
        if let Some(date) = MailDate::parse(field.value()) {
            date.day();
            assert_eq!(MailDate::parse(date.to_string().as_bytes()), Some(date));
        }
    }
    assert!(count_received(data) <= fields.len());
    let names = ["subject", "To", "x"];
    let with = filter_fields(header, &names, false);
    let without = filter_fields(header, &names, true);
    let count = |header| HeaderFields::new(header).count();
    assert_eq!(count(&with) + count(&without), fields.len());
    assert_eq!(filter_fields(&with, &names, true), b"\r\n");
    submission(data);
}

/// What is supplied is not missing afterwards.
fn submission(data: &[u8]) {
    let from = "ana@aula.test".parse().unwrap();
    let supplement = Supplement {
        now: MailDate::utc(1_700_000_000),
        from: Some(&from),
        host: &"mx.aula.test".parse().unwrap(),
        unique: "u",
    };
    let missing = MissingFields::of(data);
    let mut message = missing.render(&supplement).into_bytes();
    message.extend_from_slice(data);
    assert_eq!(MissingFields::of(&message), MissingFields::default());
}
