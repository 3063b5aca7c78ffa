//! A limited number of places, for threads and links: whoever finds none is refused or waits elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many at once.
#[derive(Debug, Clone)]
pub struct Places {
    taken: Arc<AtomicUsize>,
    limit: usize,
}

/// One of them, given back when dropped.
#[derive(Debug)]
#[must_use = "a place is given back when this is dropped"]
pub struct Place(Arc<AtomicUsize>);

impl Places {
    /// All free.
    #[must_use]
    pub fn new(limit: usize) -> Places {
        Places {
            taken: Arc::default(),
            limit,
        }
    }

    /// Takes one, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Place> {
        let place = Place(Arc::clone(&self.taken));
        // Given back at once if it is one too many.
        (self.taken.fetch_add(1, Ordering::AcqRel) < self.limit).then_some(place)
    }

    /// Is none free?
    #[must_use]
    pub fn are_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire) >= self.limit
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn there_are_so_many_and_no_more() {
        let places = Places::new(2);
        let (one, other) = (places.take().unwrap(), places.take().unwrap());
        assert!(places.take().is_none() && places.are_taken());
        drop(one);
        assert!(!places.are_taken());
        assert!(places.take().is_some());
        drop(other);
    }
}
