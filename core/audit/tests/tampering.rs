//! What somebody has changed in the log shows, and it goes on behind what is damaged.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use audit::{Anchored, Event, Log, Options, verify};
use common::{PROGRAM, access, copy, fill, lines, open, segments, small, whole};

#[test]
fn a_flipped_bit_shows_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    fill(&log, 100);
    let anchor = log.anchor();
    drop(log);
    let there = segments(folder.path());
    for path in &there {
        let bytes = fs::read(path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        for place in (0..=used).step_by(97) {
            let mut other = bytes.clone();
            other[place] ^= 1 << (place % 8);
            fs::write(path, other).unwrap();
            let verified = verify(folder.path(), None).unwrap();
            assert!(!verified.is_whole(), "{path:?} {place}");
            let anchored = verify(folder.path(), Some(anchor)).unwrap();
            assert!(!anchored.is_whole(), "{path:?} {place}");
        }
        fs::write(path, bytes).unwrap();
    }
    assert!(whole(folder.path(), None));
}

#[test]
fn what_is_cut_moved_or_written_anew_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    fill(&log, 300);
    let early = log.anchor();
    fill(&log, 100);
    let anchor = log.anchor();
    log.sync().unwrap();
    let tampered = |change: &dyn Fn(&Path, &[PathBuf])| {
        let copy = copy(folder.path());
        change(copy.path(), &segments(copy.path()));
        verify(copy.path(), Some(anchor)).unwrap()
    };
    let good = tampered(&|_, _| {});
    assert!(good.is_whole(), "{good:?}");
    for at in 0..segments(folder.path()).len() {
        let gone = tampered(&|_, segments| fs::remove_file(&segments[at]).unwrap());
        assert!(!gone.is_whole(), "without {at}");
    }
    let swapped = tampered(&|_, segments| {
        let (one, other) = (
            fs::read(&segments[0]).unwrap(),
            fs::read(&segments[1]).unwrap(),
        );
        fs::write(&segments[0], other).unwrap();
        fs::write(&segments[1], one).unwrap();
    });
    assert_eq!(swapped.damage.len(), 2, "{swapped:?}");
    let again = tampered(&|folder, segments| {
        let last = segments.last().unwrap();
        let next = folder.join(format!("segment-{:010}", segments.len() + 1));
        fs::copy(last, next).unwrap();
    });
    assert!(!again.is_whole());
    // Entries cut off at the end: nothing inside can tell, the anchor does.
    let cut = tampered(&|_, segments| {
        let path = segments.last().unwrap();
        let size = fs::metadata(path).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(700).unwrap();
        file.set_len(size).unwrap();
    });
    assert_eq!(cut.anchored, Some(Anchored::Cut), "{cut:?}");
    // Another log with as many entries.
    let other = tempfile::tempdir().unwrap();
    let (forged, _) = open(other.path());
    fill(&forged, 400);
    let verified = verify(other.path(), Some(early)).unwrap();
    assert_eq!(
        (verified.damage.len(), verified.anchored),
        (0, Some(Anchored::Differs))
    );
}

#[test]
fn a_segment_that_was_written_anew_with_a_chain_of_its_own_shows_without_an_anchor() {
    let [ours, theirs] = [1, 2].map(|_| {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = open(folder.path());
        fill(&log, 500);
        log.sync().unwrap();
        folder
    });
    let names = segments(ours.path());
    assert!(names.len() > 3);
    for name in names.iter().map(|path| path.file_name().unwrap()) {
        let mixed = copy(ours.path());
        fs::copy(theirs.path().join(name), mixed.path().join(name)).unwrap();
        let verified = verify(mixed.path(), None).unwrap();
        assert!(!verified.is_whole(), "{name:?}");
    }
}

#[test]
fn an_entry_that_was_never_finished_is_cut_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    let path = folder.path().join("segment-0000000001");
    let used = || {
        let bytes = fs::read(&path).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
    };
    // Until one lies over the end of a page: there a kill may end a write.
    let (before, start, boundary) = loop {
        let (before, start) = (log.anchor(), used().next_multiple_of(8));
        fill(&log, 1);
        let boundary = start.next_multiple_of(4096);
        if used() > boundary && boundary > start {
            break (before, start, boundary);
        }
    };
    drop(log);
    let bytes = fs::read(&path).unwrap();
    for length in [start, boundary] {
        let torn = tempfile::tempdir().unwrap();
        let mut part = bytes[..length].to_vec();
        part.resize(bytes.len(), 0);
        fs::write(torn.path().join("segment-0000000001"), part).unwrap();
        assert!(whole(torn.path(), Some(before)), "before it is opened");
        let (log, found) = open(torn.path());
        assert_eq!(found.last, before, "{length}");
        let begun = length > start;
        assert_eq!(!found.damage.is_empty(), begun, "{length}: {found:?}");
        log.append(&Event::Open(access(9)), false).unwrap();
        assert!(whole(torn.path(), Some(before)), "{length}");
        assert_eq!(segments(torn.path()).len(), 1, "it goes on where it was");
        let starts = lines(torn.path(), "start");
        assert_eq!(starts.last().unwrap().get("found").is_some(), begun);
    }
}

#[test]
fn behind_damage_the_log_goes_on_in_another_segment_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    fill(&log, 30);
    drop(log);
    let [path] = &segments(folder.path())[..] else {
        panic!()
    };
    let mut bytes = fs::read(path).unwrap();
    bytes[600] ^= 1;
    fs::write(path, bytes).unwrap();
    let (log, found) = open(folder.path());
    assert!(found.damage.contains("segment 1"), "{found:?}");
    let anchor = log.anchor();
    fill(&log, 10);
    let verified = verify(folder.path(), Some(anchor)).unwrap();
    assert_eq!(verified.anchored, Some(Anchored::Fits));
    assert!(!verified.is_whole());
    assert!(
        verified.damage.iter().all(|one| one.segment <= 2),
        "{verified:?}"
    );
    drop(log);
    let (_, found) = open(folder.path());
    assert_eq!(found.damage, "");
}

#[test]
fn old_segments_go_and_an_anchor_of_them_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let few = Options {
        segments: 3,
        ..small()
    };
    let (log, _) = Log::open(folder.path(), few, PROGRAM).unwrap();
    let old = log.anchor();
    fill(&log, 600);
    let start = Instant::now();
    while segments(folder.path()).len() > 3 {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    let verified = verify(folder.path(), Some(old)).unwrap();
    assert_eq!(
        (&verified.damage[..], verified.anchored),
        (&[][..], Some(Anchored::TooOld))
    );
    assert!(whole(folder.path(), Some(log.anchor())));
}
