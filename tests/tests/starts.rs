//! Services that are started while secretsd and the injector die.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use rustix::process::Signal;
use tests::manifest::Asked;
use tests::soak::{Random, rounds};
use tests::traces::signal;
use tests::{Pair, process};

#[test]
fn a_service_that_is_started_while_secretsd_dies_starts_all_the_same() {
    let pair = Pair::start();
    pair.set("key", "value");
    pair.grant("web", &["key"]);
    let asked = Asked::service("web")
        .secrets(&["key"])
        .command(&["/bin/cat", "/secret/key"]);
    let mut random = Random::new("START_SEED");
    let mut failed = Vec::new();
    for _ in 0..rounds(8, 300) {
        let moment = Duration::from_micros(random.below(20_000));
        let done = std::thread::scope(|threads| {
            let starting = threads.spawn(|| pair.run_to_end(&asked));
            std::thread::park_timeout(moment);
            let secretsd = pair.secretsd();
            signal(secretsd, Signal::KILL, Duration::ZERO);
            process::goes(secretsd);
            starting.join().unwrap()
        });
        if done.code != 0 || done.out() != "value" {
            failed.push(done.to_string());
        }
    }
    assert_eq!(failed, [""; 0]);
}
