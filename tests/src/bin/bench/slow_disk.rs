//! Opens beside a writer on a disk whose syncs are slow: an open waits for none of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tests::Varlink;
use tests::powercut::Disk;
use tests::readers::now;

use crate::latency::Latencies;
use crate::reader::Order;
use crate::report::Report;
use crate::stage::{SECRET, Stage, VALUE};

/// What each sync of the store takes.
const SYNC: Duration = Duration::from_millis(50);
const EVERY: Duration = Duration::from_millis(1);
const WRITES: usize = 60;
const OPENS: u32 = 4_000;

pub fn measure(report: &mut Report) {
    let disk = Disk::new();
    let stage = Stage::start_on(&disk);
    let mut reader = stage.reader("reader");
    let path = || SECRET.to_owned();
    let quiet: Vec<u64> = reader.ask(&Order::Latencies {
        path: path(),
        opens: OPENS,
        every: EVERY,
    });
    let quiet = Latencies::from(quiet);

    let held = disk.hold_syncs(|path| path.contains("gen-"));
    let ends = AtomicBool::new(false);
    let mut writes = Latencies::default();
    let beside: Vec<u64> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Ordering::Relaxed) {
                held.after(SYNC);
            }
        });
        reader.tell(&Order::Paced {
            path: path(),
            every: EVERY,
        });
        let mut control = Varlink::connect(&stage.pair);
        for _ in 0..WRITES {
            let begin = now();
            let other = json!({"name": "other", "value": VALUE});
            control.call("io.deploy.Secrets.Set", other).unwrap();
            writes.add(now() - begin);
        }
        ends.store(true, Ordering::Relaxed);
        reader.ends()
    });
    drop(held);
    let what = "`secret set` on a disk whose syncs take 0 to 50 ms";
    report.times(what, "", &writes);
    let beside = Latencies::from(beside);
    report.beside(
        "opens of another secret meanwhile, one each millisecond",
        "1",
        &beside,
        &quiet,
    );
}
