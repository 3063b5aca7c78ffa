//! Versions and fields of a secret: what stays in reach, what a service keeps, and what ends both.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::{Answer, Ask, Pair, Probe, wait};

fn retained(pair: &Pair) -> Value {
    pair.status()["retained_versions"].clone()
}

/// Waits until so many versions are kept only because they are open: a close is told later.
#[track_caller]
fn retains(pair: &Pair, count: u64) {
    let right = wait::within(Duration::from_secs(20), || {
        (retained(pair) == json!(count)).then_some(())
    });
    assert!(
        right.is_some(),
        "{} are kept, and not {count}",
        retained(pair)
    );
}

fn web(pair: &Pair, secrets: &[&str]) -> Probe {
    let user = ClaimedUser::claim();
    pair.grant("web", secrets);
    pair.probe(&Asked::service("web").user(user.uid()).secrets(secrets))
}

#[test]
fn history_tells_versions_with_times_and_sizes() {
    let pair = Pair::start();
    for value in ["one", "second", ""] {
        pair.set_with("db_password", value.as_bytes(), &[]).ok();
    }
    let said = pair
        .deploy(&["secret", "history", "db_password", "--json"])
        .ok()
        .json();
    let told = said["versions"].as_array().unwrap();
    let sizes: Vec<(u64, u64)> = told
        .iter()
        .map(|one| {
            (
                one["version"].as_u64().unwrap(),
                one["bytes"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(sizes, [(1, 3), (2, 6), (3, 0)]);
    let times: Vec<u64> = told
        .iter()
        .map(|one| one["created"].as_u64().unwrap())
        .collect();
    assert!(times.is_sorted() && times[0] > 1_700_000_000, "{times:?}");
    for (version, value) in [("1", "one"), ("2", "second"), ("3", "")] {
        let got = pair.get("db_password", &["--version", version]).ok();
        assert_eq!(got.out(), value);
    }
    pair.get("db_password", &["--version", "4"])
        .code(4)
        .says(&["4", "history"]);
    let table = pair
        .deploy(&["secret", "history", "db_password"])
        .ok()
        .out();
    assert!(table.starts_with("VERSION"), "{table}");
}

#[test]
fn rollback_makes_an_older_version_the_newest_in_the_services_file_too() {
    let pair = Pair::start();
    pair.set_with("db_password", b"one", &[]).ok();
    let mut web = web(&pair, &["db_password"]);
    pair.set_with("db_password", b"second", &[]).ok();
    assert_eq!(web.read("/secret/db_password").text(), "second");
    let held = web.open("/secret/db_password").descriptor();
    let said = pair
        .deploy(&["secret", "rollback", "db_password", "1", "--json"])
        .ok();
    assert_eq!(said.json()["version"], json!(3));
    assert_eq!(web.read("/secret/db_password").text(), "one");
    assert_eq!(web.pread(held).text(), "second", "what is open stays whole");
    assert_eq!(pair.versions("db_password"), [1, 2, 3]);
    pair.deploy(&["secret", "rollback", "db_password", "3"])
        .code(6)
        .says(&["newest"]);
    pair.deploy(&["secret", "rollback", "db_password", "9"])
        .code(4);
    assert_eq!(pair.versions("db_password"), [1, 2, 3]);
}

#[test]
fn keep_is_how_many_versions_get_history_and_rollback_reach() {
    let pair = Pair::start();
    for number in 1..=12 {
        pair.set_with("default", format!("value {number}").as_bytes(), &[])
            .ok();
    }
    assert_eq!(
        pair.versions("default"),
        (3..=12).collect::<Vec<_>>(),
        "ten, if nothing is said"
    );
    pair.get("default", &["--version", "2"]).code(4);
    pair.deploy(&["secret", "rollback", "default", "2"]).code(4);
    pair.deploy(&["secret", "rollback", "default", "3"]).ok();

    pair.set_with("two", b"1", &["--keep", "2"]).ok();
    for value in ["2", "3", "4"] {
        pair.set_with("two", value.as_bytes(), &[]).ok();
    }
    assert_eq!(pair.versions("two"), [3, 4], "it is remembered");
    pair.set_with("two", b"5", &["--keep", "4"]).ok();
    pair.set_with("two", b"6", &[]).ok();
    assert_eq!(
        pair.versions("two"),
        [3, 4, 5, 6],
        "what was out of reach stays so"
    );
    let listed = pair.deploy(&["secret", "list", "--json"]).ok().json();
    let two = &listed["secrets"][1];
    assert_eq!((&two["keep"], &two["versions"]), (&json!(4), &json!(4)));
    pair.set_with("two", b"7", &["--keep", "1001"])
        .code(2)
        .says(&["1000"]);
    assert_eq!(pair.versions("two"), [3, 4, 5, 6]);
}

#[test]
fn under_keep_0_an_old_version_is_revoked_also_for_who_has_it_open() {
    let pair = Pair::start();
    pair.set_with("key", b"one", &["--keep", "0"]).ok();
    let mut web = web(&pair, &["key"]);
    let (cached, unread) = (
        web.open("/secret/key").descriptor(),
        web.open("/secret/key").descriptor(),
    );
    assert_eq!(web.pread(cached).text(), "one");
    assert_eq!(web.ask(Ask::Child(cached)), Answer::Done);
    pair.set_with("key", b"second", &[]).ok();
    for descriptor in [cached, unread] {
        web.pread(descriptor).is_revoked();
    }
    match web.ask(Ask::ChildReads) {
        Answer::Child(code, output) => assert!(code != 0 && output.is_empty(), "a child reads on"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        web.read("/secret/key").text(),
        "second",
        "the name leads to the newest"
    );
    assert_eq!(pair.versions("key"), [2]);
    pair.get("key", &["--version", "1"]).code(4);

    // The same when a secret that kept versions stops to do so, and by a rotate.
    pair.set_with("other", b"one", &[]).ok();
    let mut api = {
        pair.grant("api", &["other"]);
        pair.probe(&Asked::service("api").secrets(&["other"]))
    };
    let first = api.open("/secret/other").descriptor();
    pair.set_with("other", b"second", &[]).ok();
    let second = api.open("/secret/other").descriptor();
    assert_eq!(api.pread(first).text(), "one");
    pair.set_with("other", b"third", &["--keep", "0"]).ok();
    api.pread(first).is_revoked();
    api.pread(second).is_revoked();
    let third = api.open("/secret/other").descriptor();
    assert_eq!(api.pread(third).text(), "third");
    pair.deploy_with(&["secret", "rotate", "other", "--file", "-"], b"fourth")
        .ok();
    api.pread(third).is_revoked();
    assert_eq!(retained(&pair), json!(0));
}

#[test]
fn a_version_that_is_open_is_kept_until_it_is_not() {
    let pair = Pair::start();
    pair.set_with("key", b"one", &["--keep", "1"]).ok();
    let mut web = web(&pair, &["key"]);
    assert_eq!(web.read("/secret/key").text(), "one");
    // Never read, so that it does not come out of the page cache.
    let held = web.open("/secret/key").descriptor();
    for value in ["second", "third", "fourth"] {
        pair.set_with("key", value.as_bytes(), &[]).ok();
        assert_eq!(web.read("/secret/key").text(), value);
    }
    assert_eq!(pair.versions("key"), [4]);
    retains(&pair, 1);
    assert_eq!(web.pread(held).text(), "one");
    assert_eq!(web.ask(Ask::Close(held)), Answer::Done);
    retains(&pair, 0);

    // An end of the instance closes too.
    let held = web.open("/secret/key").descriptor();
    pair.set_with("key", b"fifth", &[]).ok();
    assert_eq!(web.pread(held).text(), "fourth");
    retains(&pair, 1);
    web.end().ok();
    retains(&pair, 0);
}

#[test]
fn a_version_that_is_open_is_kept_over_a_crash_of_secretsd() {
    let pair = Pair::start();
    pair.set_with("key", b"one", &["--keep", "1"]).ok();
    let mut web = web(&pair, &["key"]);
    let held = web.open("/secret/key").descriptor();
    pair.set_with("key", b"second", &[]).ok();
    let secretsd = pair.secretsd();
    tests::traces::signal(secretsd, rustix::process::Signal::KILL, wait::LONG);
    for value in ["third", "fourth"] {
        wait::until("a secretsd that takes it", || {
            (pair.set_with("key", value.as_bytes(), &[]).code == 0).then_some(())
        });
    }
    assert_eq!(pair.versions("key").len(), 1);
    assert_eq!(web.pread(held).text(), "one");
    assert_eq!(web.read("/secret/key").text(), "fourth");
    web.end().ok();
    retains(&pair, 0);
}

#[test]
fn create_takes_no_name_that_is_there_and_rotate_none_that_is_not() {
    let pair = Pair::start();
    pair.deploy(&[
        "call",
        "secret.create",
        r#"{"name":"a","value":"1","keep":3}"#,
    ])
    .ok();
    pair.deploy(&["call", "secret.create", r#"{"name":"a","value":"2"}"#])
        .code(6)
        .says(&["deploy secret set a"]);
    pair.deploy(&["call", "secret.create", r#"{"name":"a","data":{"b":"2"}}"#])
        .code(6);
    assert_eq!(pair.get("a", &[]).ok().out(), "1");
    let words = ["secret", "rotate", "b", "--file", "-"];
    pair.deploy_with(&words, b"1").code(4).says(&["b"]);
    pair.get("b", &[]).code(4);
}

#[test]
fn a_secret_that_is_deleted_in_use_is_gone_and_its_name_starts_with_nobody() {
    let pair = Pair::start();
    pair.set_with("key", b"one", &[]).ok();
    pair.set_with("key", b"second", &[]).ok();
    let mut web = web(&pair, &["key"]);
    let held = web.open("/secret/key").descriptor();
    assert_eq!(web.pread(held).text(), "second");
    let said = pair
        .deploy(&["secret", "delete", "key", "--yes", "--json"])
        .ok();
    assert_eq!(said.json()["services"], json!(["web"]));
    web.pread(held).is_revoked();
    assert_eq!(web.read("/secret/key"), Answer::Errno(libc::ENOENT));
    assert_eq!(web.list("/secret").names(), Vec::<String>::new());

    pair.set_with("key", b"another", &[]).ok();
    assert_eq!(
        pair.versions("key"),
        [3],
        "a number is given to one version alone"
    );
    assert_eq!(
        web.read("/secret/key"),
        Answer::Errno(libc::ENOENT),
        "granted to nobody"
    );
    let readers = pair
        .deploy(&["secret", "readers", "key", "--json"])
        .ok()
        .json();
    assert_eq!(readers["services"], json!([]));
    pair.grant("web", &["key"]);
    assert_eq!(web.read("/secret/key").text(), "another");
    web.pread(held).is_revoked();
}

#[test]
fn a_delete_asks_at_a_terminal_and_without_one_needs_yes() {
    let pair = Pair::start();
    pair.set_with("key", b"one", &[]).ok();
    pair.deploy(&["secret", "delete", "key"])
        .code(2)
        .says(&["--yes"]);
    let mut terminal = pair.terminal(&["secret", "delete", "key"]);
    terminal.shows("[y/N]", 1);
    terminal.type_line("n");
    assert_ne!(terminal.end().0, 0);
    assert_eq!(pair.get("key", &[]).ok().out(), "one");
    let mut terminal = pair.terminal(&["secret", "delete", "key"]);
    terminal.shows("[y/N]", 1);
    terminal.type_line("y");
    assert_eq!(terminal.end().0, 0);
    pair.get("key", &[]).code(4);
}

#[test]
fn a_grant_that_expires_is_taken_back_when_its_time_is_over() {
    let pair = Pair::start();
    pair.set_with("key", b"one", &[]).ok();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let call = format!(r#"{{"service":"web","names":["key"],"until":{}}}"#, now + 4);
    pair.deploy(&["call", "secret.grant", &call]).ok();
    let mut web = pair.probe(&Asked::service("web").secrets(&["key"]));
    let held = web.open("/secret/key").descriptor();
    assert_eq!(web.pread(held).text(), "one");
    wait::until("the name to go", || {
        (web.read("/secret/key") == Answer::Errno(libc::ENOENT)).then_some(())
    });
    wait::until("the descriptor to be revoked", || web.pread(held).errno());
    web.pread(held).is_revoked();
    pair.run_to_end(&Asked::service("web").secrets(&["key"]).command(&["true"]))
        .code(3);
}
