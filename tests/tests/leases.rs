//! What ends by itself: grants with an end, and the grace of an older version.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::probe::{Answer, Ask};
use tests::{Pair, wait};

fn asked(user: &ClaimedUser) -> Asked {
    Asked::service("web").user(user.uid()).with(
        "secrets",
        json!([{"name": "db_password", "previous": true}]),
    )
}

fn left(pair: &Pair) -> Value {
    let told = pair
        .deploy(&["secret", "readers", "db_password", "--json"])
        .ok();
    told.json()["services"][0]["left"].clone()
}

#[test]
fn a_grant_with_a_ttl_ends_by_itself_for_what_is_open_too() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("db_password", "the value");
    pair.deploy(&["secret", "grant", "web", "db_password", "--ttl", "3s"])
        .ok();
    assert!(left(&pair).as_u64().unwrap() <= 3);
    let mut probe = pair.probe(&asked(&user));
    let Answer::Descriptor(held) = probe.ask(Ask::Open("/secret/db_password".into())) else {
        panic!();
    };
    assert_eq!(probe.ask(Ask::Pread(held, 0, 100)).text(), "the value");
    wait::until("the end of the grant", || {
        (probe.read("/secret/db_password").errno() == Some(libc::ENOENT)).then_some(())
    });
    wait::until("the end of what is open", || {
        let errno = probe.ask(Ask::Pread(held, 0, 100)).errno();
        matches!(errno, Some(libc::EKEYREVOKED | libc::EIO)).then_some(())
    });
    assert_eq!(left(&pair), 0);
    let shown = pair.deploy(&["secret", "readers", "db_password"]).ok();
    assert!(shown.out().contains("ended"), "{shown}");
    // Given anew, it is there again.
    pair.deploy(&["secret", "grant", "web", "db_password", "--ttl", "8h"])
        .ok();
    assert_eq!(probe.read("/secret/db_password").text(), "the value");
    probe.end().ok();
}

#[test]
fn an_end_is_written_down_once_however_often_secretsd_is_started() {
    let pair = Pair::start();
    let ended = || {
        let log = pair.deploy(&["audit", "query", "--kind", "change"]).ok();
        let text = log.out();
        let expired = |name: &str| {
            let is = |line: &&str| line.contains("secret.expire") && line.contains(name);
            text.lines().filter(is).count()
        };
        (expired("first"), expired("second"))
    };
    let lease = |name: &str| {
        pair.set(name, "the value");
        pair.deploy(&["secret", "grant", "web", name, "--ttl", "1s"])
            .ok();
    };
    lease("first");
    wait::until("the end of the first", || (ended() == (1, 0)).then_some(()));
    pair.kill_secretsd();
    // Whoever has told of this one has looked at all before.
    lease("second");
    wait::until("the end of the second", || (ended().1 > 0).then_some(()));
    assert_eq!(ended(), (1, 1));
}

/// A pair whose secretsd lives in a time namespace: that machine has been up for so many seconds more.
fn up_later(pair: &mut Pair, seconds: u32) {
    let up = pair.up_command();
    let mut command = Command::new("unshare");
    command
        .args(["--time", "--boottime", &seconds.to_string(), "--"])
        .arg(up.get_program())
        .args(up.get_args());
    for (name, value) in up.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    pair.up_by(command);
}

#[test]
fn time_that_has_passed_counts_whatever_the_wall_clock_says() {
    let mut pair = Pair::start();
    pair.set("db_password", "the value");
    pair.deploy(&["secret", "grant", "web", "db_password", "--ttl", "8h"])
        .ok();
    pair.down();
    // Nine hours later by the clock that nobody sets; the wall clock shows the same as before, as if it
    // had been set back by nine hours.
    up_later(&mut pair, 9 * 3600);
    assert_eq!(left(&pair), 0);
    let user = ClaimedUser::claim();
    let refused = pair.run_to_end(&asked(&user).command(&["/bin/true"]));
    assert_eq!(refused.code, 3, "{refused}");
    pair.deploy(&["secret", "grant", "web", "db_password", "--ttl", "8h"])
        .ok();
    pair.run_to_end(&asked(&user).command(&["/bin/true"])).ok();
    pair.down();
    // And a restart takes nothing away that is not over.
    up_later(&mut pair, 10 * 3600);
    let left = left(&pair).as_u64().unwrap();
    assert!((6 * 3600..=7 * 3600).contains(&left), "{left}");
    pair.run_to_end(&asked(&user).command(&["/bin/true"])).ok();
}

#[test]
fn a_grace_keeps_the_version_before_for_as_long_as_it_was_asked_for() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("db_password", "one");
    pair.grant("web", &["db_password"]);
    let mut probe = pair.probe(&asked(&user));
    assert_eq!(
        probe.read("/secret/.previous/db_password").errno(),
        Some(libc::ENOENT)
    );
    let words = [
        "secret",
        "rotate",
        "db_password",
        "--file",
        "-",
        "--grace",
        "4s",
    ];
    pair.deploy_with(&words, b"two").ok();
    assert_eq!(probe.read("/secret/db_password").text(), "two");
    let Answer::Descriptor(held) = probe.ask(Ask::Open("/secret/.previous/db_password".into()))
    else {
        panic!();
    };
    assert_eq!(probe.ask(Ask::Pread(held, 0, 100)).text(), "one");
    // It goes on over a restart.
    pair.kill_secretsd();
    assert_eq!(probe.ask(Ask::Pread(held, 0, 100)).text(), "one");
    wait::until("the end of the grace", || {
        (probe.read("/secret/.previous/db_password").errno() == Some(libc::ENOENT)).then_some(())
    });
    wait::until("the end of what is open of it", || {
        let errno = probe.ask(Ask::Pread(held, 0, 100)).errno();
        matches!(errno, Some(libc::EKEYREVOKED | libc::EIO)).then_some(())
    });
    assert_eq!(probe.read("/secret/db_password").text(), "two");
    probe.end().ok();
}

#[test]
fn what_ends_wrongly_is_refused_with_words() {
    let pair = Pair::start();
    pair.set("db_password", "one");
    for (words, says) in [
        (&["--ttl", "8"][..], "such as 30s, 8h or 7d"),
        (&["--ttl=-8h"][..], "such as 30s"),
        (&["--until", "tomorrow"][..], "2026-12-01T08:00:00Z"),
        (
            &["--ttl", "8h", "--until", "2099-01-01T00:00:00Z"][..],
            "cannot be used with",
        ),
    ] {
        let said = pair.deploy(&[&["secret", "grant", "web", "db_password"], words].concat());
        assert_eq!(said.code, 2, "{said}");
        assert!(said.err().contains(says), "{said}");
    }
    let past = [
        "secret",
        "grant",
        "web",
        "db_password",
        "--until",
        "2001-01-01T00:00:00Z",
    ];
    let said = pair.deploy(&past);
    assert!(
        said.code == 2 && said.err().contains("ended already"),
        "{said}"
    );
    pair.set_with("db_password", "two", &["--keep", "0"]).ok();
    let words = [
        "secret",
        "rotate",
        "db_password",
        "--file",
        "-",
        "--grace",
        "1h",
    ];
    let said = pair.deploy_with(&words, b"three");
    assert!(said.code == 2 && said.err().contains("--keep 1"), "{said}");
}
