//! Busy readers of one instance: every way of reading a secret at once, again and again.
//! `python/readers.py` is the other end, and says what each message means.

use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::manifest::Asked;
use crate::{Pair, Service};

/// All ways: by the name and what leads to it; by what is open; by a mapping.
pub const ALL: &[&str] = &["open", "passed", "inherited", "mapped"];

/// Those that need no name any more.
pub const WITHOUT_NAMES: &[&str] = &["passed", "inherited", "mapped"];

/// A service that runs them.
pub struct Readers {
    service: Service,
}

/// What one way of reading one secret met.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Met {
    /// Reads that gave a value.
    pub goods: u64,
    /// Those among them that gave another value than the round's.
    pub wrong: u64,
    /// A read that began after the revoke had returned gave a value.
    pub good_after: bool,
    /// A read failed before the revoke was asked for.
    pub bad_before: bool,
    /// What the last read gave: an errno's name, a signal's, or nothing.
    pub bad: String,
}

/// What came of a round.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// By `way/secret`.
    pub readers: BTreeMap<String, Met>,
    /// Names whose DELETE the watcher has not heard.
    pub unheard: Vec<String>,
}

impl Readers {
    /// Starts the service.
    #[track_caller]
    pub fn start(pair: &Pair, asked: &Asked) -> Readers {
        let script = include_str!("python/readers.py");
        let asked = asked.clone().command(&["/usr/bin/python3", "-c", script]);
        let mut service = pair.run(&asked);
        assert_eq!(service.line(), "\"watching\"");
        Readers { service }
    }

    fn ask(&mut self, ask: &Value) {
        self.service.write(&ask.to_string());
    }

    #[track_caller]
    fn answer(&mut self) -> Value {
        serde_json::from_str(&self.service.line()).unwrap()
    }

    /// Asks for a round; [`Readers::begun`] waits for it.
    pub fn begin(&mut self, round: u64, secrets: &[(&str, usize)], kinds: &[&str]) {
        let secrets: BTreeMap<&str, usize> = secrets.iter().copied().collect();
        self.ask(&json!({"begin": round, "secrets": secrets, "kinds": kinds}));
    }

    /// Each reader has read each secret.
    #[track_caller]
    pub fn begun(&mut self) {
        assert_eq!(self.answer(), json!("begun"));
    }

    /// Says when a revoke was asked for and had returned, and which names it took away;
    /// [`Readers::report`] waits for the answer.
    pub fn stop(&mut self, (before, after): (u64, u64), gone: &[&str]) {
        self.ask(&json!({"stop": [before, after], "gone": gone}));
    }

    /// Each reader has tried again.
    #[track_caller]
    pub fn report(&mut self) -> Report {
        serde_json::from_value(self.answer()).unwrap()
    }

    /// Has a process of the service hold the lock of /secret, by a file at `path` that is there.
    #[track_caller]
    pub fn lock(&mut self, path: &std::path::Path) {
        self.ask(&json!({"lock": path}));
        assert_eq!(self.answer(), json!("held"));
    }

    /// Ends that.
    #[track_caller]
    pub fn unlock(&mut self) {
        self.ask(&json!({"unlock": 0}));
        assert_eq!(self.answer(), json!("free"));
    }

    /// The service.
    pub fn service(&self) -> &Service {
        &self.service
    }
}

/// What the readers expect a secret to say in a round.
pub fn content(name: &str, round: u64, size: usize) -> String {
    let unit = format!("{name}:{round};");
    let mut all = unit.repeat(size / unit.len() + 1);
    all.truncate(size);
    all
}

/// CLOCK_MONOTONIC in nanoseconds: the same clock for all processes.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}
