//! Harness of the suites and of the demo: a pair of secretsd and deploy-inject in folders of its
//! own, services under it, a terminal for prompts, and the way to leave nothing behind.
//!
//! It builds nothing: `cargo build --workspace` (or `make test`) comes first.
#![forbid(unsafe_code)]
// Test code: a panic is how a check fails.
#![allow(clippy::unwrap_used)]

pub mod claim;
pub mod command;
mod connections;
pub mod guest;
pub mod host;
pub mod interrupt;
pub mod manifest;
pub mod nginx;
mod operator;
pub mod pair;
pub mod peers;
pub mod powercut;
pub mod probe;
pub mod process;
pub mod programs;
pub mod reader;
pub mod readers;
pub mod recipe;
pub mod redis;
pub mod service;
pub mod soak;
pub mod target;
pub mod terminal;
pub mod traces;
pub mod trial;
pub mod varlink;
pub mod wait;
pub mod watcher;

pub use command::Finished;
pub use guest::Guest;
pub use host::Host;
pub use pair::Pair;
pub use probe::{Answer, Ask, Probe};
pub use service::Service;
pub use target::OwnPlace;
pub use terminal::Terminal;
pub use varlink::Varlink;
