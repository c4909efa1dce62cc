//! IMAP types, parser, encoder and session as a sans-IO state machine (RFC 3501).
