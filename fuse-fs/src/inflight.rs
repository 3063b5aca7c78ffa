//! Requests that are being answered, in memory that outlives this process.
//!
//! A request in which a process ended is sent again, to the next one. If it is the request that
//! crashes its handler, that goes on for ever: so a request that was under way when two processes
//! ended is answered with EIO. Words of the memfd's second part:
//!
//! | words | what |
//! |---|---|
//! | 0 | the highest number of a request that was noted |
//! | 8..136 | 32 requests under way: number (0: none), inode, opcode, unused |
//! | 256..320 | the last 64 requests during which a process ended, by number |
//!
//! A request's number here is the kernel's `unique`. When it is sent again, bit 63 is set in it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sys::shared::{SharedWords, WORDS};

use crate::inode::Ino;

/// FUSE_UNIQUE_RESEND (linux/fuse.h).
pub(crate) const RESENT: u64 = 1 << 63;
/// A multiple of every page size, and beyond what tells how the connection began.
const OFFSET: u64 = 64 * 1024;
const UNDER_WAY: std::ops::Range<usize> = 8..136;
const SLOT: usize = 4;
const SUSPECTS: std::ops::Range<usize> = 256..320;
const _: () = assert!(SUSPECTS.end <= WORDS);

/// What is asked; the numbers are the kernel's opcodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Opcode {
    Lookup = 1,
    Getattr = 3,
    Open = 14,
    Read = 15,
    Write = 16,
    Readdir = 28,
    Readdirplus = 44,
}

/// The requests of one connection.
#[derive(Debug)]
pub(crate) struct InFlight(SharedWords);

/// A request that was under way when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// As the kernel sent it last.
    pub unique: u64,
    pub ino: Ino,
    pub opcode: u32,
    /// Another process has ended in it already.
    pub again: bool,
}

/// A request is under way until this is dropped, or the process ends.
pub(crate) struct Noted {
    all: Arc<InFlight>,
    /// `None`: there was no room.
    slot: Option<usize>,
}

impl InFlight {
    /// Of the connection that the memfd belongs to.
    pub fn of(memfd: &OwnedFd) -> io::Result<InFlight> {
        Ok(InFlight(SharedWords::map(memfd, OFFSET)?))
    }

    /// Notes a request, before anything is done for it.
    pub fn note(self: &Arc<Self>, unique: u64, opcode: Opcode, ino: Ino) -> Noted {
        let words = self.0.words();
        words[0].fetch_max(unique & !RESENT, Ordering::Relaxed);
        let slot = UNDER_WAY.step_by(SLOT).find(|slot| {
            words[*slot]
                .compare_exchange(0, unique, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        });
        if let Some(slot) = slot {
            words[slot + 1].store(ino.0, Ordering::Relaxed);
            words[slot + 2].store(u64::from(opcode as u32), Ordering::Relaxed);
        }
        let all = Arc::clone(self);
        Noted { all, slot }
    }

    /// Was it under way when a process ended? It is to be answered while nothing else is, so that
    /// nothing else is blamed if that happens again.
    pub fn is_suspect(&self, unique: u64) -> bool {
        let number = unique & !RESENT;
        unique != number
            && self.0.words()[SUSPECTS]
                .iter()
                .any(|one| load(one) == number)
    }

    /// The highest number that was noted.
    pub fn highest(&self) -> u64 {
        self.0.words()[0].load(Ordering::Relaxed)
    }

    /// What was under way when the process before this one ended; from now on nothing is. Nobody may
    /// serve the connection meanwhile.
    pub fn take_left(&self) -> Vec<Left> {
        let words = self.0.words();
        let mut suspects: Vec<u64> = words[SUSPECTS].iter().map(load).collect();
        let mut left = Vec::new();
        for slot in words[UNDER_WAY].chunks_exact(SLOT) {
            let unique = slot[0].swap(0, Ordering::AcqRel);
            if unique == 0 {
                continue;
            }
            let number = unique & !RESENT;
            left.push(Left {
                unique,
                ino: Ino(load(&slot[1])),
                opcode: u32::try_from(load(&slot[2])).unwrap_or_default(),
                again: suspects.contains(&number),
            });
            suspects.rotate_right(1);
            suspects[0] = number;
        }
        for (word, suspect) in words[SUSPECTS].iter().zip(suspects) {
            word.store(suspect, Ordering::Relaxed);
        }
        left
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        // A handler that panics would leave one thread less to serve, and in the end nobody, while
        // the process lives: the next process does better.
        if std::thread::panicking() {
            std::process::abort();
        }
        if let Some(slot) = self.slot {
            self.all.0.words()[slot].store(0, Ordering::Release);
        }
    }
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn memfd() -> OwnedFd {
        rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
    }

    #[test]
    fn what_was_answered_is_not_under_way_any_more() {
        let memfd = memfd();
        let ours = Arc::new(InFlight::of(&memfd).unwrap());
        let first = ours.note(2, Opcode::Lookup, Ino(1));
        drop(ours.note(4, Opcode::Open, Ino(2)));
        assert_eq!(ours.highest(), 4);
        let next = InFlight::of(&memfd).unwrap();
        let left = next.take_left();
        let expected = Left {
            unique: 2,
            ino: Ino(1),
            opcode: 1,
            again: false,
        };
        assert_eq!(left, [expected]);
        assert_eq!(next.take_left(), []);
        drop(first);
    }

    #[test]
    fn a_request_that_two_processes_ended_in_is_known_also_when_sent_again() {
        let memfd = memfd();
        for (unique, again) in [(6, false), (6 | RESENT, true)] {
            let one = Arc::new(InFlight::of(&memfd).unwrap());
            std::mem::forget(one.note(unique, Opcode::Open, Ino(3)));
            let left = InFlight::of(&memfd).unwrap().take_left();
            assert_eq!(left.len(), 1);
            assert_eq!((left[0].unique, left[0].again), (unique, again));
            assert!(one.is_suspect(6 | RESENT) && !one.is_suspect(8 | RESENT));
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_answered_all_the_same() {
        let memfd = memfd();
        let ours = Arc::new(InFlight::of(&memfd).unwrap());
        let all: Vec<_> = (1..100)
            .map(|one| ours.note(2 * one, Opcode::Read, Ino(9)))
            .collect();
        assert_eq!(ours.take_left().len(), UNDER_WAY.len() / SLOT);
        drop(all);
        assert_eq!(ours.highest(), 198);
    }
}
