//! POP3 as a sans-IO state machine (RFC 1939, 2449, 2595, 5034).
