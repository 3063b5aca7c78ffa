#![allow(clippy::unwrap_used)]
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::calls::{Create, List, Status};
use crate::{ControlError, ErrorKind};

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn soon() -> Patience {
    let soon = Some(Duration::from_millis(50));
    Patience {
        idle: soon,
        message: soon,
    }
}

/// What a server reads of `bytes`, message by message, until the peer hangs up.
fn all(bytes: &[u8], limit: usize) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let (mut peer, stream) = pair();
    thread::scope(|threads| {
        threads.spawn(move || {
            // The reader may hang up early.
            let _ = peer.write_all(bytes);
        });
        let stream = stream;
        let mut reader = FrameReader::new(limit);
        let mut frames = Vec::new();
        loop {
            match reader.read(&stream, Patience::default()) {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
    })
}

#[test]
fn messages_come_out_as_they_were_sent_also_several_at_once() {
    let (frames, error) = all(b"{}\0{\"a\":1}\0\0rest", 100);
    assert_eq!(frames, [&b"{}"[..], b"{\"a\":1}", b""]);
    assert!(matches!(error, Some(FrameError::Cut)));
    let (frames, error) = all(b"", 100);
    assert!(frames.is_empty() && error.is_none());
}

#[test]
fn the_longest_message_is_taken_and_one_byte_more_is_not() {
    let mut most = vec![b'x'; 200_000];
    most.push(0);
    assert_eq!(all(&most, 200_000).0.len(), 1);
    let (frames, error) = all(&most, 199_999);
    assert!(frames.is_empty());
    assert!(matches!(error, Some(FrameError::TooLarge(199_999))));
}

#[test]
fn eight_mebibytes_without_an_end_are_refused_before_they_are_all_read() {
    let (frames, error) = all(&vec![b'x'; 8 << 20], MAX_CALL);
    assert!(frames.is_empty());
    assert!(matches!(error, Some(FrameError::TooLarge(MAX_CALL))));
}

#[test]
fn half_a_message_times_out_for_its_own_connection_alone() {
    let (mut slow, slow_stream) = pair();
    let (mut quick, quick_stream) = pair();
    slow.write_all(b"{\"method\":").unwrap();
    thread::scope(|threads| {
        let late = threads.spawn(|| FrameReader::new(100).read(&slow_stream, soon()));
        let mut reader = FrameReader::new(100);
        for _ in 0..100 {
            quick.write_all(b"{}\0").unwrap();
            assert!(reader.read(&quick_stream, soon()).unwrap().is_some());
        }
        assert!(matches!(late.join().unwrap(), Err(FrameError::Late)));
    });
}

#[test]
fn a_peer_that_sends_a_byte_now_and_then_does_not_extend_its_time() {
    let (mut peer, stream) = pair();
    thread::scope(|threads| {
        threads.spawn(move || {
            while peer.write_all(b"x").is_ok() {
                thread::park_timeout(Duration::from_millis(5));
            }
        });
        let stream = stream;
        let read = FrameReader::new(1 << 20).read(&stream, soon());
        assert!(matches!(read, Err(FrameError::Late)));
    });
}

#[test]
fn a_call_carries_its_parameters_and_their_refusal_shows_no_value() {
    let mut frame = Vec::new();
    write_call(
        &mut frame,
        Create::NAME,
        &serde_json::json!({"name":"a","value":"hush"}),
        true,
    )
    .unwrap();
    assert_eq!(frame.pop(), Some(0));
    let call = Call::parse(&frame).unwrap();
    assert!(call.more && !call.oneway);
    let create: Create = call.parameters().unwrap();
    assert_eq!(create.value.as_ref().unwrap().expose(), "hush");
    assert!(!format!("{call:?} {create:?}").contains("hush"));
    let error = call.parameters::<List>().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(!error.to_string().contains("hush"));
}

#[test]
fn parameters_may_be_left_out_or_null_and_are_never_a_list() {
    for text in [
        r#"{"method":"a"}"#,
        r#"{"method":"a","parameters":null}"#,
        r#"{"method":"a","parameters":{}}"#,
    ] {
        Call::parse(text.as_bytes())
            .unwrap()
            .parameters::<Status>()
            .unwrap();
    }
    let call = Call::parse(br#"{"method":"a","parameters":["name"]}"#).unwrap();
    assert!(call.parameters::<List>().is_err());
}

#[test]
fn nesting_of_any_depth_is_refused_without_harm() {
    let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    for text in [
        deep.clone(),
        format!(r#"{{"method":"a","parameters":{deep}}}"#),
        format!(r#"{{"method":"a","parameters":{{"prefix":{deep}}}}}"#),
        format!(r#"{{"method":"a","parameters":{{"name":"a","data":{{"b":{deep}}}}}}}"#),
        "{\"a\":".repeat(1 << 18),
    ] {
        if let Ok(call) = Call::parse(text.as_bytes()) {
            assert!(call.parameters::<List>().is_err());
            assert!(call.parameters::<Create>().is_err());
            assert!(call.parameters::<crate::calls::ConfigCreate>().is_err());
        }
    }
}

#[test]
fn an_error_arrives_with_its_kind_words_and_hint() {
    let sent = ControlError::conflict("there").hint("deploy secret rotate");
    let mut frame = Vec::new();
    write_error(&mut frame, &sent).unwrap();
    frame.pop();
    let reply = Reply::parse(&frame).unwrap();
    assert_eq!(reply.parameters().unwrap_err(), sent);
}

proptest! {
    #[test]
    fn messages_survive_any_way_of_being_cut_on_the_wire(
        messages in proptest::collection::vec(proptest::collection::vec(1u8.., 0..3000), 0..8),
        cuts in proptest::collection::vec(1usize..2000, 1..20),
    ) {
        let mut wire = Vec::new();
        for message in &messages {
            wire.extend_from_slice(message);
            wire.push(0);
        }
        let (mut peer, stream) = pair();
        let frames = thread::scope(|threads| {
            threads.spawn(move || {
                let mut rest = &wire[..];
                for cut in cuts.iter().cycle() {
                    let (part, after) = rest.split_at(rest.len().min(*cut));
                    if part.is_empty() {
                        break;
                    }
                    peer.write_all(part).unwrap();
                    rest = after;
                }
            });
            let mut reader = FrameReader::new(3000);
            let mut frames = Vec::new();
            while let Some(frame) = reader.read(&stream, Patience::default()).unwrap() {
                frames.push(frame.to_vec());
            }
            frames
        });
        prop_assert_eq!(frames, messages);
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        if let Ok(call) = Call::parse(&bytes) {
            let _ = call.parameters::<Create>();
        }
        let _ = Reply::parse(&bytes).map(|reply| reply.parameters().map(str::len));
    }

    #[test]
    fn no_json_makes_the_parsers_panic_or_shows_a_value(
        key in "[a-z_]{1,12}",
        value in "hush[a-z\"\\\\`, ]{0,20}",
    ) {
        let text = serde_json::json!({"method": "a", "parameters": {"name": "a", key: value}}).to_string();
        let call = Call::parse(text.as_bytes()).unwrap();
        let errors = [call.parameters::<Create>().err(), call.parameters::<List>().err()];
        for error in errors.into_iter().flatten() {
            // A name is no value: it is shown, so that its typing error is seen.
            let words = error.to_string();
            prop_assert!(!words.contains("hush") || words.contains("name:"));
        }
    }
}
