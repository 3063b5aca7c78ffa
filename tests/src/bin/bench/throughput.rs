//! How many opens a second, from threads and from processes at once.

use std::time::Duration;

use crate::reader::Order;
use crate::report::Report;
use crate::stage::{Reader, SECRET, Stage};

/// Few enough that each is an entry of the audit log.
const OPENS: u32 = 8_000;
const ROUNDS: usize = 5;

pub fn measure(report: &mut Report) {
    let stage = Stage::start();
    let yardstick = stage.yardstick();
    let ask = |reader: &mut Reader, path: &str, (threads, processes)| {
        reader.ask::<Duration>(&Order::Throughput {
            path: path.into(),
            opens: OPENS,
            threads,
            processes,
        })
    };
    for (who, what) in [
        ((1, 0), "1 thread"),
        ((2, 0), "2 threads"),
        ((8, 0), "8 threads"),
        ((0, 8), "8 processes"),
    ] {
        let (threads, processes) = who;
        let round = |round| {
            // Another service each time, for a quota that is not used up.
            let mut reader = stage.reader(&format!("reader-{threads}-{processes}-{round}"));
            let ours = ask(&mut reader, SECRET, who);
            (ours, ask(&mut reader, &yardstick, who))
        };
        let pairs: Vec<_> = (0..ROUNDS).map(round).collect();
        report.rates(&format!("opens from {what}, an entry each"), OPENS, &pairs);
    }
}
