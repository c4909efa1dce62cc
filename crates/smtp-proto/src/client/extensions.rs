use crate::Reply;

/// What the server offers (RFC 5321 §4.1.1.1 `ehlo-ok-rsp`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is an extension of its own"
)]
pub struct Extensions {
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// SASL mechanisms, upper case (RFC 4954).
    pub auth: Vec<String>,
    /// RFC 3030.
    pub binary_mime: bool,
    /// BDAT (RFC 3030).
    pub chunking: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 2920.
    pub pipelining: bool,
    /// SIZE (RFC 1870), with the largest message in octets if the server says one.
    pub size: Option<Option<u64>>,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3207.
    pub starttls: bool,
}

impl Extensions {
    /// Reads the positive reply to EHLO.
    pub fn from_reply(reply: &Reply) -> Self {
        let mut extensions = Self::default();
        for line in reply.lines().skip(1) {
            extensions.add(line);
        }
        extensions
    }

    fn add(&mut self, line: &str) {
        // Some servers write the obsolete form "AUTH=LOGIN PLAIN".
        let split = line.find([' ', '=']).unwrap_or(line.len());
        let (keyword, params) = line.split_at(split);
        let mut params = params
            .trim_start_matches([' ', '='])
            .split_ascii_whitespace();
        match keyword.to_ascii_uppercase().as_str() {
            "8BITMIME" => self.eight_bit_mime = true,
            "AUTH" => {
                for name in params.map(str::to_ascii_uppercase) {
                    if !self.auth.contains(&name) {
                        self.auth.push(name);
                    }
                }
            }
            "BINARYMIME" => self.binary_mime = true,
            "CHUNKING" => self.chunking = true,
            "DSN" => self.dsn = true,
            "PIPELINING" => self.pipelining = true,
            "SIZE" => {
                let limit = params.next().and_then(|digits| digits.parse().ok());
                // RFC 1870 §4: 0 is no limit.
                self.size = Some(limit.filter(|limit| *limit > 0));
            }
            "SMTPUTF8" => self.smtputf8 = true,
            "STARTTLS" => self.starttls = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReplyCode;

    #[test]
    fn reads_what_servers_offer() {
        let reply = Reply::bare(ReplyCode::OK, "mx.test STARTTLS")
            .with_line("pipelining")
            .with_line("SIZE 1000")
            .with_line("AUTH PLAIN login")
            .with_line("AUTH=LOGIN")
            .with_line("x-unknown 1 2");
        let offered = Extensions::from_reply(&reply);
        assert!(offered.pipelining && !offered.starttls && !offered.dsn);
        assert_eq!(offered.size, Some(Some(1000)));
        assert_eq!(offered.auth, ["PLAIN", "LOGIN"]);
        for (line, size) in [
            ("SIZE", None),
            ("SIZE 0", None),
            ("SIZE x", None),
            ("SIZE 99999999999999999999999", None),
        ] {
            let reply = Reply::bare(ReplyCode::OK, "x").with_line(line);
            assert_eq!(Extensions::from_reply(&reply).size, Some(size));
        }
    }
}
