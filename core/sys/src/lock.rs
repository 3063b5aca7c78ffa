//! Locks that outlive a panic of their holder.
//!
//! Poisoning would turn one panicked thread into a stop of all the others that take the lock. Our
//! critical sections leave their data whole at each step, so that the next holder may go on.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks, whether or not a former holder panicked.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for reading, whether or not a former holder panicked.
pub fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing, whether or not a former holder panicked.
pub fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_holder_that_panicked_stops_nobody() {
        let mutex = Mutex::new(1);
        let both = RwLock::new(1);
        let panicked = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let _held = (lock(&mutex), write(&both));
                    std::panic::resume_unwind(Box::new(()));
                })
                .join()
        });
        assert!(panicked.is_err() && mutex.is_poisoned() && both.is_poisoned());
        *lock(&mutex) += 1;
        *write(&both) += 1;
        assert_eq!((*lock(&mutex), *read(&both)), (2, 2));
    }
}
