//! Line ends: CRLF in the store, LF in files.

/// CRLF becomes LF, if that can be undone; what cannot be is written as it is.
pub(crate) fn to_file(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len());
    let mut before = (0, 0);
    for octet in content {
        if *octet == b'\n' {
            match before {
                (b'\r', b'\r') => return content.to_vec(),
                (_, b'\r') => drop(out.pop()),
                _ => return content.to_vec(),
            }
        }
        out.push(*octet);
        before = (before.1, *octet);
    }
    out
}

/// The other way. A file whose first line ends with CRLF is taken as it is.
pub(crate) fn from_file(file: &[u8]) -> Vec<u8> {
    let first = file.iter().position(|octet| *octet == b'\n');
    let has_crlf = first
        .and_then(|at| at.checked_sub(1))
        .and_then(|at| file.get(at))
        .is_some_and(|octet| *octet == b'\r');
    if has_crlf {
        return file.to_vec();
    }
    let mut out = Vec::with_capacity(file.len() + file.len() / 32);
    let mut before = 0;
    for octet in file {
        if *octet == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(*octet);
        before = *octet;
    }
    out
}

/// Each line with its end.
pub(crate) fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|octet| *octet == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for text in [
            "",
            "a",
            "a\r\n",
            "a\r\n\r\nb",
            "a\r\nb\n",
            "a\r\n\r\r\nb\r\n",
            "\r\n",
            "a\rb\r\n",
        ] {
            assert_eq!(
                from_file(&to_file(text.as_bytes())),
                text.as_bytes(),
                "{text:?}"
            );
        }
        assert_eq!(to_file(b"a\r\nb\r\n"), b"a\nb\n");
        assert_eq!(from_file(b"a\nb\r\nc\n"), b"a\r\nb\r\nc\r\n");
    }
}
