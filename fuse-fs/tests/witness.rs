//! Every access to a secret is written down before it is answered.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;

use std::fs::File;
use std::sync::atomic::Ordering;

use harness::{Host, head};

fn host() -> Host {
    let host = Host::start();
    host.set("a", "one");
    host.set("each", "one");
    host.set_fields("tls", &[("cert", "C"), ("key", "K")]);
    host.set("other", "x");
    host.grant(&["a", "each", "tls"]);
    host.make(&["a", "each each", "tls"], &[("key", "value")]);
    host.witnessed();
    host
}

#[test]
fn each_open_is_named_with_its_version_and_field() {
    let host = host();
    host.read("a").unwrap();
    host.set("a", "two");
    host.read("a").unwrap();
    host.read("tls/key").unwrap();
    std::fs::read(host.config("key")).unwrap();
    assert_eq!(
        host.witnessed(),
        [
            "Open web 7 a@1 Allowed",
            "Open web 7 a@2 Allowed",
            "Open web 7 tls/key@1 Allowed"
        ]
    );
}

#[test]
fn each_denial_is_named_with_its_reason() {
    let host = host();
    for name in ["other", "a.b", "tls/none", ".hidden", "UPPER"] {
        assert_eq!(host.read(name), Err(libc::ENOENT), "{name}");
    }
    assert_eq!(
        host.witnessed(),
        [
            "Open web 7 other@0 Denied not in the manifest",
            "Open web 7 a.b@0 Denied not in the manifest"
        ]
    );
    host.belongs(false);
    assert_eq!(host.read("a"), Err(libc::EACCES));
    assert_eq!(
        host.witnessed(),
        ["Open web 7 a@0 Denied not a process of the instance"]
    );
    host.belongs(true);
    host.revoke("a");
    host.witnessed();
    assert_eq!(host.read("a"), Err(libc::ENOENT));
    assert_eq!(host.witnessed(), ["Open web 7 a@0 Denied revoked"]);
    host.store.seal();
    host.views.sealed();
    assert_eq!(host.read("each"), Err(libc::ENOKEY));
    assert_eq!(host.witnessed(), ["Open web 7 each@0 Denied sealed"]);
}

#[test]
fn what_cannot_be_written_down_is_not_opened_and_config_goes_on() {
    let host = host();
    let held = File::open(host.secret("a")).unwrap();
    host.notes.fails.store(true, Ordering::SeqCst);
    assert_eq!(host.read("a"), Err(libc::EIO));
    assert_eq!(host.read("other"), Err(libc::ENOENT), "denied is denied");
    assert_eq!(std::fs::read(host.config("key")).unwrap(), b"value");
    assert_eq!(head(&held).unwrap(), "one", "what is open stays so");
    host.notes.fails.store(false, Ordering::SeqCst);
    assert_eq!(host.read("a").unwrap(), "one");
}

#[test]
fn each_read_is_named_where_that_is_asked_for() {
    let host = host();
    let held = File::open(host.secret("each")).unwrap();
    for _ in 0..2 {
        assert_eq!(head(&held).unwrap(), "one");
    }
    assert_eq!(
        host.witnessed(),
        [
            "Open web 7 each@1 Allowed",
            "Read web 7 each@1 Allowed",
            "Read web 7 each@1 Allowed"
        ]
    );
    // Somebody that the descriptor was passed to.
    host.belongs(false);
    assert_eq!(head(&held), Err(libc::EACCES));
    host.belongs(true);
    host.notes.fails.store(true, Ordering::SeqCst);
    assert_eq!(head(&held), Err(libc::EIO));
    host.notes.fails.store(false, Ordering::SeqCst);
    host.revoke("each");
    assert!(harness::is_revoked(&head(&held)));
    assert!(
        host.witnessed()
            .iter()
            .any(|line| line.starts_with("Read web 7 each@0 Denied"))
    );
}
