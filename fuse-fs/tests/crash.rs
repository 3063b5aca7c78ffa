//! What readers see when the process that serves them ends.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;
mod processes;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::text;
use processes::Keeper;
use rustix::mount::UnmountFlags;

/// What readers do beside a test.
struct Readers {
    reads: [AtomicUsize; 2],
    end: AtomicBool,
    master: PathBuf,
}

impl Readers {
    /// Waits until as many readers have each ended a read, or one has failed.
    fn wait_for(&self, readers: usize) {
        let count = || self.reads.each_ref().map(|one| one.load(Ordering::SeqCst));
        let before = count();
        let went_on = || {
            let both = count().into_iter().zip(before);
            both.filter(|(now, before)| now > before).count()
        };
        while went_on() < readers && !self.end.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }
}

/// Ends the readers; those of a test that failed too, whom nobody may answer any more.
struct End<'a>(&'a Readers);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end.store(true, Ordering::SeqCst);
        if std::thread::panicking() {
            let _ = rustix::mount::unmount(&self.0.master, UnmountFlags::FORCE);
        }
    }
}

/// Opens and reads `a` and `b` again and again meanwhile: nobody sees an error.
fn while_others_read<T>(keeper: &mut Keeper, act: impl FnOnce(&mut Keeper, &Readers) -> T) -> T {
    let readers = Readers {
        reads: Default::default(),
        end: AtomicBool::new(false),
        master: keeper.master().to_owned(),
    };
    let paths = ["a", "b"].map(|name| (name, keeper.path(name)));
    std::thread::scope(|scope| {
        for ((name, path), reads) in paths.into_iter().zip(&readers.reads) {
            let (readers, how) = (&readers, keeper.how);
            scope.spawn(move || {
                let _end = End(readers);
                while !readers.end.load(Ordering::SeqCst) {
                    assert_eq!(text(&path), Ok(name.to_owned()), "{how}");
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _end = End(&readers);
        readers.wait_for(2);
        act(keeper, &readers)
    })
}

/// Opens what ends its server; gives what the caller got, and how many servers ended.
fn open_and_count(keeper: &mut Keeper, name: &str) -> (Result<String, i32>, usize) {
    let path = keeper.path(name);
    let reader = std::thread::spawn(move || text(&path));
    let mut ended = 0;
    while !reader.is_finished() {
        let server = &mut keeper.server.as_mut().unwrap().child;
        if server.try_wait().unwrap().is_some() {
            ended += 1;
            assert!(ended < 20, "it is sent again and again");
            keeper.next();
        }
        std::thread::yield_now();
    }
    (reader.join().unwrap(), ended)
}

#[test]
fn a_request_that_crashes_its_handler_gets_an_error_the_second_time_and_others_none() {
    let mut keeper = Keeper::start("resend");
    for (name, ends) in [("aborts", 2), ("panics", 2), ("kills", 8)] {
        let crashed = while_others_read(&mut keeper, |keeper, _| open_and_count(keeper, name));
        assert_eq!(crashed, (Err(libc::EIO), ends), "{name}");
    }
    assert_eq!(text(&keeper.path("a")), Ok("a".into()));
}

#[test]
fn readers_see_nothing_of_a_server_that_is_killed_again_and_again() {
    // What is swept the kernel repeats once: a call that two kills catch may show an error. So there
    // both readers go on between kills; what is sent again may be caught as often as it likes.
    for (how, go_on) in [("resend", 1), ("sweep", 2)] {
        let mut keeper = Keeper::start(how);
        while_others_read(&mut keeper, |keeper, readers| {
            for _ in 0..20 {
                readers.wait_for(go_on);
                keeper.kill();
                assert!(keeper.next());
            }
            readers.wait_for(2);
        });
    }
}

#[test]
fn a_read_that_was_under_way_is_answered_by_the_next_server() {
    for how in ["resend", "sweep"] {
        let mut keeper = Keeper::start(how);
        let path = keeper.path("stalls");
        let reader = std::thread::spawn(move || text(&path));
        keeper.until_stalled();
        keeper.kill();
        keeper.stalls = false;
        assert!(keeper.next());
        assert_eq!(reader.join().unwrap(), Ok("stalls".into()), "{how}");
    }
}

#[test]
fn a_request_that_was_under_way_at_several_kills_gets_its_answer() {
    let mut keeper = Keeper::start("resend");
    let path = keeper.path("stalls");
    let reader = std::thread::spawn(move || text(&path));
    for _ in 0..4 {
        keeper.until_stalled();
        keeper.kill();
        assert!(keeper.next());
    }
    keeper.until_stalled();
    keeper.kill();
    keeper.stalls = false;
    assert!(keeper.next());
    assert_eq!(reader.join().unwrap(), Ok("stalls".into()));
}
