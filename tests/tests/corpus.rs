//! The corpora of the fuzz targets, replayed: each file as it is, and changed in thousands of ways that
//! are the same each time. The bodies are those of `fuzz/parsers`, which cargo-fuzz runs too.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parsers::{Body, TARGETS};
use peak_alloc::PeakAlloc;
use tests::programs::workspace;
use tests::soak::Random;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;
/// What is measured is of one target at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Changes of each file; ten times as many in `make soak`.
const TRIES: u64 = 300;
/// What a parser may take of memory beside 64 times the bytes it is given: buffers of a fixed size.
const ROOM: usize = 8 << 20;
/// The same of a whole store, which has an index by sled.
const ROOM_OF_A_STORE: usize = 64 << 20;
/// What it may take of time, on a machine that is busy with others.
const PATIENCE: Duration = Duration::from_secs(5);

fn corpus(target: &str) -> PathBuf {
    workspace().join("fuzz/corpus").join(target)
}

fn files(target: &str) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(corpus(target)).unwrap();
    files
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// One run of a body: how much memory and time it takes is bounded by what it is given.
fn run(body: Body, bytes: &[u8], room: usize) -> bool {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let began = Instant::now();
    let taken = body(bytes);
    let (took, peak) = (began.elapsed(), MEMORY.peak_usage());
    let used = peak.saturating_sub(before);
    assert!(
        used <= room + 64 * bytes.len(),
        "{used} bytes of memory for {} bytes",
        bytes.len()
    );
    assert!(took <= PATIENCE, "{took:?} for {} bytes", bytes.len());
    taken
}

/// Replays the files, and gives how many changes of them were tried and taken.
fn replay(
    body: Body,
    files: &BTreeMap<String, Vec<u8>>,
    room: usize,
    tries: u64,
    seed: u64,
) -> (u64, u64) {
    let guarded = |bytes: &[u8], what: &str| guarded(body, bytes, room, what);
    let all: Vec<&Vec<u8>> = files.values().collect();
    let mut random = Random::of(seed);
    let (mut tried, mut taken) = (0, 0);
    // Once first: what a body makes once is none of its memory.
    all.first().iter().for_each(|bytes| _ = body(bytes));
    for (name, bytes) in files {
        let good = guarded(bytes, name);
        assert!(
            good || !name.starts_with("good-"),
            "{name} is refused, and was written by us"
        );
        assert!(!good || !name.starts_with("bad-"), "{name} is taken");
        for number in 0..tries {
            let mut changed = bytes.clone();
            for _ in 0..=random.below(3) {
                change(&mut changed, &all, &mut random);
            }
            tried += 1;
            taken += u64::from(guarded(&changed, &format!("{name}, change {number}")));
        }
    }
    (tried, taken)
}

/// What fails is written down, to be added to the corpus.
fn guarded(body: Body, bytes: &[u8], room: usize, what: &str) -> bool {
    let ran = panic::catch_unwind(AssertUnwindSafe(|| run(body, bytes, room)));
    ran.unwrap_or_else(|panic| {
        fs::write(failed(), bytes).unwrap();
        eprintln!("{what}: the bytes are in {}", failed().display());
        panic::resume_unwind(panic)
    })
}

fn failed() -> PathBuf {
    std::env::temp_dir().join(format!("corpus-{}", std::process::id()))
}

/// One change, as a disk or somebody who writes it makes them.
fn change(bytes: &mut Vec<u8>, all: &[&Vec<u8>], random: &mut Random) {
    let below = |random: &mut Random, end: usize| random.below(end.max(1) as u64) as usize;
    let at = below(random, bytes.len());
    let length = below(random, 64).min(bytes.len() - at);
    match random.below(8) {
        _ if bytes.is_empty() => bytes.push(random.below(256) as u8),
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at] = *random.one_of(&[0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b'{']),
        3 => bytes.truncate(at),
        4 => drop(bytes.drain(at..at + length)),
        5 => {
            let part = bytes[at..at + length].to_vec();
            bytes.splice(at..at, part);
        }
        6 => {
            // A length or a number at its ends.
            let width = length.min(1 << random.below(4));
            let byte = *random.one_of(&[0, 0xff]);
            bytes[at..at + width].fill(byte);
        }
        _ => {
            let other = random.one_of(all);
            let from = below(random, other.len());
            let part = &other[from..other.len().min(from + 1 + below(random, 512))];
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, part.iter().copied());
        }
    }
}

fn check(target: &str) {
    let alone = ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let panics = count_panics();
    let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let files = files(target);
    let good = |name: &&String| name.starts_with("good-");
    assert!(files.keys().any(|name| good(&name)), "no good file");
    assert!(!files.keys().all(|name| good(&name)), "no broken file");
    let room = if target == "restore" {
        ROOM_OF_A_STORE
    } else {
        ROOM
    };
    let tries = tests::soak::rounds(TRIES, 10 * TRIES);
    let seed = 1 + target.len() as u64;
    let (tried, taken) = replay(*body, &files, room, tries, seed);
    // Also one of another thread, which nobody waits for.
    assert_eq!(panics.load(Ordering::Relaxed), 0, "something panicked");
    eprintln!(
        "{target}: {} files, {tried} changes, {taken} of them taken",
        files.len()
    );
    drop(alone);
}

/// Counts panics of all threads from now on.
fn count_panics() -> &'static AtomicU32 {
    static PANICS: AtomicU32 = AtomicU32::new(0);
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            before(info);
        }));
    });
    PANICS.store(0, Ordering::Relaxed);
    &PANICS
}

macro_rules! targets {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            check(stringify!($target));
        })*

        #[test]
        fn every_target_is_replayed_and_fuzzed() {
            let here = [$(stringify!($target)),*];
            assert_eq!(TARGETS.map(|(name, _)| name), here);
            let fuzzed = workspace().join("fuzz/fuzz_targets");
            let mut fuzzed: Vec<_> = fs::read_dir(fuzzed)
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned())
                .collect();
            fuzzed.sort();
            let mut names = here;
            names.sort_unstable();
            assert_eq!(fuzzed, names);
        }
    };
}

targets!(
    manifest,
    journal,
    snapshot,
    record,
    keys_file,
    slot_file,
    store_files,
    backup,
    backup_file,
    restore,
    control_call,
    control_reply,
    inner_message,
    inner_link,
    ctl,
    audit_segment,
    audit_merged
);

/// Bodies that are wrong in the ways that matter are found by the same replay.
#[test]
fn the_replay_finds_a_parser_that_is_wrong() {
    let alone = ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let files = BTreeMap::from([("good-file".to_owned(), b"length 7; seventy".to_vec())]);
    let wrong: [(&str, Body); 3] = [
        ("believes a changed byte at its end", |bytes| {
            let taken = bytes.get(..16) == Some(b"length 7; sevent");
            assert!(!taken || bytes == b"length 7; seventy");
            taken
        }),
        ("makes room for what a length promises", |bytes| {
            let digit = bytes.get(7).copied().unwrap_or(b'0');
            let promised = if digit == b'7' { 7 } else { 64 << 20 };
            std::hint::black_box(Vec::<u8>::with_capacity(promised));
            true
        }),
        ("goes past the end", |bytes| bytes[16] == b'y'),
    ];
    for (what, body) in wrong {
        let found = panic::catch_unwind(|| replay(body, &files, ROOM, 3000, 1));
        assert!(found.is_err(), "not found: a parser that {what}");
    }
    fs::remove_file(failed()).unwrap();
    drop(alone);
}

#[test]
#[ignore = "writes the first files of the corpora, which stay as they are"]
fn make() {
    for made in parsers::making::files() {
        let folder = corpus(made.target);
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(made.name);
        if !path.exists() {
            fs::write(path, made.bytes).unwrap();
        }
    }
}
