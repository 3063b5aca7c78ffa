//! The tables that are printed.

use std::time::Duration;

use crate::latency::Latencies;

/// Figures, printed as they come.
pub struct Report {
    head: &'static str,
}

const PAIRS: &str = "| what | ours | yardstick | ratio | goal |\n|---|---|---|---|---|";
const TIMES: &str = "| what | p50 | p99 | longest | goal |\n|---|---|---|---|---|";
const BESIDE: &str =
    "| what | p50 | p99 | quiet p99 | ratio of p99 | goal |\n|---|---|---|---|---|---|";
const ENGINES: &str = "| what | ours | sled alone | redb alone | ours to sled | sled to redb |\n|---|---|---|---|---|---|";
const FIGURES: &str = "| what | figure | goal |\n|---|---|---|";

impl Report {
    /// Says what machine this is.
    pub fn start() -> Report {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        println!("Linux {}, {processors} processors", kernel.trim());
        Report { head: "" }
    }

    fn table(&mut self, head: &'static str) {
        if self.head != head {
            self.head = head;
            println!("\n{head}");
        }
    }

    /// A figure and its yardstick: medians of the pairs, and the median of their ratios.
    pub fn pairs(&mut self, what: &str, goal: &str, pairs: &[(Duration, Duration)]) {
        self.table(PAIRS);
        let (ours, yardstick, ratio) = medians(pairs);
        let (ours, yardstick) = (time(ours), time(yardstick));
        println!("| {what} | {ours} | {yardstick} | {ratio:.2} | {goal} |");
    }

    /// How many a second, from the time that `count` took.
    pub fn rates(&mut self, what: &str, count: u32, pairs: &[(Duration, Duration)]) {
        self.table(PAIRS);
        let (ours, yardstick, ratio) = medians(pairs);
        let rate = |seconds: f64| f64::from(count) / seconds;
        let (ours, yardstick) = (rate(ours), rate(yardstick));
        println!("| {what} | {ours:.0} a second | {yardstick:.0} a second | {ratio:.2} |  |");
    }

    /// Times of many rounds.
    pub fn times(&mut self, what: &str, goal: &str, all: &Latencies) {
        self.table(TIMES);
        let [p50, p99, longest] = [50.0, 99.0, 100.0].map(|p| time(all.percentile(p)));
        println!("| {what} | {p50} | {p99} | {longest} | {goal} |");
    }

    /// Times beside something, against quiet ones.
    pub fn beside(&mut self, what: &str, goal: &str, all: &Latencies, quiet: &Latencies) {
        self.table(BESIDE);
        let [p50, p99] = [50.0, 99.0].map(|p| all.percentile(p));
        let calm = quiet.percentile(99.0);
        let ratio = p99 / calm;
        let (p50, p99, calm) = (time(p50), time(p99), time(calm));
        println!("| {what} | {p50} | {p99} | {calm} | {ratio:.2} | {goal} |");
    }

    /// A figure of each store, and two ratios.
    pub fn engines(&mut self, what: &str, figures: &[String; 5]) {
        self.table(ENGINES);
        println!("| {what} | {} |", figures.join(" | "));
    }

    /// One figure.
    pub fn figure(&mut self, what: &str, goal: &str, figure: &str) {
        self.table(FIGURES);
        println!("| {what} | {figure} | {goal} |");
    }

    /// Says how to read it.
    pub fn end(self) {
        println!(
            "\nOf pairs, each figure is a median, and each ratio the median of the ratios of pairs \
             measured in turn."
        );
    }
}

fn medians(pairs: &[(Duration, Duration)]) -> (f64, f64, f64) {
    let median_of = |figure: fn(f64, f64) -> f64| {
        let figures = pairs.iter();
        median(figures.map(|(ours, other)| figure(ours.as_secs_f64(), other.as_secs_f64())))
    };
    (
        median_of(|ours, _| ours),
        median_of(|_, other| other),
        median_of(|ours, other| ours / other),
    )
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Seconds as people write them.
pub fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.2} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
