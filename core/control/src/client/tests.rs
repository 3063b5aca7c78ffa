#![allow(clippy::unwrap_used)]
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::thread;

use super::*;
use crate::ErrorKind;
use crate::calls::{KeyRotate, KeyRotated, Status, StatusReport};

/// A server of one connection.
fn served<T: Send>(serve: impl FnOnce(UnixStream) + Send, ask: impl FnOnce(&Path) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    thread::scope(|threads| {
        threads.spawn(move || serve(listener.accept().unwrap().0));
        ask(&path)
    })
}

fn read_call(stream: &UnixStream) {
    FrameReader::new(1 << 20)
        .read(stream, Patience::default())
        .unwrap()
        .unwrap();
}

#[test]
fn nobody_there_is_told_with_what_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    let error = Client::connect(&dir.path().join("none")).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.hint().unwrap().contains("deploy-inject up"));
}

#[test]
fn a_refusal_before_the_call_was_read_is_understood() {
    // As secretsd treats whom it does not serve: it says so and hangs up.
    for _ in 0..50 {
        let denied = ControlError::denied("no", "be root");
        let serve = |stream: UnixStream| frame::write_error(&mut &stream, &denied).unwrap();
        let error = served(serve, |path| {
            Client::connect(path).unwrap().call(&Status {}).unwrap_err()
        });
        assert_eq!(error.exit_code(), 3, "{error}");
    }
}

#[test]
fn a_server_that_dies_is_no_answer() {
    let serve = |stream: UnixStream| {
        read_call(&stream);
        (&stream).write_all(b"{\"parameters\":").unwrap();
    };
    let error = served(serve, |path| {
        Client::connect(path).unwrap().call(&Status {}).unwrap_err()
    });
    assert!(
        matches!(error, ClientError::Lost(FrameError::Cut)),
        "{error}"
    );
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn an_answer_of_another_version_is_told_without_what_it_holds() {
    let serve = |stream: UnixStream| {
        read_call(&stream);
        (&stream)
            .write_all(b"{\"parameters\":{\"hush\":\"hush\"}}\0")
            .unwrap();
    };
    let error = served(serve, |path| {
        Client::connect(path).unwrap().call(&Status {}).unwrap_err()
    });
    assert!(matches!(error, ClientError::Answer(_)));
    assert!(!format!("{error:?}").contains("hush"));
    let _: Option<StatusReport> = None;
}

#[test]
fn progress_comes_before_the_end() {
    let told = |done, generation| KeyRotated {
        done,
        total: 3,
        generation,
    };
    let serve = |stream: UnixStream| {
        read_call(&stream);
        for done in 1..=2 {
            frame::write_reply(&mut &stream, &told(done, None), true).unwrap();
        }
        frame::write_reply(&mut &stream, &told(3, Some(2)), false).unwrap();
    };
    let mut seen = Vec::new();
    let last = served(serve, |path| {
        Client::connect(path)
            .unwrap()
            .call_more(&KeyRotate {}, |progress| seen.push(progress.done))
            .unwrap()
    });
    assert_eq!(seen, [1, 2]);
    assert_eq!(last.generation, Some(2));
}

#[test]
fn a_raw_call_sends_what_it_was_given_and_nothing_that_is_no_json() {
    let serve = |stream: UnixStream| {
        let frame = FrameReader::new(1000)
            .read(&stream, Patience::default())
            .unwrap()
            .unwrap();
        assert_eq!(&frame[..], br#"{"method":"a.b.C","parameters":{"n":1.10}}"#);
        frame::write_reply(&mut &stream, &serde_json::json!({"x": 1}), false).unwrap();
    };
    let reply = served(serve, |path| {
        let mut client = Client::connect(path).unwrap();
        let error = client.call_raw("a.b.C", "{").unwrap_err();
        assert!(matches!(error, ClientError::Refused(ref e) if e.kind == ErrorKind::Invalid));
        client.call_raw("a.b.C", r#"{"n":1.10}"#).unwrap()
    });
    assert_eq!(*reply, r#"{"x":1}"#);
}
