//! deploy: what operators type. It asks secretsd over the control socket, and runs services as
//! their supervisor; it links no store and no cipher.
#![forbid(unsafe_code)]

mod arguments;
mod context;
mod failure;
mod names;
mod offline;
mod pairs;
mod prompt;
mod systemd;
mod table;
mod times;
mod unnamed;
mod value;
mod verbs;

use std::process::ExitCode;

fn main() -> ExitCode {
    arguments::parse().map_or_else(|code| code, verbs::run)
}
