//! Client side of one SMTP conversation (RFC 5321 §4).
