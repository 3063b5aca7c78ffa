#![allow(clippy::unwrap_used)]
use super::*;

use std::os::unix::net::UnixListener;
use std::sync::mpsc::Sender;

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
    injector.serves(&Link::connect(&socket).unwrap(), None);
    (injector, heard)
}

#[test]
fn a_ring_that_hangs_holds_nobody_up_for_longer_than_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Arc::new(Mutex::new(()));
    let (injector, heard) = served(dir.path(), &gate);
    let closed = lock(&gate);
    let start = Instant::now();
    injector.pass_on(ring("1/a"), Vec::new());
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

#[test]
fn rings_that_hang_are_bounded() {
    let taken = Arc::new(AtomicUsize::new(0));
    let places: Vec<_> = (0..AT_ONCE).map(|_| Place::take(&taken).unwrap()).collect();
    assert!(Place::take(&taken).is_none());
    drop(places);
    assert!(Place::take(&taken).is_some());
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
    injector_.serves(&Link::connect(&socket).unwrap(), None);
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
