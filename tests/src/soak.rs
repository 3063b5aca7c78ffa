//! Long and short forms of the suites that go in rounds, their seeds, and what the long ones found.
//!
//! `make soak` sets `SOAK`, to a percentage of the long form, and `SOAK_REPORT`, to a file.

use std::io::Write as _;

/// How many rounds to go: `short` in `make test`; `long`, or the part of it asked for, in
/// `make soak`.
pub fn rounds(short: u64, long: u64) -> u64 {
    match std::env::var("SOAK") {
        Ok(percent) => {
            let percent: u64 = percent.parse().expect("SOAK is a percentage");
            (long * percent / 100).max(short)
        }
        Err(_) => short,
    }
}

/// Whether this is `make soak`.
pub fn is_long() -> bool {
    std::env::var_os("SOAK").is_some()
}

/// Writes a line of docs/reliability.md: what held, and how often it was tried.
pub fn tell(suite: &str, seed: Option<u64>, counts: &str) {
    eprintln!("{suite}: {counts}");
    if let Some(report) = std::env::var_os("SOAK_REPORT") {
        let seed = seed.map_or_else(|| "-".to_owned(), |seed| seed.to_string());
        let mut report = std::fs::File::options()
            .append(true)
            .create(true)
            .open(report)
            .unwrap();
        report
            .write_all(format!("| {suite} | {counts} | {seed} |\n").as_bytes())
            .unwrap();
    }
}

/// Numbers that nobody chose, from a seed that is printed to be given again.
#[derive(Debug, Clone)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// From the seed in the environment variable `name`, or from the clock.
    pub fn new(name: &str) -> Random {
        let seed = std::env::var(name).map_or_else(
            |_| {
                std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap()
                    .as_nanos() as u64
            },
            |text| text.parse().unwrap(),
        );
        eprintln!("{name}={seed}");
        Random::of(seed)
    }

    /// From a seed.
    pub fn of(seed: u64) -> Random {
        Random {
            seed,
            state: seed | 1,
        }
    }

    /// The seed that it began with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Below `end`; xorshift64* (Vigna 2016), as the low bits of xorshift64 repeat.
    pub fn below(&mut self, end: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    /// Happens so many times of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A seed for numbers of their own, so that what is drawn here does not depend on how many are
    /// drawn there.
    pub fn next_seed(&mut self) -> u64 {
        self.below(1 << 31)
    }

    /// One of them.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let at = usize::try_from(self.below(all.len() as u64)).unwrap();
        &all[at]
    }

    /// Some of them, at least one, in their order.
    pub fn some_of<'a, T>(&mut self, all: &'a [T]) -> Vec<&'a T> {
        loop {
            let some: Vec<&T> = all.iter().filter(|_| self.below(2) == 0).collect();
            if !some.is_empty() {
                return some;
            }
        }
    }
}
