//! RFC 5322 messages: walking, summaries for IMAP, header edits and delivery status notifications.
