//! What each parser of bytes that we did not write must keep, whatever they are.
//!
//! One function for each parser: cargo-fuzz calls it with what it finds (`fuzz/fuzz_targets`), and
//! `tests/tests/corpus.rs` with the files of `fuzz/corpus` and thousands of changes of them. It says
//! whether the bytes were taken, and panics where more is wrong than that they are refused: what is
//! printed and read again differs, something believed that a MAC or a hash must refuse, a message
//! without a bound.
//!
//! Only public interfaces are called. Files lie in memory.
#![forbid(unsafe_code)]
// Test code: a panic is how a check fails.
#![allow(clippy::unwrap_used)]

mod audit_log;
mod backups;
mod control_socket;
mod ctl;
mod folder;
mod inner;
pub mod making;
mod manifest;
mod records_files;
mod store_folder;

pub use audit_log::{audit_merged, audit_segment};
pub use backups::{backup, backup_file, record, restore};
pub use control_socket::{control_call, control_reply};
pub use ctl::ctl;
pub use inner::{inner_link, inner_message};
pub use manifest::manifest;
pub use records_files::{journal, snapshot};
pub use store_folder::{keys_file, slot_file, store_files};

/// Whether these bytes are taken.
pub type Body = fn(&[u8]) -> bool;

/// Every parser, by the name of its fuzz target and of its folder in `fuzz/corpus`.
pub const TARGETS: [(&str, Body); 17] = [
    ("manifest", manifest),
    ("journal", journal),
    ("snapshot", snapshot),
    ("record", record),
    ("keys_file", keys_file),
    ("slot_file", slot_file),
    ("store_files", store_files),
    ("backup", backup),
    ("backup_file", backup_file),
    ("restore", restore),
    ("control_call", control_call),
    ("control_reply", control_reply),
    ("inner_message", inner_message),
    ("inner_link", inner_link),
    ("ctl", ctl),
    ("audit_segment", audit_segment),
    ("audit_merged", audit_merged),
];

/// The longest text that any refusal has, whatever is refused.
const LONGEST_REFUSAL: usize = 4096;

/// A refusal is told in a few words, which do nothing to a terminal.
fn check_refusal(error: &dyn std::fmt::Display) {
    let words = error.to_string();
    assert!(
        words.len() <= LONGEST_REFUSAL && !words.chars().any(char::is_control),
        "a refusal of {} bytes: {words:?}",
        words.len()
    );
}

/// Reads JSON, and checks that what it says is what comes back from it.
fn json_again<T: serde::Serialize + serde::de::DeserializeOwned>(text: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(text).ok()?;
    let printed = serde_json::to_string(&read).unwrap();
    let again: T = serde_json::from_str(&printed)
        .unwrap_or_else(|error| panic!("what was printed is not read ({error}): {printed}"));
    assert_eq!(serde_json::to_string(&again).unwrap(), printed);
    Some(read)
}
