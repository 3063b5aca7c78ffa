//! The service that reads: runs in an instance, as its user, and times what it is asked to.

use std::io::BufRead as _;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::pin;

/// What is timed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Act {
    /// open, read to the end, close.
    Open,
    /// pread on a descriptor that stays open.
    Pread,
}

/// One line of standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    /// What to do.
    pub act: Act,
    /// On which file.
    pub ours: String,
    /// And on which other one, in turn.
    pub yardstick: String,
    /// On which processor.
    pub processor: usize,
    /// How many pairs.
    pub pairs: usize,
    /// How many acts each half of a pair has.
    pub acts: u32,
}

/// Answers a line of JSON to each order: the time of one act of each half, for each pair.
pub fn serve() {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let order: Order = serde_json::from_str(&line).unwrap();
        pin::this_thread(order.processor);
        time(order.act, &order.ours, order.acts);
        let pairs: Vec<(Duration, Duration)> = (0..order.pairs)
            .map(|_| {
                let ours = time(order.act, &order.ours, order.acts);
                (ours, time(order.act, &order.yardstick, order.acts))
            })
            .collect();
        println!("{}", serde_json::to_string(&pairs).unwrap());
    }
}

fn time(act: Act, path: &str, acts: u32) -> Duration {
    let mut buffer = [0; 4096];
    let open = || rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let held = open();
    let start = Instant::now();
    for _ in 0..acts {
        match act {
            Act::Open => {
                let file = open();
                assert!(rustix::io::read(&file, &mut buffer).unwrap() > 0);
            }
            Act::Pread => assert!(rustix::io::pread(&held, &mut buffer, 0).unwrap() > 0),
        }
    }
    start.elapsed() / acts
}
