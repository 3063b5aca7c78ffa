//! `make bench`: each figure beside its yardstick from the same run, as tables of Markdown, and
//! distributions in docs/plots.
//!
//! A figure is a ratio where there is a yardstick: machines differ, and the same machine differs from
//! hour to hour. Nothing is asserted here, and no test looks at a time.
//!
//! `bench TOPIC...` measures those alone; SCALE in the environment is how many instances `scale` makes,
//! SECRETS how many `import` brings in, RECORDS the most records of `growth`.
#![forbid(unsafe_code)]
// A bench that meets what it does not expect ends with a panic, and takes its traces away.
#![allow(clippy::unwrap_used)]

mod changes;
mod fence;
mod growth;
mod import;
mod key_rotation;
mod latency;
mod pin;
mod plot;
mod reader;
mod reads;
mod report;
mod scale;
mod slow_disk;
mod stage;
mod stalls;
mod start;
mod throughput;
mod tricks;
mod writers;
mod writes;

use std::process::ExitCode;

use report::Report;

/// A topic's name, and what measures it.
type Topic = (&'static str, fn(&mut Report));

/// What is measured, in the order of the tables.
const TOPICS: &[Topic] = &[
    ("reads", reads::measure),
    ("throughput", throughput::measure),
    ("writes", writes::measure),
    ("writers", writers::measure),
    ("start", start::measure),
    ("key-rotation", key_rotation::measure),
    ("import", import::measure),
    ("growth", growth::measure),
    ("changes", changes::measure),
    ("stalls", stalls::measure),
    ("fence", fence::measure),
    ("slow-disk", slow_disk::measure),
    ("scale", scale::measure),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        // The service that is measured.
        ["reader"] => {
            reader::serve();
            return ExitCode::SUCCESS;
        }
        ["growth-of", engine, act, folder, secrets] => {
            growth::serve(engine, act, folder, secrets);
            return ExitCode::SUCCESS;
        }
        ["opens", path, count] => {
            reader::opens(path, count);
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let is_topic = |word: &&str| TOPICS.iter().any(|(topic, _)| topic == word);
    if !words.iter().all(is_topic) {
        let topics: Vec<_> = TOPICS.iter().map(|(topic, _)| *topic).collect();
        eprintln!("usage: bench [TOPIC...], of: {}", topics.join(" "));
        return ExitCode::from(2);
    }
    let mut report = Report::start();
    for (topic, measure) in TOPICS {
        if words.is_empty() || words.contains(topic) {
            measure(&mut report);
        }
    }
    report.end();
    ExitCode::SUCCESS
}
