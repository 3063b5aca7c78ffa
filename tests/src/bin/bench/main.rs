//! `make bench`: each figure beside its yardstick from the same run, as a table of Markdown.
//!
//! A figure is a ratio: machines differ, and the same machine differs from hour to hour. Nothing is
//! asserted here, and no test looks at a time.
#![forbid(unsafe_code)]
// A bench that meets what it does not expect ends with a panic, and takes its traces away.
#![allow(clippy::unwrap_used)]

mod key_rotation;
mod pin;
mod reader;
mod reads;
mod report;
mod start;
mod writes;

use std::process::ExitCode;

use report::Report;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        // The service whose reads are measured.
        Some("reader") => {
            reader::serve();
            return ExitCode::SUCCESS;
        }
        Some(_) => {
            eprintln!("usage: bench");
            return ExitCode::from(2);
        }
    }
    let mut report = Report::start();
    reads::measure(&mut report);
    writes::measure(&mut report);
    start::measure(&mut report);
    key_rotation::measure(&mut report);
    report.end();
    ExitCode::SUCCESS
}
