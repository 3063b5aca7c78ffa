//! How much of the log one service may take, so that none of them fills it.

use std::collections::HashMap;

/// A rate that may be exceeded for a while (a token bucket).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Entries a second, for good.
    pub per_second: u32,
    /// Entries at once, after a pause.
    pub burst: u32,
}

/// What an entry costs: a microsecond of `per_second` 1 gives one unit.
const COST: u64 = 1_000_000;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    units: u64,
    at: u64,
}

/// What is left to each service. There are as many as had an instance, which root alone makes.
#[derive(Debug)]
pub(crate) struct Quotas {
    quota: Quota,
    services: HashMap<Box<str>, Bucket>,
}

impl Quotas {
    pub(crate) fn new(quota: Quota) -> Self {
        Self {
            quota,
            services: HashMap::new(),
        }
    }

    /// May an entry of this service be written by itself? `now` in microseconds of any clock that
    /// does not go back.
    pub(crate) fn take(&mut self, service: &str, now: u64) -> bool {
        let most = u64::from(self.quota.burst) * COST;
        let Some(bucket) = self.services.get_mut(service) else {
            let units = most.saturating_sub(COST);
            self.services
                .insert(service.into(), Bucket { units, at: now });
            return most >= COST;
        };
        let gained = now
            .saturating_sub(bucket.at)
            .saturating_mul(self.quota.per_second.into());
        bucket.units = bucket.units.saturating_add(gained).min(most);
        bucket.at = bucket.at.max(now);
        match bucket.units.checked_sub(COST) {
            Some(left) => {
                bucket.units = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota {
        per_second: 3,
        burst: 5,
    };
    const SECOND: u64 = 1_000_000;

    fn taken(quotas: &mut Quotas, service: &str, now: u64) -> usize {
        (0..100).filter(|_| quotas.take(service, now)).count()
    }

    #[test]
    fn a_burst_and_then_the_rate_exactly() {
        let mut quotas = Quotas::new(QUOTA);
        assert_eq!(taken(&mut quotas, "web", 10 * SECOND), 5);
        assert_eq!(taken(&mut quotas, "web", 10 * SECOND + 333_333), 0);
        assert_eq!(taken(&mut quotas, "web", 10 * SECOND + 333_334), 1);
        // In the smallest steps too, nothing is lost to rounding.
        let of_a_second = (1..=SECOND)
            .filter(|step| quotas.take("web", 11 * SECOND + step))
            .count();
        assert!((3..=5).contains(&of_a_second), "{of_a_second}");
        assert_eq!(taken(&mut quotas, "web", 1000 * SECOND), 5);
        // A clock that stands still, or worse.
        assert_eq!(taken(&mut quotas, "web", 5 * SECOND), 0);
    }

    #[test]
    fn one_takes_nothing_from_another() {
        let mut quotas = Quotas::new(QUOTA);
        assert_eq!(taken(&mut quotas, "web", SECOND), 5);
        assert_eq!(taken(&mut quotas, "db", SECOND), 5);
    }
}
