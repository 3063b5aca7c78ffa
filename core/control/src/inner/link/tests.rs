#![allow(clippy::unwrap_used)]
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Condvar};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::{FromInjector, RingTarget, ToInjector, wire::MAX_DESCRIPTORS};
use super::*;

fn ring(path: &str) -> ToInjector {
    let path = path.into();
    ToInjector::Ring {
        targets: vec![RingTarget {
            tree: "secret".into(),
            path,
        }],
    }
}

/// An end that answers, and the socket at its other end.
fn serving(
    handler: impl Fn(&Link, ToInjector, Vec<OwnedFd>) -> Reply + Send + Sync + 'static,
) -> Link {
    let (ours, theirs) = UnixStream::pair().unwrap();
    Link::serve(theirs, handler).unwrap();
    Link::ask_only(ours).unwrap()
}

fn until(mut true_: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !true_() {
        assert!(Instant::now() < end, "it does not come about");
        thread::yield_now();
    }
}

fn text_of(fd: OwnedFd) -> String {
    let mut text = String::new();
    File::from(fd).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn both_ends_ask_over_one_connection_and_descriptors_go_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inject.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (sent, got) = std::sync::mpsc::channel();
    let injector = thread::spawn(move || {
        let stream = listener.accept().unwrap().0;
        // As the injector: a question of secretsd's is answered by asking it something.
        Link::serve(
            stream,
            move |link: &Link, body: ToInjector, fds: Vec<OwnedFd>| {
                let ToInjector::Hold { name } = body else {
                    return failed("other".into());
                };
                let text = text_of(fds.into_iter().next().unwrap());
                let (out, mut into) = std::io::pipe().unwrap();
                into.write_all(text.to_uppercase().as_bytes()).unwrap();
                drop(into);
                let body = FromInjector::TakeOver {
                    connections: vec![name],
                    held: vec![],
                    lost: vec![],
                    ended: vec![],
                };
                link.request(&body, &[out.as_fd()]).unwrap().0
            },
        )
        .unwrap();
    });
    let secretsd = Link::connect_serving(
        &path,
        move |_: &Link, body: FromInjector, mut fds: Vec<OwnedFd>| {
            let FromInjector::TakeOver { connections, .. } = body else {
                return failed("other".into());
            };
            sent.send((connections, text_of(fds.remove(0)), fds.len()))
                .unwrap();
            Reply::Ok
        },
    )
    .unwrap();
    let (out, mut into) = std::io::pipe().unwrap();
    into.write_all(b"hello").unwrap();
    drop(into);
    let (reply, fds) = secretsd
        .request(&ToInjector::Hold { name: "x".into() }, &[out.as_fd()])
        .unwrap();
    assert_eq!((reply, fds.len()), (Reply::Ok, 0));
    assert_eq!(
        got.recv().unwrap(),
        (vec!["x".to_owned()], "HELLO".to_owned(), 0)
    );
    injector.join().unwrap();
}

#[test]
fn a_slow_answer_delays_no_other() {
    let slow = Arc::new((Mutex::new(false), Condvar::new()));
    let gate = Arc::clone(&slow);
    let link = serving(move |_, body, _| {
        if matches!(body, ToInjector::Instances) {
            let mut open = gate.0.lock().unwrap();
            while !*open {
                open = gate.1.wait(open).unwrap();
            }
        }
        Reply::Ok
    });
    let waiting = {
        let link = link.clone();
        thread::spawn(move || link.request(&ToInjector::Instances, &[]).unwrap().0)
    };
    for _ in 0..100 {
        assert_eq!(link.request(&ring("1/a"), &[]).unwrap().0, Reply::Ok);
    }
    assert!(!waiting.is_finished());
    *slow.0.lock().unwrap() = true;
    slow.1.notify_all();
    assert_eq!(waiting.join().unwrap(), Reply::Ok);
}

#[test]
fn each_of_many_questions_at_once_gets_its_own_answer_and_descriptor() {
    let link = serving(|_, body, fds| match body {
        ToInjector::EndInstance { number } => {
            let text = text_of(fds.into_iter().next().unwrap());
            failed(format!("{number} {text}"))
        }
        _ => Reply::Ok,
    });
    thread::scope(|threads| {
        for thread in 0..8u32 {
            let link = link.clone();
            threads.spawn(move || {
                for turn in 0..50 {
                    let number = thread * 100 + turn;
                    let (out, mut into) = std::io::pipe().unwrap();
                    write!(into, "fd{number}").unwrap();
                    drop(into);
                    let asked = link.request(&ToInjector::EndInstance { number }, &[out.as_fd()]);
                    assert_eq!(asked.unwrap().0, failed(format!("{number} fd{number}")));
                }
            });
        }
    });
}

#[test]
fn more_questions_at_once_than_there_are_places_are_refused() {
    let barrier = Arc::new(Barrier::new(AT_ONCE + 1));
    let arrived = Arc::new(AtomicUsize::new(0));
    let (gate, seen) = (Arc::clone(&barrier), Arc::clone(&arrived));
    let link = serving(move |_, body, _| {
        if matches!(body, ToInjector::Instances) {
            seen.fetch_add(1, Ordering::SeqCst);
            gate.wait();
        }
        Reply::Ok
    });
    thread::scope(|threads| {
        let asked: Vec<_> = (0..AT_ONCE)
            .map(|_| threads.spawn(|| link.request(&ToInjector::Instances, &[]).unwrap().0))
            .collect();
        // Not by asking meanwhile: a question of ours could take the place of one of theirs.
        until(|| arrived.load(Ordering::SeqCst) == AT_ONCE);
        assert_ne!(link.request(&ring("x"), &[]).unwrap().0, Reply::Ok);
        barrier.wait();
        for one in asked {
            assert_eq!(one.join().unwrap(), Reply::Ok);
        }
    });
    until(|| link.request(&ring("x"), &[]).unwrap().0 == Reply::Ok);
}

#[test]
fn whoever_waits_is_told_when_the_peer_dies() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let link = Link::ask_only(ours).unwrap();
    thread::scope(|threads| {
        let waiting = threads.spawn(|| link.request(&ToInjector::Instances, &[]));
        wire::receive(&theirs, MAX_FRAME).unwrap().unwrap();
        drop(theirs);
        assert!(matches!(waiting.join().unwrap(), Err(LinkError::Closed)));
    });
    until(|| link.is_closed());
    assert!(matches!(
        link.request(&ring("x"), &[]),
        Err(LinkError::Closed)
    ));
}

#[test]
fn an_asking_end_hangs_up_with_its_last_clone() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let link = Link::ask_only(ours).unwrap();
    let other = link.clone();
    drop(link);
    assert!(!other.is_closed());
    drop(other);
    assert!(wire::receive(&theirs, MAX_FRAME).unwrap().is_none());
}

#[test]
fn a_handler_that_panics_still_answers() {
    let link = serving(|_, body, _| match body {
        ToInjector::Instances => std::panic::resume_unwind(Box::new("x")),
        _ => Reply::Ok,
    });
    assert!(matches!(
        link.request(&ToInjector::Instances, &[]).unwrap().0,
        Reply::Failed { .. }
    ));
    assert_eq!(link.request(&ring("x"), &[]).unwrap().0, Reply::Ok);
}

/// What an end answers to `frame`, and whether it then still answers a good one.
fn after(frame: &[u8]) -> (Option<Vec<u8>>, bool) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    Link::serve(theirs, |_: &Link, _: ToInjector, _| Reply::Ok).unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    if wire::send(&ours, frame, &[]).is_err() {
        return (None, false);
    }
    let answer = wire::receive(&ours, MAX_FRAME)
        .ok()
        .flatten()
        .map(|(frame, _)| frame);
    let good = br#"{"id":9,"version":2,"request":"instances"}"#;
    let lives = answer.is_some()
        && wire::send(&ours, &framed(good), &[]).is_ok()
        && matches!(wire::receive(&ours, MAX_FRAME), Ok(Some(_)));
    (answer, lives)
}

fn framed(text: &[u8]) -> Vec<u8> {
    let mut frame = (text.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(text);
    frame
}

#[test]
fn a_question_that_is_not_understood_is_answered_and_the_link_goes_on() {
    for text in [
        r#"{"id":1,"version":2,"request":"no_such"}"#,
        r#"{"id":1,"version":2,"request":{"end_instance":{"number":-1}}}"#,
        r#"{"id":1,"version":2,"request":{"end_instance":{"number":1,"more":1}}}"#,
        r#"{"id":1,"version":9,"request":"instances"}"#,
        r#"{"id":1,"version":2,"request":{"hold":{"name":"x","unknown":[[[[]]]]}}}"#,
    ] {
        let (answer, lives) = after(&framed(text.as_bytes()));
        let answer = String::from_utf8(answer.unwrap()).unwrap();
        assert!(answer.contains("failed"), "{text}: {answer}");
        assert!(lives, "{text}");
    }
    let deep = format!(
        r#"{{"id":1,"version":2,"request":{}{}}}"#,
        "[".repeat(1 << 20),
        "]".repeat(1 << 20)
    );
    assert!(after(&framed(deep.as_bytes())).1);
}

#[test]
fn what_is_no_frame_ends_its_own_link_and_no_other() {
    let other = serving(|_, _, _| Reply::Ok);
    for frame in [
        framed(b"not json"),
        framed(b"{}"),
        framed(b""),
        framed(br#"{"id":1,"version":2,"request":"instances","reply":"ok"}"#),
        u32::MAX.to_le_bytes().to_vec(),
        (MAX_FRAME as u32 + 1).to_le_bytes().to_vec(),
    ] {
        assert_eq!(after(&frame), (None, false), "{frame:?}");
        assert_eq!(other.request(&ring("x"), &[]).unwrap().0, Reply::Ok);
    }
}

#[test]
fn half_a_frame_and_a_peer_that_takes_none_hold_no_thread_for_ever() {
    let whole = framed(br#"{"id":9,"version":2,"request":"instances"}"#);
    for half in [&whole[..2], &whole[..4], &whole[..whole.len() - 1]] {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let held = Arc::new(());
        let by_the_link = Arc::clone(&held);
        Link::serve(theirs, move |_: &Link, _: ToInjector, _| {
            let _ = &by_the_link;
            Reply::Ok
        })
        .unwrap();
        // Silence between two frames may last.
        thread::sleep(Duration::from_millis(1100));
        wire::send(&ours, &whole, &[]).unwrap();
        assert!(wire::receive(&ours, MAX_FRAME).unwrap().is_some());
        wire::send(&ours, half, &[]).unwrap();
        until(|| Arc::strong_count(&held) == 1);
        assert!(wire::receive(&ours, MAX_FRAME).unwrap().is_none());
    }
    // Nobody reads at the other end: questions pile up, and then there is no room for one.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let link = Link::ask_only(ours).unwrap();
    let long = "x".repeat(1 << 20);
    let asked = link.request(&ring(&long), &[]);
    assert!(matches!(asked, Err(LinkError::Send(_))), "{asked:?}");
    assert!(link.is_closed());
    drop(theirs);
}

#[test]
fn a_question_that_is_too_large_is_not_sent_and_the_link_goes_on() {
    let link = serving(|_, _, _| Reply::Ok);
    let large = ring(&"x".repeat(MAX_FRAME));
    assert!(matches!(link.request(&large, &[]), Err(LinkError::Send(_))));
    let null = File::open("/dev/null").unwrap();
    let many = vec![null.as_fd(); MAX_DESCRIPTORS + 1];
    assert!(matches!(
        link.request(&ring("x"), &many),
        Err(LinkError::Send(_))
    ));
    assert_eq!(link.request(&ring("x"), &many[1..]).unwrap().0, Reply::Ok);
    let most = ring(&"x".repeat(MAX_FRAME - 200));
    assert_eq!(link.request(&most, &[]).unwrap().0, Reply::Ok);
}

#[test]
fn an_answer_may_be_larger_than_a_question() {
    let link = serving(|_, _, _| failed("x".repeat(3 * MAX_FRAME)));
    match link.request(&ring("x"), &[]).unwrap().0 {
        Reply::Failed { message } => assert_eq!(message.len(), 3 * MAX_FRAME),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn frames_survive_any_way_of_being_cut_with_their_descriptors(
        texts in proptest::collection::vec(("[a-z]{0,2000}", 0usize..4), 1..6),
        cut in 1usize..500,
    ) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let null = File::open("/dev/null").unwrap();
        let sent = texts.clone();
        let received = thread::scope(|threads| {
            threads.spawn(move || {
                for (text, fds) in &sent {
                    let frame = framed(text.as_bytes());
                    let fds = vec![null.as_fd(); *fds];
                    wire::send(&ours, &frame[..1], &fds).unwrap();
                    for part in frame[1..].chunks(cut) {
                        (&ours).write_all(part).unwrap();
                    }
                }
            });
            let mut received = Vec::new();
            for _ in 0..texts.len() {
                let (frame, fds) = wire::receive(&theirs, MAX_FRAME).unwrap().unwrap();
                received.push((String::from_utf8(frame).unwrap(), fds.len()));
            }
            received
        });
        prop_assert_eq!(received, texts);
    }
}
