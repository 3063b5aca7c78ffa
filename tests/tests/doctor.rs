//! `deploy doctor`: what is wrong is found and named with what mends it, and nothing is waited for.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::command::Finished;
use tests::manifest::Asked;
use tests::traces::signal;
use tests::{Pair, process};

fn doctor(pair: &Pair, more: &[&str]) -> Finished {
    let state = pair.state();
    let words = ["doctor", "--json", "--state-dir", state.to_str().unwrap()];
    pair.deploy(&[&words, more].concat())
}

/// What is worse than a note.
fn wrong(told: &Finished) -> Vec<Value> {
    let report: Value = serde_json::from_str(&told.out()).unwrap();
    let mut findings = report["findings"].as_array().unwrap().clone();
    findings.retain(|one| ["warning", "error"].contains(&one["severity"].as_str().unwrap()));
    findings
}

#[track_caller]
fn finds(told: &Finished, about: &str, says: &str) {
    let found = |one: &Value| {
        let is_said = one["says"].as_str().unwrap().contains(says);
        one["about"] == about && is_said && one["mend"].is_string()
    };
    assert!(wrong(told).iter().any(found), "{about}, {says}: {told}");
    assert_eq!(told.code, 2, "{told}");
}

fn pair() -> Pair {
    let pair = Pair::start();
    pair.set("key", "value");
    pair.grant("web", &["key"]);
    pair
}

fn service(pair: &Pair) -> tests::Probe {
    pair.probe(&Asked::service("web").secrets(&["key"]))
}

#[test]
fn nothing_is_wrong_with_a_pair_that_works() {
    let pair = pair();
    let web = service(&pair);
    let told = doctor(&pair, &[]);
    assert_eq!(wrong(&told), [Value::Null; 0]);
    assert_eq!(told.code, 0);
    let text = pair.deploy(&["doctor", "--state-dir", pair.state().to_str().unwrap()]);
    for words in [
        "unsealed",
        "instances: 1 have their views",
        "entries in 1 segments fit",
    ] {
        assert!(text.out().contains(words), "{words}: {text}");
    }
    drop(web);
}

#[test]
fn what_others_may_read_is_found_and_repaired() {
    let pair = pair();
    let key = pair.state().join("keys");
    let (sockets, open) = (pair.run_folder().join("control.sock"), 0o644);
    let mode = |path: &std::path::Path| path.metadata().unwrap().mode() & 0o7777;
    let files = std::fs::read_dir(pair.state())
        .unwrap()
        .map(|one| one.unwrap().path());
    let file = files.into_iter().find(|path| path.is_file()).unwrap_or(key);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(open)).unwrap();
    std::fs::set_permissions(&sockets, PermissionsExt::from_mode(0o666)).unwrap();
    let told = doctor(&pair, &[]);
    finds(&told, "state folder", file.to_str().unwrap());
    finds(&told, "control socket", "0666");
    assert_eq!(
        (mode(&file), mode(&sockets)),
        (open, 0o666),
        "it has only looked"
    );
    let told = doctor(&pair, &["--repair"]);
    assert_eq!((told.code, wrong(&told)), (0, vec![]));
    assert_eq!((mode(&file), mode(&sockets)), (0o600, 0o660));
}

#[test]
fn a_secretsd_that_is_stopped_sealed_or_away_is_told_of_and_not_waited_for() {
    let mut pair = pair();
    pair.deploy(&["seal"]).ok();
    finds(&doctor(&pair, &[]), "secretsd", "sealed");
    pair.deploy(&["unseal"]).ok();
    let secretsd = pair.secretsd();
    signal(secretsd, Signal::STOP, Duration::ZERO);
    let told = doctor(&pair, &[]);
    signal(secretsd, Signal::CONT, Duration::ZERO);
    finds(&told, "secretsd", "has not answered");
    pair.down();
    let told = doctor(&pair, &[]);
    finds(&told, "secretsd", "does not answer");
    finds(&told, "mounts", "nothing is mounted");
    assert!(process::stat(secretsd).is_none());
}

#[test]
fn a_view_that_is_not_where_it_should_be_is_named_with_its_service() {
    let pair = pair();
    let web = service(&pair);
    let pid = web.service().instance().pid.to_string();
    let words = ["--mount", "--target", &pid, "umount", "--lazy", "/secret"];
    assert!(
        std::process::Command::new("nsenter")
            .args(words)
            .status()
            .unwrap()
            .success()
    );
    finds(
        &doctor(&pair, &[]),
        "instances",
        "of web: nothing is mounted at /secret",
    );
}
