//! Writers at once: how many changes a second, and how many of them share a sync, beside as many
//! threads that each append and sync for themselves.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use store::{Operator, SecretBytes, SetOptions, Store, Value};

use crate::report::Report;
use crate::writes::fresh_store;

const ROUNDS: usize = 5;
/// Of a journal's frame with one change.
const FRAME: usize = 1024;

pub fn measure(report: &mut Report) {
    let folder = tempfile::tempdir_in(tests::programs::build_folder()).unwrap();
    let (store, operator) = fresh_store(&folder.path().join("store"));
    for (writers, changes) in [(1, 500), (8, 2_000), (64, 8_000)] {
        ours(&store, &operator, writers, writers);
        let before = store.status().records.unwrap();
        let round = |_| {
            (
                ours(&store, &operator, writers, changes),
                bare(folder.path(), writers, changes),
            )
        };
        let rounds: Vec<_> = (0..ROUNDS).map(round).collect();
        let after = store.status().records.unwrap();
        let each = (after.commits - before.commits) as f64 / (after.syncs - before.syncs) as f64;
        let what = format!(
            "changes by {writers} at once ({each:.1} in one sync), against as many that append and \
             fdatasync"
        );
        report.rates(&what, changes, &rounds);
    }
    store.seal();
}

/// How long so many threads take, once all of them are there.
fn by_threads(threads: u32, act: impl Fn(u32, &Barrier) -> Instant + Sync) -> Duration {
    let ready = Barrier::new(threads as usize + 1);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|thread| {
                let (act, ready) = (&act, &ready);
                scope.spawn(move || act(thread, ready))
            })
            .collect();
        ready.wait();
        // We may be let run after some of them have done much: the first of them says when it began.
        let began = all.into_iter().map(|thread| thread.join().unwrap());
        began.min().unwrap().elapsed()
    })
}

fn ours(store: &Store, operator: &Operator, writers: u32, changes: u32) -> Duration {
    by_threads(writers, |writer, ready| {
        let name = format!("secret-{writer}").parse().unwrap();
        ready.wait();
        let began = Instant::now();
        for _ in 0..changes / writers {
            let value = Value::Single(SecretBytes::new(vec![b'x'; 64]));
            store
                .set(operator, &name, value, SetOptions::default())
                .unwrap();
        }
        began
    })
}

/// Each into a file of its own, preallocated as the journal is.
fn bare(folder: &Path, writers: u32, changes: u32) -> Duration {
    by_threads(writers, |writer, ready| {
        let each = (changes / writers) as usize;
        let mut file = File::create(folder.join(format!("yardstick-{writer}"))).unwrap();
        file.write_all(&vec![0; each * FRAME]).unwrap();
        file.sync_all().unwrap();
        file.rewind().unwrap();
        ready.wait();
        let began = Instant::now();
        for _ in 0..each {
            file.write_all(&[b'x'; FRAME]).unwrap();
            file.sync_data().unwrap();
        }
        began
    })
}
