//! The table that is printed.

use std::time::Duration;

/// Figures, printed as they come.
pub struct Report;

impl Report {
    /// Says what machine this is, and begins the table.
    pub fn start() -> Report {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        println!("Linux {}, {processors} processors\n", kernel.trim());
        println!("| what | ours | yardstick | ratio | goal |");
        println!("|---|---|---|---|---|");
        Report
    }

    /// A figure and its yardstick: medians of the pairs, and the median of their ratios.
    pub fn pairs(&mut self, what: &str, goal: &str, pairs: &[(Duration, Duration)]) {
        let ours = median(pairs.iter().map(|(ours, _)| ours.as_secs_f64()));
        let yardstick = median(pairs.iter().map(|(_, other)| other.as_secs_f64()));
        let ratio = median(
            pairs
                .iter()
                .map(|(ours, other)| ours.as_secs_f64() / other.as_secs_f64()),
        );
        let (ours, yardstick) = (time(ours), time(yardstick));
        println!("| {what} | {ours} | {yardstick} | {ratio:.2} | {goal} |");
    }

    /// Ends the table.
    pub fn end(self) {
        println!("\nMedians; each ratio is the median of the ratios of pairs measured in turn.");
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.2} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
