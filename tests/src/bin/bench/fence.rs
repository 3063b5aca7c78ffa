//! What a service that floods secretsd with opens does to its neighbour's opens; beside one that keeps
//! a processor as busy with a file on tmpfs.

use std::time::Duration;

use crate::latency::Latencies;
use crate::plot::Plot;
use crate::reader::Order;
use crate::report::Report;
use crate::stage::{SECRET, Stage};

const OPENS: u32 = 3_000;
const EVERY: Duration = Duration::from_millis(1);

pub fn measure(report: &mut Report) {
    let stage = Stage::start();
    let mut neighbour = stage.reader("neighbour");
    let mut flooder = stage.reader("flooder");
    let mut opens = || {
        let path = SECRET.into();
        let taken: Vec<u64> = neighbour.ask(&Order::Latencies {
            path,
            opens: OPENS,
            every: EVERY,
        });
        Latencies::from(taken)
    };
    let yardstick = stage.yardstick();
    let mut plot = Plot::new(
        "Fence",
        "a neighbour's open, read and close, one each millisecond",
    );
    let quiet = opens();
    report.times(
        "fence: a neighbour's open, read and close, quiet",
        "",
        &quiet,
    );
    plot.line("quiet", &quiet);
    let tmpfs = yardstick.as_str();
    for (what, path, tricks, per_second, goal) in [
        ("10,000 opens a second", SECRET, false, Some(10_000), "3"),
        ("opens without a pause", SECRET, false, None, "3"),
        ("every trick without a pause", SECRET, true, None, "3"),
        (
            "opens on tmpfs, which reach no secretsd",
            tmpfs,
            false,
            None,
            "",
        ),
    ] {
        let path: String = path.into();
        flooder.tell(&Order::Flood {
            path,
            tricks,
            per_second,
        });
        std::thread::sleep(Duration::from_millis(200));
        let taken = opens();
        let flooded: u64 = flooder.ends();
        let what = format!("fence: beside {what} ({flooded} in all)");
        report.beside(&what, goal, &taken, &quiet);
        plot.line(&what, &taken);
    }
    plot.write("fence");
}
