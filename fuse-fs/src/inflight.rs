//! Requests that are being answered, in memory that outlives this process.
//!
//! A request in which a process ended is sent again, to the next one. If it is the request that
//! crashes its handler, that goes on for ever: so a request in which two processes ended by a fault of
//! their own is answered with EIO. A process that is killed from outside is not the fault of what was
//! under way, and may well be killed twice in one request by chance; but a request that has each
//! process killed must end too, and gets EIO at the eighth. Words of the memfd's second part:
//!
//! | words | what |
//! |---|---|
//! | 0 | the highest number of a request that was noted |
//! | 8..136 | 16 requests under way, of 8 words: whether the place is taken, number (0: nothing more is valid), inode, opcode and detail, uid and thread, offset, whether a handler had a fault in it, and one that is unused |
//! | 256..320 | the last 64 requests during which a process ended, by number |
//! | 320..384 | what counts against each of them |
//! | 384..512 | 8 words for each place: the name that is looked up |
//!
//! A request's number here is the kernel's `unique`. When it is sent again, bit 63 is set in it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::Request;
use sys::shared::{SharedWords, WORDS};

use crate::inode::Ino;

/// FUSE_UNIQUE_RESEND (linux/fuse.h).
pub(crate) const RESENT: u64 = 1 << 63;
/// A multiple of every page size, and beyond what tells how the connection began.
const OFFSET: u64 = 64 * 1024;
const UNDER_WAY: std::ops::Range<usize> = 8..136;
const PLACE: usize = 8;
const SUSPECTS: std::ops::Range<usize> = 256..320;
const COUNTS: std::ops::Range<usize> = 320..384;
const NAMES: usize = 384;
const _: () = assert!(NAMES + UNDER_WAY.end - UNDER_WAY.start <= WORDS);
/// In a place: a handler had a fault in it.
const FAULT: usize = 6;
/// What a fault counts; any other end of a process counts one.
const OF_A_FAULT: u64 = 4;
const TOO_MUCH: u64 = 2 * OF_A_FAULT;

/// A name that is looked up; none, if it is longer than there is room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Name([u64; PLACE]);

impl Name {
    pub fn of(name: &OsStr) -> Name {
        // The kernel's names have no zero byte, and one has to be left.
        let bytes = name.as_bytes();
        let mut words = [0; PLACE];
        if bytes.len() < size_of_val(&words) {
            for (word, bytes) in words.iter_mut().zip(bytes.chunks(size_of::<u64>())) {
                let mut whole = [0; size_of::<u64>()];
                whole[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_ne_bytes(whole);
            }
        }
        Name(words)
    }

    /// With the zero byte that ends it; `None`: it was not kept.
    pub fn message(self) -> Option<Vec<u8>> {
        let bytes = self.0.map(u64::to_ne_bytes).concat();
        let end = bytes.iter().position(|byte| *byte == 0)?;
        (end > 0).then(|| bytes[..=end].to_vec())
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Lookup(Name),
    Getattr,
    /// With the caller's flags.
    Open(i32),
    /// From where, and how much.
    Read(u64, u32),
    Write,
    /// From where.
    Readdir(u64),
    Readdirplus(u64),
}

impl Call {
    /// The kernel's opcode, the offset, and what else there is.
    fn words(self) -> (u32, u64, u32) {
        match self {
            Call::Lookup(_) => (1, 0, 0),
            Call::Getattr => (3, 0, 0),
            Call::Open(flags) => (14, 0, flags.cast_unsigned()),
            Call::Read(offset, size) => (15, offset, size),
            Call::Write => (16, 0, 0),
            Call::Readdir(offset) => (28, offset, 0),
            Call::Readdirplus(offset) => (44, offset, 0),
        }
    }

    fn from_words(opcode: u32, offset: u64, detail: u32, name: Name) -> Option<Call> {
        match opcode {
            1 => Some(Call::Lookup(name)),
            3 => Some(Call::Getattr),
            14 => Some(Call::Open(detail.cast_signed())),
            15 => Some(Call::Read(offset, detail)),
            16 => Some(Call::Write),
            28 => Some(Call::Readdir(offset)),
            44 => Some(Call::Readdirplus(offset)),
            _ => None,
        }
    }
}

/// Who asks what of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asking {
    /// As the kernel sent it last.
    pub unique: u64,
    pub ino: Ino,
    pub call: Call,
    pub uid: u32,
    pub tid: u32,
}

/// The requests of one connection.
#[derive(Debug)]
pub(crate) struct InFlight(SharedWords);

/// A request that was under way when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    pub asking: Asking,
    /// Too many processes have ended in it.
    pub is_deadly: bool,
}

/// A request is under way until this is dropped, or the process ends.
pub(crate) struct Noted {
    all: Arc<InFlight>,
    /// `None`: there was no room.
    place: Option<usize>,
}

impl InFlight {
    /// Of the connection that the memfd belongs to.
    pub fn of(memfd: impl AsFd) -> io::Result<InFlight> {
        sys::fault::watch()?;
        Ok(InFlight(SharedWords::map(memfd, OFFSET)?))
    }

    /// Notes a request, before anything is done for it.
    pub fn note(self: &Arc<Self>, request: &Request, call: Call, ino: Ino) -> Noted {
        self.note_this(&Asking {
            unique: request.unique().0,
            ino,
            call,
            uid: request.uid(),
            tid: request.pid(),
        })
    }

    fn note_this(self: &Arc<Self>, asking: &Asking) -> Noted {
        let words = self.0.words();
        let unique = asking.unique;
        words[0].fetch_max(unique & !RESENT, Ordering::Relaxed);
        let place = UNDER_WAY.step_by(PLACE).find(|place| {
            words[*place]
                .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
        });
        if let Some(place) = place {
            let (opcode, offset, detail) = asking.call.words();
            let put = |at: usize, word| words[place + at].store(word, Ordering::Relaxed);
            put(2, asking.ino.0);
            put(3, both(opcode, detail));
            put(4, both(asking.uid, asking.tid));
            put(5, offset);
            put(FAULT, 0);
            if let Call::Lookup(name) = asking.call {
                let kept = &words[names_of(place)];
                kept.iter()
                    .zip(name.0)
                    .for_each(|(word, part)| word.store(part, Ordering::Relaxed));
            }
            // Last: with a number, the rest is of that request and not of one before.
            words[place + 1].store(unique, Ordering::Release);
        }
        let all = Arc::clone(self);
        let noted = Noted { all, place };
        noted.goes_on_here();
        noted
    }

    /// The highest number that was noted.
    pub fn highest(&self) -> u64 {
        self.0.words()[0].load(Ordering::Relaxed)
    }

    /// What was under way when the process before this one ended; from now on nothing is. Nobody may
    /// serve the connection meanwhile.
    pub fn take_left(&self) -> Vec<Left> {
        let words = self.0.words();
        let suspects = words[SUSPECTS].iter().map(load);
        let mut suspects: Vec<_> = suspects.zip(words[COUNTS].iter().map(load)).collect();
        let mut left = Vec::new();
        for at in UNDER_WAY.step_by(PLACE) {
            let place = &words[at..at + PLACE];
            let mut name = Name::default();
            let kept = &words[names_of(at)];
            name.0
                .iter_mut()
                .zip(kept)
                .for_each(|(part, word)| *part = load(word));
            let unique = place[1].swap(0, Ordering::AcqRel);
            let [(opcode, detail), (uid, tid)] =
                [&place[3], &place[4]].map(|word| halves(load(word)));
            let call = Call::from_words(opcode, load(&place[5]), detail, name);
            let ino = Ino(load(&place[2]));
            let count = match load(&place[FAULT]) {
                0 => 1,
                _ => OF_A_FAULT,
            };
            place[0].store(0, Ordering::Release);
            let Some(call) = call.filter(|_| unique != 0) else {
                continue;
            };
            let number = unique & !RESENT;
            let before = suspects.iter().find(|(suspect, _)| *suspect == number);
            let count = count + before.map_or(0, |(_, count)| *count);
            left.push(Left {
                asking: Asking {
                    unique,
                    ino,
                    call,
                    uid,
                    tid,
                },
                is_deadly: count >= TOO_MUCH,
            });
            suspects.retain(|(suspect, _)| *suspect != number);
            suspects.insert(0, (number, count));
        }
        suspects.resize(SUSPECTS.len(), (0, 0));
        let kept = words[SUSPECTS].iter().zip(&words[COUNTS]);
        for ((word, of_it), (suspect, count)) in kept.zip(suspects) {
            word.store(suspect, Ordering::Relaxed);
            of_it.store(count, Ordering::Relaxed);
        }
        left
    }
}

impl Noted {
    /// The calling thread works on it from now on: a fault of it is a fault in this request.
    pub fn goes_on_here(&self) {
        if let Some(place) = self.place {
            sys::fault::mark(&self.all.0.words()[place + FAULT], 1);
        }
    }

    /// The calling thread leaves it to another one.
    pub fn goes_on_elsewhere(&self) {
        sys::fault::unmark();
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        // A handler that panics would leave one thread less to serve, and in the end nobody, while
        // the process lives: the next process does better. SIGABRT is a fault.
        if std::thread::panicking() {
            std::process::abort();
        }
        sys::fault::unmark();
        if let Some(place) = self.place {
            let words = self.all.0.words();
            words[place + 1].store(0, Ordering::Release);
            words[place].store(0, Ordering::Release);
        }
    }
}

/// The words for the name of a place.
fn names_of(place: usize) -> std::ops::Range<usize> {
    let at = NAMES + place - UNDER_WAY.start;
    at..at + PLACE
}

fn both(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn load(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::OwnedFd;

    fn memfd() -> OwnedFd {
        rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
    }

    fn asking(unique: u64, call: Call) -> Asking {
        Asking {
            unique,
            ino: Ino(unique * 1000),
            call,
            uid: 7,
            tid: u32::MAX,
        }
    }

    #[test]
    fn what_was_answered_is_not_under_way_any_more() {
        let memfd = memfd();
        let ours = Arc::new(InFlight::of(&memfd).unwrap());
        let calls = [
            Call::Lookup(Name::of(OsStr::new("db_password"))),
            Call::Lookup(Name::of(OsStr::new(&"x".repeat(63)))),
            Call::Getattr,
            Call::Open(-1),
            Call::Read(u64::MAX, u32::MAX),
            Call::Write,
            Call::Readdir(3),
            Call::Readdirplus(4),
        ];
        let all: Vec<_> = calls
            .into_iter()
            .zip(1..)
            .map(|(call, unique)| asking(2 * unique, call))
            .collect();
        let noted: Vec<_> = all.iter().map(|one| ours.note_this(one)).collect();
        drop(ours.note_this(&asking(100, Call::Lookup(Name::default()))));
        assert_eq!(ours.highest(), 100);
        let next = InFlight::of(&memfd).unwrap();
        let left: Vec<_> = next.take_left().iter().map(|left| left.asking).collect();
        assert_eq!(left, all);
        assert_eq!(next.take_left(), []);
        drop(noted);
    }

    /// A process ends in request 6; is it one too many?
    fn ends_in_six(memfd: &OwnedFd, resent: bool, fault: u64) -> bool {
        let one = Arc::new(InFlight::of(memfd).unwrap());
        let asking = Asking {
            unique: if resent { 6 | RESENT } else { 6 },
            ..asking(6, Call::Getattr)
        };
        let noted = one.note_this(&asking);
        one.0.words()[noted.place.unwrap() + FAULT].store(fault, Ordering::Relaxed);
        std::mem::forget(noted);
        let left = InFlight::of(memfd).unwrap().take_left();
        assert_eq!((left.len(), left[0].asking), (1, asking));
        left[0].is_deadly
    }

    #[test]
    fn a_name_comes_back_whole_or_not_at_all() {
        for name in ["a", "12345678", &"x".repeat(63)] {
            let message = Name::of(OsStr::new(name)).message().unwrap();
            assert_eq!(message, [name.as_bytes(), b"\0"].concat());
        }
        assert_eq!(Name::of(OsStr::new(&"x".repeat(64))).message(), None);
        assert_eq!(Name::default().message(), None);
    }

    #[test]
    fn a_request_is_deadly_after_two_faults_also_when_it_was_sent_again() {
        let memfd = memfd();
        assert!(!ends_in_six(&memfd, false, 1));
        assert!(ends_in_six(&memfd, true, 1));
    }

    #[test]
    fn a_request_is_not_blamed_for_kills_from_outside_but_does_not_come_for_ever() {
        let memfd = memfd();
        let ends = (1..).find(|end| ends_in_six(&memfd, *end > 1, 0));
        assert_eq!(ends, Some(8));
    }

    #[test]
    fn more_than_there_is_room_for_is_answered_all_the_same() {
        let memfd = memfd();
        let ours = Arc::new(InFlight::of(&memfd).unwrap());
        let all: Vec<_> = (1..100)
            .map(|one| ours.note_this(&asking(2 * one, Call::Lookup(Name::default()))))
            .collect();
        assert_eq!(ours.take_left().len(), UNDER_WAY.len() / PLACE);
        drop(all);
        assert_eq!(ours.highest(), 198);
    }
}
