//! What readers see when the process that serves them ends.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;
mod processes;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::text;
use processes::Keeper;
use rustix::mount::UnmountFlags;

/// Readers that open `a` and `b` again and again meanwhile; gives how often they did.
fn while_others_read<T>(keeper: &mut Keeper, act: impl FnOnce(&mut Keeper) -> T) -> (T, usize) {
    let done = AtomicBool::new(false);
    let paths = ["a", "b"].map(|name| (name, keeper.path(name)));
    std::thread::scope(|scope| {
        let readers = paths.map(|(name, path)| {
            let done = &done;
            scope.spawn(move || {
                let mut reads = 0;
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(text(&path), Ok(name.to_owned()), "after {reads} reads");
                    reads += 1;
                }
                reads
            })
        });
        let given = {
            let _done = Done(&done, keeper.path("").parent().unwrap().to_owned());
            act(keeper)
        };
        let reads = readers.map(|reader| reader.join().unwrap());
        (given, reads.iter().sum())
    })
}

/// Ends the readers; those of a test that failed too, whom nobody may answer any more.
struct Done<'a>(&'a AtomicBool, PathBuf);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
        if std::thread::panicking() {
            let _ = rustix::mount::unmount(&self.1, UnmountFlags::FORCE);
        }
    }
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
            assert!(ended < 5, "it is sent again and again");
            keeper.next();
        }
        std::thread::yield_now();
    }
    (reader.join().unwrap(), ended)
}

#[test]
fn a_request_that_crashes_its_handler_gets_an_error_the_second_time_and_others_none() {
    let mut keeper = Keeper::start("resend");
    for name in ["aborts", "panics"] {
        let (crashed, reads) =
            while_others_read(&mut keeper, |keeper| open_and_count(keeper, name));
        assert_eq!(crashed, (Err(libc::EIO), 2), "{name}");
        assert!(reads > 0);
    }
    assert_eq!(text(&keeper.path("a")), Ok("a".into()));
}

#[test]
fn readers_see_nothing_of_a_server_that_is_killed_again_and_again() {
    let mut keeper = Keeper::start("resend");
    let ((), reads) = while_others_read(&mut keeper, |keeper| {
        for _ in 0..20 {
            keeper.kill();
            assert!(keeper.next());
        }
    });
    assert!(reads > 20, "{reads}");
}
