//! How long a reader waits when secretsd is killed.

use std::time::Duration;

use rustix::process::Signal;
use tests::readers::now;
use tests::{traces, wait};

use crate::latency::Latencies;
use crate::plot::Plot;
use crate::reader::Order;
use crate::report::Report;
use crate::stage::{SECRET, Stage};

const KILLS: usize = 100;

pub fn measure(report: &mut Report) {
    let stage = Stage::start();
    let mut reader = stage.reader("reader");
    let mut other = stage.reader("other");
    reader.tell(&Order::Stalls {
        path: SECRET.into(),
    });
    let mut kills = Vec::new();
    for _ in 0..KILLS {
        let secretsd = stage.pair.secretsd();
        kills.push(now());
        traces::signal(secretsd, Signal::KILL, wait::LONG);
        wait::until("its successor", || {
            Some(stage.pair.secretsd()).filter(|next| *next != secretsd)
        });
        // It serves when it has answered an open; and it has some time to itself.
        let path = SECRET.into();
        let every = Duration::ZERO;
        let _: Vec<u64> = other.ask(&Order::Latencies {
            path,
            opens: 1,
            every,
        });
        std::thread::sleep(Duration::from_millis(50));
    }
    let (long, opens): (Vec<(u64, u64)>, u64) = reader.ends();
    let mut stalls = Latencies::default();
    for (at, kill) in kills.iter().enumerate() {
        let next = kills.get(at + 1).copied().unwrap_or(u64::MAX);
        let met = long
            .iter()
            .filter(|(begin, end)| *end > *kill && *begin < next);
        let longest = met.map(|(begin, end)| end - begin).max();
        stalls.add(longest.unwrap_or(0));
    }
    let what =
        format!("the longest of a reader's opens at each of {KILLS} SIGKILLs, of {opens} opens");
    report.times(&what, "", &stalls);
    let mut plot = Plot::new("Stall", "the longest open at each SIGKILL of secretsd");
    plot.line("open, read, close", &stalls);
    plot.write("stall");
}
