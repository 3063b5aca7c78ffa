//! What is filled and opened: a store of ours, or sled or redb alone with as many records of the same
//! size. Each in a process of its own, so that its memory is its own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use redb::{Database, ReadableTableMetadata as _, TableDefinition};
use serde::{Deserialize, Serialize};
use store::{SecretBytes, Store, Unlock, Value};
use tests::process;

use crate::writes::fresh_store;

/// Bytes of a sealed record of a 64-byte value, and of the secret's head.
pub const RECORDS: [usize; 2] = [164, 250];
/// Bytes that the index puts before a record.
const SEQUENCE: usize = 8;
/// As core/records has it.
const CACHE: usize = 16 << 20;
/// Writers that share syncs.
const WRITERS: u32 = 64;
/// Secrets of one transaction of redb. Smaller ones without a sync, or none but one, leave a file that
/// is many times as large, or hold all of it in memory.
const BATCH: u32 = 5_000;
const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Ours,
    Sled,
    Redb,
}

/// What a process has seen of one.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Seen {
    /// From nothing to all of it there, or from the files to the first record read.
    pub seconds: f64,
    /// Until the index had everything, too.
    pub settled: f64,
    /// MB, when that was done.
    pub resident: f64,
    /// MB, at its highest.
    pub most: f64,
    /// Transactions, and the syncs that acknowledged them.
    pub commits: u64,
    pub syncs: u64,
}

impl Engine {
    pub const ALL: [Engine; 3] = [Engine::Ours, Engine::Sled, Engine::Redb];

    pub fn word(self) -> &'static str {
        match self {
            Engine::Ours => "ours",
            Engine::Sled => "sled",
            Engine::Redb => "redb",
        }
    }

    /// In a process of its own.
    pub fn ask(self, act: &str, folder: &Path, secrets: u32) -> Seen {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["growth-of", self.word(), act]).arg(folder);
        let output = command
            .arg(secrets.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "{self:?} {act}: {}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// The process of [`Engine::ask`].
pub fn serve(engine: &str, act: &str, folder: &str, secrets: &str) {
    let folder = Path::new(folder);
    let secrets = secrets.parse().unwrap();
    let mut seen = match (engine, act) {
        ("ours", "fill") => fill_store(folder, secrets),
        ("ours", _) => open_store(folder, secrets),
        ("sled", "fill") => timed(|| fill_sled(folder, secrets)),
        ("sled", _) => timed(|| open_sled(folder)),
        (_, "fill") => timed(|| fill_redb(folder, secrets)),
        (_, _) => timed(|| open_redb(folder, secrets)),
    };
    seen.most = memory("VmHWM");
    println!("{}", serde_json::to_string(&seen).unwrap());
}

/// MB.
fn memory(line: &str) -> f64 {
    let own = i32::try_from(std::process::id()).unwrap();
    let text = process::status(own, line).unwrap();
    text.trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
}

/// What is given back is held until the memory has been looked at.
fn timed<T>(act: impl FnOnce() -> T) -> Seen {
    let start = Instant::now();
    let held = act();
    let seconds = start.elapsed().as_secs_f64();
    let resident = memory("VmRSS");
    drop(held);
    Seen {
        seconds,
        settled: seconds,
        resident,
        ..Seen::default()
    }
}

fn name(secret: u32) -> model::SecretName {
    format!("secret-{secret}").parse().unwrap()
}

fn fill_store(folder: &Path, secrets: u32) -> Seen {
    let (store, operator) = fresh_store(folder);
    let start = Instant::now();
    std::thread::scope(|threads| {
        for worker in 0..WRITERS {
            let (store, operator) = (&store, &operator);
            threads.spawn(move || {
                for secret in (worker..secrets).step_by(WRITERS as usize) {
                    let value = Value::Single(SecretBytes::new(vec![b'x'; 64]));
                    store
                        .create(operator, &name(secret), value, None, &[])
                        .unwrap();
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    settle(&store);
    let settled = start.elapsed().as_secs_f64();
    let health = store.status().records.unwrap();
    Seen {
        seconds,
        settled,
        resident: memory("VmRSS"),
        most: 0.0,
        commits: health.commits,
        syncs: health.syncs,
    }
}

/// Waits until the index has everything.
fn settle(store: &Store) {
    while store.status().records.unwrap().index_behind > 0 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

fn open_store(folder: &Path, secrets: u32) -> Seen {
    let start = Instant::now();
    let store = Store::open(folder).unwrap();
    store.unseal(Unlock::FileSlots).unwrap();
    assert_eq!(store.status().secrets, u64::from(secrets));
    let seconds = start.elapsed().as_secs_f64();
    settle(&store);
    let seen = Seen {
        seconds,
        settled: start.elapsed().as_secs_f64(),
        resident: memory("VmRSS"),
        ..Seen::default()
    };
    // Takes its key out of root's keyring.
    store.seal();
    seen
}

/// Every record: its name, spread as hashes are, and its bytes.
fn records(secrets: std::ops::Range<u32>) -> impl Iterator<Item = ([u8; 32], Vec<u8>)> {
    secrets.flat_map(|secret| {
        RECORDS.iter().zip(0..).map(move |(bytes, kind)| {
            let mut key = [0; 32];
            let mut word = u64::from(secret) << 1 | kind;
            for part in key.chunks_exact_mut(8) {
                word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
                word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                part.copy_from_slice(&(word ^ word >> 31).to_be_bytes());
            }
            (key, vec![b'x'; SEQUENCE + bytes])
        })
    })
}

fn sled_of(folder: &Path) -> sled::Db {
    let config = sled::Config::new().path(folder);
    let config = config.cache_capacity(CACHE as u64).flush_every_ms(None);
    config.open().unwrap()
}

/// Fills sled alone, as the index is filled.
pub fn fill_sled(folder: &Path, secrets: u32) -> sled::Db {
    let sled = sled_of(folder);
    for (key, bytes) in records(0..secrets) {
        sled.insert(key, bytes).unwrap();
    }
    sled.flush().unwrap();
    sled
}

fn open_sled(folder: &Path) -> sled::Db {
    let sled = sled_of(folder);
    let (key, _) = records(0..1).next().unwrap();
    assert!(sled.get(key).unwrap().is_some());
    sled
}

fn redb_of(folder: &Path) -> Database {
    std::fs::create_dir_all(folder).unwrap();
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder.create(folder.join("redb")).unwrap()
}

/// Durable after each batch.
fn fill_redb(folder: &Path, secrets: u32) -> Database {
    let redb = redb_of(folder);
    for first in (0..secrets).step_by(BATCH as usize) {
        let end = (first + BATCH).min(secrets);
        let write = redb.begin_write().unwrap();
        {
            let mut table = write.open_table(TABLE).unwrap();
            for (key, bytes) in records(first..end) {
                table.insert(&key[..], &bytes[..]).unwrap();
            }
        }
        write.commit().unwrap();
    }
    redb
}

fn open_redb(folder: &Path, secrets: u32) -> Database {
    let redb = redb_of(folder);
    let read = redb.begin_read().unwrap();
    let table = read.open_table(TABLE).unwrap();
    let (key, _) = records(0..1).next().unwrap();
    assert!(table.get(&key[..]).unwrap().is_some());
    assert_eq!(table.len().unwrap(), 2 * u64::from(secrets));
    redb
}
