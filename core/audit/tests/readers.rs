//! Who has read which version, as the log knows it, over restarts too.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::time::Duration;

use audit::{Access, Change, Event, Log};
use common::{access, change, fill, open};

#[test]
fn who_reads_which_version_is_known_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    let newer = Access {
        version: 4,
        instance: 8,
        ..access(1)
    };
    fill(&log, 2);
    log.append(&Event::Open(newer), false).unwrap();
    drop(log);
    let (log, _) = open(folder.path());
    let versions = |log: &Log| -> Vec<_> {
        let readers = log.adoption().readers("tls");
        readers
            .iter()
            .map(|one| (one.instance, one.version))
            .collect()
    };
    assert_eq!(versions(&log), [(7, 3), (8, 4)]);
    let waits = log.clone();
    let waiting = std::thread::spawn(move || {
        let all = |readers: &[audit::Reader]| readers.iter().all(|one| one.version >= 4);
        waits.adoption().wait("tls", Duration::from_secs(60), all)
    });
    let up_to_date = Access {
        version: 4,
        ..access(2)
    };
    log.append(&Event::Open(up_to_date), false).unwrap();
    assert_eq!(waiting.join().unwrap().len(), 2);
    log.adoption().ended(7);
    assert_eq!(versions(&log), [(8, 4)]);
}

#[test]
fn who_has_read_long_ago_is_known_again_too_but_for_a_secret_that_was_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    for (unique, secret) in [(1, "tls"), (2, "gone")] {
        let open = Access {
            secret,
            ..access(unique)
        };
        log.append(&Event::Open(open), false).unwrap();
    }
    let deletion = Change {
        act: "secret.delete",
        ..change("gone")
    };
    let segments = || fs::read_dir(folder.path()).unwrap().count();
    let mut unique = 3;
    while segments() < 12 {
        if unique == 500 {
            log.append(&Event::Change(deletion), false).unwrap();
        }
        let other = Access {
            instance: 8,
            secret: "other",
            ..access(unique)
        };
        log.append(&Event::Open(other), false).unwrap();
        unique += 1;
    }
    assert!(unique > 500);
    drop(log);
    let (log, _) = open(folder.path());
    let readers = |secret| log.adoption().readers(secret).len();
    assert_eq!(
        (readers("tls"), readers("gone"), readers("other")),
        (1, 0, 1)
    );
}
