//! Times of many rounds of the same act.

/// In nanoseconds.
#[derive(Debug, Default, Clone)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    pub fn add(&mut self, nanoseconds: u64) {
        self.0.push(nanoseconds);
    }

    /// In seconds: the smallest that `percent` of them do not exceed.
    pub fn percentile(&self, percent: f64) -> f64 {
        let sorted = self.sorted();
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        let at = rank.max(1) - 1;
        sorted.get(at).map_or(f64::NAN, |one| *one as f64 / 1e9)
    }

    pub fn sorted(&self) -> Vec<u64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted
    }
}

impl From<Vec<u64>> for Latencies {
    fn from(all: Vec<u64>) -> Latencies {
        Latencies(all)
    }
}
