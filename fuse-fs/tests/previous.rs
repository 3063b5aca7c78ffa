//! The version before the newest, while its grace lasts.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::fs::File;
use std::time::{Duration, Instant};

use harness::{Host, head, is_revoked};
use store::{SecretBytes, Value};

const HOUR: Duration = Duration::from_secs(3600);

fn single(text: &str) -> Value {
    Value::Single(SecretBytes::from(text.as_bytes()))
}

fn host(names: &[&str]) -> Host {
    let host = Host::start();
    host.set("a", "one");
    host.set_fields("tls", &[("cert", "C1"), ("key", "K1")]);
    host.grant(&["a", "tls"]);
    host.make(names, &[]);
    host
}

#[test]
fn it_is_there_for_those_that_ask_for_it_and_nothing_of_it_before() {
    let host = host(&["a previous", "tls previous"]);
    assert_eq!(host.list(""), ["a", "tls"]);
    assert_eq!(host.read(".previous/a"), Err(libc::ENOENT));
    host.rotate_with_grace("a", single("two"), HOUR);
    assert_eq!(host.list(""), [".previous", "a", "tls"]);
    assert_eq!(host.list(".previous"), ["a"]);
    assert_eq!(host.read(".previous/a").unwrap(), "one");
    assert_eq!(host.read("a").unwrap(), "two");
    let fields = [("cert", "C2"), ("key", "K2")]
        .map(|(name, value)| (name.parse().unwrap(), SecretBytes::from(value.as_bytes())));
    host.rotate_with_grace("tls", Value::Fields(fields.into()), HOUR);
    assert_eq!(host.list(".previous"), ["a", "tls"]);
    assert_eq!(host.list(".previous/tls"), ["cert", "key"]);
    assert_eq!(host.read(".previous/tls/key").unwrap(), "K1");
    assert_eq!(host.read("tls/key").unwrap(), "K2");
    // Another rotation leaves it; one with a grace of its own replaces it.
    host.set("a", "three");
    assert_eq!(host.read(".previous/a").unwrap(), "one");
    host.rotate_with_grace("a", single("four"), HOUR);
    assert_eq!(host.read(".previous/a").unwrap(), "three");
}

#[test]
fn whoever_does_not_ask_does_not_see_it() {
    let host = host(&["a", "tls previous"]);
    host.rotate_with_grace("a", single("two"), HOUR);
    assert_eq!(host.list(""), ["a", "tls"]);
    assert_eq!(host.read(".previous/a"), Err(libc::ENOENT));
}

#[test]
fn its_end_is_like_a_revoke_and_leaves_what_was_open_before() {
    let host = host(&["a previous"]);
    let before = File::open(host.secret("a")).unwrap();
    assert_eq!(head(&before).unwrap(), "one");
    host.rotate_with_grace("a", single("two"), Duration::from_secs(1));
    let previous = File::open(host.secret(".previous/a")).unwrap();
    assert_eq!(head(&previous).unwrap(), "one");
    let name = "a".parse().unwrap();
    let start = Instant::now();
    while host.store.graces().iter().any(|(_, left)| *left > 0) {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
    }
    host.unlink(host.views.previous_changed(&name));
    assert!(is_revoked(&head(&previous)));
    assert_eq!(host.read(".previous/a"), Err(libc::ENOENT));
    assert_eq!(host.list(""), ["a"]);
    assert_eq!(head(&before).unwrap(), "one");
    assert_eq!(host.read("a").unwrap(), "two");
}

#[test]
fn a_revoke_reaches_it() {
    let host = host(&["a previous"]);
    host.rotate_with_grace("a", single("two"), HOUR);
    let previous = File::open(host.secret(".previous/a")).unwrap();
    assert_eq!(head(&previous).unwrap(), "one");
    host.revoke("a");
    assert!(is_revoked(&head(&previous)));
    assert_eq!(host.read(".previous/a"), Err(libc::ENOENT));
    host.grant(&["a"]);
    assert_eq!(host.read(".previous/a").unwrap(), "one");
}

#[test]
fn numbers_come_out_the_same_after_a_restart() {
    let host = host(&["a previous", "tls previous"]);
    host.rotate_with_grace("a", single("two"), HOUR);
    let mut spec = host.spec(&["a previous", "tls previous"], &[]);
    spec.number = 8;
    let entries = host.views.make(spec.clone()).unwrap();
    assert!(entries.iter().any(|entry| entry.name == ".previous/a"));
    host.views.end(8);
    spec.entries = entries.clone();
    assert_eq!(host.views.restore(spec).unwrap(), entries);
}
