//! The process that holds a store while its disk fails: does what each line of standard input says,
//! answers a line each, and ends with its input. Started by the suites; see `tests::trial`.
#![forbid(unsafe_code)]
// What it does not expect ends it, and its test fails.
#![allow(clippy::unwrap_used)]

mod held;
mod in_store;

use std::collections::HashMap;
use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use held::Held;
use tests::trial::{Answer, Op, Order};

fn main() {
    std::panic::set_hook(Box::new(say_panic));
    let mut held: Option<Arc<Held>> = None;
    let mut lanes: HashMap<u32, Sender<Op>> = HashMap::new();
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match (serde_json::from_str(&line).unwrap(), &held) {
            (Order::Init(folder, target), _) => match Held::init(folder.as_ref(), target) {
                Ok(()) => say(&Answer::Done(0)),
                Err(why) => say(&Answer::Failed(0, why)),
            },
            (Order::Open(folder, target), _) => match Held::open(folder.as_ref(), target) {
                Ok((opened, found, id)) => {
                    held = Some(Arc::new(opened));
                    say(&Answer::Opened { found, id });
                }
                Err(why) => say(&Answer::Refused(why)),
            },
            (Order::Do(lane, op), Some(held)) => {
                let held = held.clone();
                let lane = lanes.entry(lane).or_insert_with(|| begin(lane, held));
                lane.send(op).unwrap();
            }
            (Order::Tell, Some(held)) => say(&Answer::Lines(held.lines())),
            (Order::Health, Some(held)) => say(&Answer::Health(held.troubles())),
            (Order::Close, Some(held)) => {
                held.close();
                say(&Answer::Closed);
            }
            (_, None) => panic!("nothing is open"),
        }
    }
    // Whoever gave the orders is gone. What it would have taken away, nobody else does.
    if let Some(held) = held {
        held.forget_keys();
    }
    std::process::exit(0);
}

/// A thread that does one change after another.
fn begin(lane: u32, held: Arc<Held>) -> Sender<Op> {
    let (sender, ops) = channel();
    std::thread::spawn(move || {
        for op in ops {
            match held.change(&op) {
                Ok(()) => say(&Answer::Done(lane)),
                Err(why) => say(&Answer::Failed(lane, why)),
            }
        }
    });
    sender
}

/// Nobody may be told of what a killed process had in a buffer, so each line is written at once.
fn say(answer: &Answer) {
    let mut line = serde_json::to_string(answer).unwrap();
    line.push('\n');
    let mut out = std::io::stdout().lock();
    if out
        .write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        std::process::exit(1);
    }
}

fn say_panic(info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let words = info.payload();
    let words = words
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| words.downcast_ref::<&str>().copied());
    say(&Answer::Panicked {
        sled: place.contains("/sled-"),
        text: format!("{place}: {}", words.unwrap_or("?")),
    });
}
