#![allow(clippy::unwrap_used)]
use super::*;

use std::os::unix::net::UnixListener;
use std::sync::mpsc::Sender;

use control::inner::{Entry, RingTarget};
use fuse_fs::RingPath;

/// An injector that writes down what it is asked, and waits before each answer to a ring.
fn injector(path: &Path, said: Sender<ToInjector>, gate: Arc<Mutex<()>>) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        Link::serve(stream, move |_, question: ToInjector, _| {
            let rings = matches!(question, ToInjector::Ring { .. });
            said.send(question).unwrap();
            if rings {
                drop(lock(&gate));
            }
            Reply::Ok
        })
        .unwrap();
    });
}

fn ring(path: &str) -> Touched {
    let path = RingPath {
        tree: model::Tree::Secret,
        path: path.into(),
    };
    Touched {
        rings: vec![path],
        ..Touched::default()
    }
}

fn served(dir: &Path, gate: &Arc<Mutex<()>>) -> (Injector, Receiver<ToInjector>) {
    let socket = dir.join("inject.sock");
    let (said, heard) = channel();
    injector(&socket, said, Arc::clone(gate));
    let injector = Injector::new(socket.clone());
    injector.serves(&Link::connect(&socket).unwrap(), || None);
    (injector, heard)
}

#[test]
fn a_ring_that_hangs_holds_nobody_up_for_longer_than_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Mutex::new(()));
    let (injector, heard) = served(dir.path(), &gate);
    let closed = lock(&gate);
    let start = Instant::now();
    assert_eq!(
        injector.pass_on(ring("1/a"), Vec::new()),
        BTreeSet::from([1])
    );
    assert!(start.elapsed() < PATIENCE * 2);
    // Another one goes out meanwhile.
    injector.pass_on(ring("2/a"), Vec::new());
    for path in ["1/a", "2/a"] {
        match heard.recv().unwrap() {
            ToInjector::Ring { targets } => assert_eq!(targets[0].path, Path::new(path)),
            other => panic!("{other:?}"),
        }
    }
    drop(closed);
}

#[test]
fn rings_that_are_answered_are_done_when_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let (injector, heard) = served(dir.path(), &Arc::default());
    injector.pass_on(ring("1/a"), Vec::new());
    assert!(matches!(heard.try_recv(), Ok(ToInjector::Ring { .. })));
    injector.pass_on(Touched::default(), Vec::new());
    assert!(
        heard.try_recv().is_err(),
        "nothing to say, and something was said"
    );
}

/// An injector that keeps instance 1 waiting.
fn late_injector(path: &Path, said: Sender<Vec<RingTarget>>) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    let accepting = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = accepting.accept() {
            let said = said.clone();
            Link::serve(stream, move |_, question: ToInjector, _| {
                let ToInjector::Ring { targets } = question else {
                    return Reply::Ok;
                };
                let late = targets.iter().any(|one| one.instance() == Some(1));
                said.send(targets).unwrap();
                match late {
                    true => Reply::Late { numbers: vec![1] },
                    false => Reply::Ok,
                }
            })
            .unwrap();
        }
    });
    listener
}

fn paths(targets: Vec<RingTarget>) -> Vec<String> {
    let path = |one: RingTarget| one.path.display().to_string();
    targets.into_iter().map(path).collect()
}

#[test]
fn who_is_late_is_named_and_told_by_the_next_injector_unless_he_has_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("inject.sock");
    let (said, heard) = channel();
    let _listener = late_injector(&socket, said);
    let injector = Injector::new(socket.clone());
    injector.serves(&Link::connect(&socket).unwrap(), || None);
    let mut change = ring("1/a");
    change.rings.extend(ring("2/a").rings);
    assert_eq!(injector.pass_on(change, Vec::new()), BTreeSet::from([1]));
    assert!(injector.pass_on(ring("2/b"), Vec::new()).is_empty());
    assert_eq!(
        injector.pass_on(ring("1/b"), Vec::new()),
        BTreeSet::from([1])
    );
    for expected in [&["1/a", "2/a"][..], &["2/b"], &["1/b"]] {
        assert_eq!(paths(heard.recv().unwrap()), expected);
    }
    // The next one: what the one before owed, and nothing that it did.
    injector.serves(&Link::connect(&socket).unwrap(), || None);
    assert_eq!(paths(heard.recv().unwrap()), ["1/a", "1/b"]);
    injector.caught_up(&[1]);
    injector.serves(&Link::connect(&socket).unwrap(), || None);
    assert!(heard.try_recv().is_err());
}

#[test]
fn rings_wait_for_an_injector_that_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("inject.sock");
    let injector = Injector::new(socket.clone());
    for path in ["2/a", "2/b", "2/a"] {
        let late = injector.pass_on(ring(path), Vec::new());
        assert_eq!(late, BTreeSet::from([2]));
    }
    let (said, heard) = channel();
    let _listener = late_injector(&socket, said);
    injector.serves(&Link::connect(&socket).unwrap(), || None);
    assert_eq!(paths(heard.recv().unwrap()), ["2/a", "2/b"]);
}

#[test]
fn rings_without_a_place_wait_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Mutex::new(()));
    let (injector, heard) = served(dir.path(), &gate);
    let injector = Arc::new(injector);
    let closed = lock(&gate);
    let passing: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            let injector = Arc::clone(&injector);
            let path = format!("{}/a", number + 1);
            std::thread::spawn(move || injector.pass_on(ring(&path), Vec::new()))
        })
        .collect();
    for one in passing {
        assert_eq!(one.join().unwrap().len(), 1);
    }
    assert_eq!(injector.pass_on(ring("1000/a"), Vec::new()).len(), 1);
    drop(closed);
    let targets = heard.iter().map(|question| match question {
        ToInjector::Ring { targets } => paths(targets),
        other => panic!("{other:?}"),
    });
    let mut all: BTreeSet<String> = targets.take(AT_ONCE + 1).flatten().collect();
    assert!(all.remove("1000/a"), "{all:?}");
}

#[test]
fn entries_that_nobody_took_go_to_the_next_injector() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("inject.sock");
    let injector_ = Injector::new(socket.clone());
    let entry = Entry {
        number: 1,
        tree: model::Tree::Secret,
        name: "a".into(),
        field: None,
    };
    let grown = Touched {
        new_entries: vec![(7, vec![entry.clone()])],
        ..Touched::default()
    };
    injector_.pass_on(grown, Vec::new());
    let (said, heard) = channel();
    injector(&socket, said, Arc::default());
    injector_.serves(&Link::connect(&socket).unwrap(), || None);
    match heard.recv().unwrap() {
        ToInjector::Entries { number, entries } => {
            assert_eq!((number, entries), (7, vec![entry]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_an_injector_a_start_ends_with_what_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let injector = Injector::new(dir.path().join("inject.sock"));
    injector.is_away("No such file".to_owned());
    let error = injector.wait(|| true).unwrap_err().to_string();
    assert!(
        error.contains("No such file") && error.contains("deploy-inject up"),
        "{error}"
    );
}
