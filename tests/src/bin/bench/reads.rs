//! What a read of a view costs a service, beside the same read of a file on tmpfs. The audit log is
//! on, as always: a service's first 10,000 opens are entries of their own, later ones are counted.

use std::time::Duration;

use crate::pin;
use crate::reader::{Act, Order};
use crate::report::Report;
use crate::stage::{Reader, SECRET, Stage};

const PAIRS: usize = 21;
/// Few enough that each is an entry.
const ENTRIES: u32 = 400;
const MANY: u32 = 2_000;
const PROCESSES: u32 = 20;

pub fn measure(report: &mut Report) {
    let stage = Stage::start();
    let yardstick = stage.yardstick();
    let ask = |reader: &mut Reader, act, ours: &str, processor, acts| {
        reader.ask::<Vec<(Duration, Duration)>>(&Order::Pairs {
            act,
            ours: ours.into(),
            yardstick: yardstick.clone(),
            processor,
            pairs: PAIRS,
            acts,
        })
    };
    let two = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);

    let free = ask(
        &mut stage.reader("process"),
        Act::Process,
        SECRET,
        None,
        PROCESSES,
    );
    report.pairs("secret: a new `cat` for each open", "", &free);
    pin::process(stage.pair.secretsd(), 0);
    let mut pinned = stage.reader("pinned");
    let same = "secret: open, read, close, an entry each; reader and secretsd on one processor";
    let pairs = ask(&mut pinned, Act::Open, SECRET, Some(0), ENTRIES);
    report.pairs(same, "8", &pairs);
    let pairs = ask(&mut pinned, Act::Open, SECRET, Some(0), MANY);
    report.pairs("secret: the same, counted", "8", &pairs);
    if two {
        let what = "secret: the same, an entry each, on two processors";
        let mut other = stage.reader("other");
        let pairs = ask(&mut other, Act::Open, SECRET, Some(1), ENTRIES);
        report.pairs(what, "", &pairs);
    }
    let mut held = |what: &str, goal, act, ours| {
        report.pairs(what, goal, &ask(&mut pinned, act, ours, Some(0), MANY));
    };
    let what = "secret: pread on a held descriptor";
    held(what, "1.0", Act::Pread, SECRET);
    let what = "config: open, read, close";
    held(what, "1.8", Act::Open, "/config/key");
    let what = "config: pread on a held descriptor";
    held(what, "1.0", Act::Pread, "/config/key");
}
