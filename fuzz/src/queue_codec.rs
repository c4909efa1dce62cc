//! The queue's records: whatever payload a checksum holds, reading does no harm, and what was read
//! is written so that it reads as the same.

use queue_store::fuzzing;

/// Control: head, page, batch of the log or any value. The rest is the payload.
pub fn run(data: &[u8]) {
    let ([kind], rest) = crate::control(data);
    match kind % 4 {
        0 => fuzzing::head(rest),
        1 => fuzzing::page(rest),
        2 => fuzzing::batch(rest),
        _ => fuzzing::any(rest),
    }
}
