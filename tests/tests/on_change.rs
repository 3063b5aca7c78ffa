//! `on_change`: what a supervisor does when its service's secrets or configuration have changed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::traces::signal;
use tests::{Pair, Service, process, wait};

/// Says what it reads at its start and at each SIGHUP.
const READS_AT_HUP: &str = "trap 'echo hup $(cat /secret/a)' HUP; echo start $(cat /secret/a); \
    while :; do sleep 600 & wait $!; done";

fn asked(on_change: Value) -> Asked {
    Asked::service("web")
        .secrets(&["a", "b"])
        .with("on_change", on_change)
}

/// A pair with two secrets that the service may read.
fn pair() -> Pair {
    let pair = Pair::start();
    pair.set("a", "one");
    pair.set("b", "one");
    pair.grant("web", &["a", "b"]);
    pair
}

fn hup(pair: &Pair) -> Service {
    let asked = asked(json!({"signal": "HUP"})).command(&["/bin/sh", "-c", READS_AT_HUP]);
    let mut web = pair.run(&asked);
    assert_eq!(web.line(), "start one");
    web
}

#[track_caller]
fn says(service: &Service, words: &str) {
    let said = || service.errors().contains(words).then_some(());
    if wait::within(wait::LONG, said).is_none() {
        panic!("{words:?} is not said, but: {}", service.errors());
    }
}

#[track_caller]
fn is_reported(pair: &Pair, words: &str) {
    wait::until(&format!("secretsd to hear {words:?}"), || {
        pair.log_text().contains(words).then_some(())
    });
}

/// Keeper and injector.
fn ours(pair: &Pair) -> (i32, i32) {
    let pids = pair.traces().running("deploy-inject");
    (pids[0], *pids.last().unwrap())
}

#[test]
fn a_signal_comes_after_a_change_and_once_for_a_burst() {
    let pair = pair();
    let mut web = hup(&pair);
    pair.set("a", "two");
    assert_eq!(web.line(), "hup two");
    is_reported(&pair, "of web: on_change, signal: done");
    // A stopped supervisor has the whole burst before it, and loses nothing.
    signal(web.supervisor(), Signal::STOP, Duration::ZERO);
    for value in ["three", "four", "five"] {
        pair.set("a", value);
        pair.set("b", value);
    }
    signal(web.supervisor(), Signal::CONT, Duration::ZERO);
    assert_eq!(web.line(), "hup five");
    // What comes next is of the next change.
    pair.deploy(&["secret", "rollback", "a", "1"]).ok();
    assert_eq!(web.line(), "hup one");
    pair.deploy(&["stop", "web"]).ok();
    pair.leaves_nothing();
}

#[test]
fn the_look_before_it_is_no_read_of_the_service() {
    let pair = pair();
    // It is told of b, and reads a alone.
    let mut web = hup(&pair);
    let readers = |name: &str| {
        let told = pair.deploy(&["secret", "readers", name, "--json"]).ok();
        told.json()["services"][0]["instances"][0]["version"].clone()
    };
    pair.set("b", "two");
    assert_eq!(web.line(), "hup one");
    assert_eq!([readers("a"), readers("b")], [json!(1), json!(null)]);
    let looked = pair.deploy(&["audit", "query", "--secret", "b"]).ok();
    assert!(looked.out().contains("deploy-inject"), "{looked}");
}

#[test]
fn a_revoke_is_no_change_and_nothing_is_done_while_a_secret_does_not_open() {
    let pair = pair();
    let mut web = hup(&pair);
    pair.revoke("web", "b");
    pair.set("a", "two");
    says(&web, "on_change: signal skipped: /secret/b: No such file");
    is_reported(&pair, "of web: on_change, signal: skipped: /secret/b");
    // Now it can be done, and is: nothing else has changed.
    pair.grant("web", &["b"]);
    assert_eq!(web.line(), "hup two");
    pair.revoke("web", "b");
    pair.grant("web", &["b"]);
    pair.set("b", "two");
    assert_eq!(web.line(), "hup two");
    pair.set("a", "last");
    assert_eq!(
        web.line(),
        "hup last",
        "one for each change, and none for a revoke or grant"
    );
}

#[test]
fn a_stored_config_and_a_reload_are_changes_too() {
    let pair = pair();
    pair.deploy(&["config", "create", "app", "level=debug"])
        .ok();
    let text = "trap 'echo hup $(cat /config/level) $(cat /config/own)' HUP; echo start; \
        while :; do sleep 600 & wait $!; done";
    let asked = asked(json!({"signal": "HUP"}))
        .with("config_from", json!(["app"]))
        .command(&["/bin/sh", "-c", text]);
    let with = |own: &str| asked.clone().config(&[("own", own)]);
    let mut web = pair.run(&with("1"));
    assert_eq!(web.line(), "start");
    pair.deploy(&["config", "set", "app", "level=info"]).ok();
    assert_eq!(web.line(), "hup info 1");
    let file = pair.manifest(&with("2"));
    pair.deploy(&["reload", file.to_str().unwrap()]).ok();
    assert_eq!(web.line(), "hup info 2");
}

#[test]
fn a_command_runs_as_the_service_where_the_service_is() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let script = "echo who $(id -u) $(id -G); echo value $(cat /secret/a) $B; \
        echo place $(pwd) $(readlink /proc/self/ns/mnt) $DEPLOY_SERVICE; \
        echo group $(sed -n s/^0:://p /proc/self/cgroup); exit 7";
    let asked = asked(json!({"command": ["/bin/sh", "-c", script]}))
        .with("secrets", json!(["a", {"name": "b", "env": "B"}]))
        .user(user.uid());
    let text = "echo start; exec sleep infinity";
    let mut web = pair.run(&asked.command(&["/bin/sh", "-c", text]));
    assert_eq!(web.line(), "start");
    let pid = web.instance().pid;
    pair.set("a", "two");
    says(&web, "on_change: command failed: it ended with exit code 7");
    is_reported(
        &pair,
        "of web: on_change, command: failed: it ended with exit code 7",
    );
    let uid = user.uid();
    let namespace = process::namespace(pid, "mnt").unwrap();
    let cgroup = process::cgroup(pid).unwrap();
    for words in [
        format!("who {uid} {uid}\n"),
        "value two one\n".to_owned(),
        format!("place / mnt:[{namespace}] web\n"),
        format!("group {cgroup}\n"),
    ] {
        assert!(web.errors().contains(&words), "{words}: {}", web.errors());
    }
    // The service itself has heard nothing, and its own words are elsewhere.
    assert!(process::runs(pid));
    pair.deploy(&["stop", "web"]).ok();
    let ended = web.wait();
    assert_eq!(ended.out(), "");
    pair.leaves_nothing();
}

#[test]
fn a_detached_service_has_its_commands_words_in_its_log() {
    let pair = pair();
    let log = pair.folder().join("web.log");
    let asked = asked(json!({"command": ["/bin/sh", "-c", "echo $(cat /secret/a) came"]}))
        .command(&["/bin/sleep", "infinity"]);
    let file = pair.manifest(&asked);
    let words = [
        "run",
        "--detach",
        "--log",
        log.to_str().unwrap(),
        file.to_str().unwrap(),
    ];
    pair.deploy(&words).ok();
    pair.set("a", "two");
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    wait::until("the command", || {
        text().contains("two came\n").then_some(())
    });
    pair.revoke("web", "b");
    pair.set("a", "three");
    wait::until("the supervisor's own words", || {
        text().contains("command skipped: /secret/b").then_some(())
    });
    pair.deploy(&["stop", "web"]).ok();
    pair.leaves_nothing();
}

#[test]
fn a_restart_is_a_new_life_and_no_failure() {
    let pair = pair();
    let asked = asked(json!("restart")).with("restart", json!("no"));
    let text = "echo $(cat /secret/a); exec sleep infinity";
    let mut web = pair.run(&asked.command(&["/bin/sh", "-c", text]));
    assert_eq!(web.line(), "one");
    let first = web.instance();
    for (value, restarts) in [("two", 1), ("three", 2)] {
        pair.set("a", value);
        assert_eq!(web.line(), value);
        let listed = wait::until("ps to count", || {
            let said = pair.deploy(&["ps", "--json"]).ok().json();
            let one = said.as_array()?.first()?.clone();
            (one["restarts"] == json!(restarts) && one["instance"].is_object()).then_some(one)
        });
        assert_ne!(listed["instance"]["number"], json!(first.number));
    }
    process::goes(first.pid);
    is_reported(
        &pair,
        &format!("instance {} of web: on_change, restart: done", first.number),
    );
    pair.deploy(&["stop", "web"]).ok();
    web.wait().code(143);
    pair.leaves_nothing();
}

#[test]
fn a_change_is_not_lost_while_the_injector_is_away() {
    let pair = pair();
    let mut web = hup(&pair);
    let (keeper, injector) = ours(&pair);
    // Nobody starts it again for now.
    signal(keeper, Signal::STOP, Duration::ZERO);
    signal(injector, Signal::KILL, wait::LONG);
    pair.set("a", "two");
    signal(keeper, Signal::CONT, Duration::ZERO);
    assert_eq!(web.line(), "hup two");
    is_reported(&pair, "of web: on_change, signal: done");
}

#[test]
fn a_change_is_not_lost_when_all_that_knew_of_it_die() {
    let pair = pair();
    let mut web = hup(&pair);
    let (keeper, injector) = ours(&pair);
    signal(keeper, Signal::STOP, Duration::ZERO);
    signal(injector, Signal::KILL, wait::LONG);
    pair.set("b", "two");
    signal(pair.secretsd(), Signal::KILL, wait::LONG);
    signal(keeper, Signal::CONT, Duration::ZERO);
    assert_eq!(web.line(), "hup one");
    // And nothing is told twice by those that come back.
    pair.kill_secretsd();
    pair.set("a", "two");
    assert_eq!(web.line(), "hup two");
}

#[test]
fn a_change_that_a_sealed_store_kept_from_being_read_is_acted_on_after_the_unseal() {
    let pair = pair();
    let mut web = hup(&pair);
    signal(web.supervisor(), Signal::STOP, Duration::ZERO);
    pair.set("a", "two");
    pair.seal();
    signal(web.supervisor(), Signal::CONT, Duration::ZERO);
    says(&web, "on_change: signal skipped: /secret/a");
    pair.deploy(&["unseal"]).ok();
    assert_eq!(web.line(), "hup two");
}
