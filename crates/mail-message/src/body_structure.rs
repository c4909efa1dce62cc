//! BODY and BODYSTRUCTURE (RFC 3501 §7.4.2).

use crate::envelope::push_envelope;
use crate::header::HeaderField;
use crate::imap_text::{push_nstring, push_number, push_string};
use crate::lexer::{Lexer, is_token};
use crate::params::ParamValue;
use crate::structure::{Fields, Part, PartKind, Structure};

/// The most octets of one text field of a part.
const MAX_TEXT: usize = 16 * 1024;
/// A multipart must have a part (RFC 3501 §9 `body-type-mpart`); one without gets this one.
const EMPTY_PART: &[u8] = br#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)"#;
const EMPTY_PART_EXTENDED: &[u8] =
    br#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)"#;

/// Renders a message's structure, with the extension data for BODYSTRUCTURE or without for BODY.
#[derive(Debug)]
pub(crate) struct Renderer<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) structure: &'a Structure<'a>,
    pub(crate) extended: bool,
    /// When the text is longer, texts of the message's own are rendered as if they were absent.
    pub(crate) limit: usize,
}

impl Renderer<'_> {
    pub(crate) fn push_part(&self, out: &mut Vec<u8>, part: &Part<'_>) {
        let none = Fields::default();
        let fields = if out.len() > self.limit {
            &none
        } else {
            &part.fields
        };
        out.push(b'(');
        if part.kind == PartKind::Multipart {
            self.push_multipart(out, part);
        } else {
            self.push_single(out, part, fields);
        }
        if self.extended {
            push_extension(out, fields);
        }
        out.push(b')');
    }

    fn push_multipart(&self, out: &mut Vec<u8>, part: &Part<'_>) {
        if part.children.is_empty() {
            out.extend_from_slice(if self.extended {
                EMPTY_PART_EXTENDED
            } else {
                EMPTY_PART
            });
        }
        for child in self.structure.children(part) {
            self.push_part(out, child);
        }
        out.push(b' ');
        let content_type = part.content_type.as_ref();
        push_string(out, content_type.map_or(b"mixed", |value| &value.subtype));
        if self.extended {
            out.push(b' ');
            push_params(out, content_type, None);
        }
    }

    fn push_single(&self, out: &mut Vec<u8>, part: &Part<'_>, fields: &Fields<'_>) {
        let octets = part.body.len();
        let is_text = match &part.content_type {
            Some(content_type) => content_type.is_type("text"),
            None => part.kind == PartKind::Leaf,
        };
        match &part.content_type {
            Some(value) if value.is_type("multipart") => {
                // One without a usable boundary, or beyond our limits: opaque content.
                out.extend_from_slice(br#""application" "octet-stream" NIL"#);
            }
            Some(value) if value.is("message", "rfc822") && part.kind == PartKind::Leaf => {
                out.extend_from_slice(br#""application" "octet-stream" NIL"#);
            }
            Some(value) => {
                push_string(out, &value.value);
                out.push(b' ');
                push_string(out, &value.subtype);
                out.push(b' ');
                push_params(out, Some(value), is_text.then_some("us-ascii"));
            }
            None if is_text => out.extend_from_slice(br#""text" "plain" ("charset" "us-ascii")"#),
            None => out.extend_from_slice(br#""message" "rfc822" NIL"#),
        }
        for field in [fields.id, fields.description] {
            out.push(b' ');
            push_text(out, field);
        }
        out.push(b' ');
        push_encoding(out, fields.encoding);
        out.push(b' ');
        push_number(out, octets);
        let nested = part
            .children
            .first()
            .and_then(|at| self.structure.part(*at));
        if let Some(nested) = nested.filter(|_| part.kind == PartKind::Message) {
            out.push(b' ');
            let header = self.message.get(nested.header.clone()).unwrap_or_default();
            push_envelope(out, if out.len() > self.limit { b"" } else { header });
            out.push(b' ');
            self.push_part(out, nested);
            out.push(b' ');
            push_number(out, part.lines);
        } else if is_text {
            out.push(b' ');
            push_number(out, part.lines);
        }
        if self.extended {
            out.push(b' ');
            push_text(out, fields.md5);
        }
    }
}

/// Disposition, language and location.
fn push_extension(out: &mut Vec<u8>, fields: &Fields<'_>) {
    out.push(b' ');
    let disposition = fields.disposition.map(|field| cut(field.value()));
    match disposition.and_then(ParamValue::parse_disposition) {
        None => push_nstring(out, None),
        Some(value) => {
            out.push(b'(');
            push_string(out, &value.value);
            out.push(b' ');
            push_params(out, Some(&value), None);
            out.push(b')');
        }
    }
    out.push(b' ');
    push_language(out, fields.language);
    out.push(b' ');
    push_text(out, fields.location);
}

fn cut(text: &[u8]) -> &[u8] {
    text.get(..MAX_TEXT).unwrap_or(text)
}

fn push_text(out: &mut Vec<u8>, field: Option<HeaderField<'_>>) {
    let text = field.map(|field| field.unfolded());
    let text = text.as_deref().map(cut);
    push_nstring(out, text.filter(|text| !text.is_empty()));
}

fn push_encoding(out: &mut Vec<u8>, field: Option<HeaderField<'_>>) {
    let token = field.map(|field| {
        let mut lexer = Lexer::new(field.value());
        lexer.skip_cfws();
        lexer.take_while(is_token)
    });
    push_string(
        out,
        token.filter(|token| !token.is_empty()).unwrap_or(b"7bit"),
    );
}

fn push_params(out: &mut Vec<u8>, value: Option<&ParamValue>, default_charset: Option<&str>) {
    let params = value
        .map(|value| value.params.as_slice())
        .unwrap_or_default();
    let charset = default_charset.filter(|_| value.is_none_or(|v| v.param("charset").is_none()));
    if params.is_empty() && charset.is_none() {
        return push_nstring(out, None);
    }
    let charset = charset.map(|charset| (&b"charset"[..], charset.as_bytes()));
    let params = params
        .iter()
        .map(|(name, value)| (name.as_slice(), cut(value)));
    for (at, (name, value)) in params.chain(charset).enumerate() {
        out.push(if at == 0 { b'(' } else { b' ' });
        push_string(out, name);
        out.push(b' ');
        push_string(out, value);
    }
    out.push(b')');
}

/// Language tags, comma separated (RFC 3282 §2).
fn push_language(out: &mut Vec<u8>, field: Option<HeaderField<'_>>) {
    let mut lexer = Lexer::new(field.map_or(&b""[..], |field| cut(field.value())));
    let mut any = false;
    while let Some(byte) = {
        lexer.skip_cfws();
        lexer.peek()
    } {
        let tag = lexer.take_while(is_token);
        if !tag.is_empty() {
            out.push(if any { b' ' } else { b'(' });
            push_string(out, tag);
            any = true;
        } else if byte != 0 {
            lexer.bump();
        }
    }
    if any {
        out.push(b')');
    } else {
        push_nstring(out, None);
    }
}
