//! What a supervisor does over the lives of its service: restarts, `--detach`, `ps`, `stop`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::command::Finished;
use tests::manifest::Asked;
use tests::{Pair, Service, process, wait};

/// A service whose every life adds a line with the time in nanoseconds to a file, and then does
/// what `then` says; `$life` counts from 1.
fn counted(pair: &Pair, policy: &str, then: &str) -> (Asked, PathBuf) {
    let file = pair.folder().join(format!("lives-{policy}"));
    let text = format!(
        "date +%s%N >>{0}; life=$(wc -l <{0}); {then}",
        file.display()
    );
    let asked = Asked::service("web")
        .command(&["/bin/sh", "-c", &text])
        .with("restart", json!(policy));
    (asked, file)
}

/// When each life began.
fn lives(file: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last line may be on its way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| line.parse().unwrap()).collect()
}

#[track_caller]
fn lives_at_least(count: usize, file: &Path) {
    wait::until(&format!("{count} lives"), || {
        (lives(file).len() >= count).then_some(())
    });
}

fn ps(pair: &Pair) -> Vec<Value> {
    let said = pair.deploy(&["ps", "--json"]).ok().json();
    said.as_array().unwrap().clone()
}

/// `deploy run --detach` with more words.
fn detach(pair: &Pair, asked: &Asked, more: &[&str]) -> Finished {
    let file = pair.manifest(asked);
    let mut words = vec!["run", "--detach"];
    words.extend(more);
    words.push(file.to_str().unwrap());
    pair.deploy(&words)
}

#[test]
fn restart_no_is_one_life() {
    let pair = Pair::start();
    let (asked, file) = counted(&pair, "no", "exit 3");
    pair.run_to_end(&asked).code(3);
    assert_eq!(lives(&file).len(), 1);
}

#[test]
fn restart_on_failure_goes_on_with_growing_pauses_until_it_ends_well() {
    let pair = Pair::start();
    let (asked, file) = counted(
        &pair,
        "on-failure",
        "case $life in 1) exit 1;; 2) kill -SEGV $$;; 3) exit 9;; 4) exit 0;; esac",
    );
    pair.run_to_end(&asked).ok();
    let lives = lives(&file);
    assert_eq!(lives.len(), 4);
    let pauses: Vec<u64> = lives.windows(2).map(|two| two[1] - two[0]).collect();
    for (pause, least) in pauses.iter().zip([100, 200, 400]) {
        assert!(*pause >= least * 1_000_000, "back-off: {pauses:?}");
    }
    pair.leaves_nothing();
}

#[test]
fn restart_always_ends_only_when_it_is_told_to() {
    let pair = Pair::start();
    let (asked, file) = counted(&pair, "always", "exit 0");
    let service = pair.run(&asked);
    lives_at_least(4, &file);
    // It is in a pause now, or in the shortest of lives.
    service.signal(Signal::TERM);
    let ended = service.wait();
    assert!(matches!(ended.code, 0 | 143), "{ended}");
    let count = lives(&file).len();
    assert_eq!(ps(&pair), Vec::<Value>::new());
    assert_eq!(lives(&file).len(), count, "a life after the end");
    pair.leaves_nothing();
}

#[test]
fn each_life_has_an_instance_of_its_own_and_ps_counts_restarts() {
    let pair = Pair::start();
    pair.set("db_password", "the value");
    pair.grant("web", &["db_password"]);
    let text = "cat /secret/db_password && exec sleep infinity";
    let (asked, file) = counted(&pair, "always", text);
    let service = pair.run(&asked.secrets(&["db_password"]));
    let mut seen = Vec::new();
    for life in 1..=3 {
        lives_at_least(life, &file);
        let instance = wait::until("the next instance", || {
            let instance = service.instance();
            (!seen.contains(&instance.number)).then_some(instance)
        });
        seen.push(instance.number);
        let listed = wait::until("ps to count", || {
            let one = ps(&pair).pop()?;
            (one["restarts"] == json!(life - 1) && one["instance"].is_object()).then_some(one)
        });
        assert_eq!(listed["instance"]["number"], json!(instance.number));
        tests::traces::signal(instance.pid, Signal::KILL, wait::LONG);
    }
    service.signal(Signal::TERM);
    let ended = service.wait();
    assert!(ended.out().starts_with("the value"), "{ended}");
    pair.leaves_nothing();
}

#[test]
fn a_later_injection_that_fails_is_tried_again() {
    let pair = Pair::start();
    pair.set("db_password", "the value");
    pair.grant("web", &["db_password"]);
    let (asked, file) = counted(
        &pair,
        "on-failure",
        "[ $life != 1 ] || { read go; exit 1; }",
    );
    let mut service = pair.run(&asked.secrets(&["db_password"]));
    lives_at_least(1, &file);
    pair.revoke("web", "db_password");
    service.write("go");
    let named = "deploy secret grant web db_password";
    wait::until("the supervisor to be refused twice", || {
        (service.errors().matches(named).count() >= 2).then_some(())
    });
    assert_eq!(lives(&file).len(), 1, "it was started without its secret");
    let listed = ps(&pair);
    assert_eq!(listed.len(), 1, "the supervisor stays");
    assert_eq!(listed[0]["instance"], Value::Null);

    pair.grant("web", &["db_password"]);
    service.wait().ok();
    assert_eq!(lives(&file).len(), 2);
    pair.leaves_nothing();
}

#[test]
fn what_is_wrong_at_the_first_start_is_final_whatever_the_policy() {
    let pair = Pair::start();
    pair.set("db_password", "the value");
    let (asked, file) = counted(&pair, "always", "exit 0");
    let missing = asked.clone().secrets(&["db_password"]);
    let said = pair.run_to_end(&missing).code(3);
    let named = "deploy secret grant web db_password";
    assert_eq!(said.err().matches(named).count(), 1, "{said}");
    let unknown = asked.clone().with("config_from", json!(["nothing"]));
    pair.run_to_end(&unknown).code(1).says(&["nothing"]);
    let nobody = asked.clone().with("user", json!("no-such-user"));
    pair.run_to_end(&nobody).code(1).says(&["no-such-user"]);
    let bad = asked.with("restart", json!("sometimes"));
    pair.run_to_end(&bad).code(2).says(&["on-failure"]);
    assert_eq!(lives(&file), Vec::<u64>::new());
    pair.leaves_nothing();
}

#[test]
fn a_detached_service_outlives_its_caller_and_logs_to_a_file() {
    let pair = Pair::start();
    let log = pair.folder().join("web.log");
    let text = "echo to-stdout; echo to-stderr >&2; exec sleep infinity";
    let asked = Asked::service("web").command(&["/bin/sh", "-c", text]);
    let said = detach(&pair, &asked, &["--log", log.to_str().unwrap()]).ok();
    assert!(!said.out().contains("to-stdout"), "{said}");
    // It runs when the command has returned.
    let listed = ps(&pair).pop().expect("a service");
    assert_eq!(listed["service"], json!("web"));
    assert_eq!(listed["detached"], json!(true));
    let number = |value: &Value| i32::try_from(value.as_i64().unwrap()).unwrap();
    let supervisor = number(&listed["supervisor"]);
    let pid = number(&listed["instance"]["pid"]);
    assert!(process::runs(supervisor) && process::runs(pid));
    let of_supervisor = process::stat(supervisor).unwrap();
    assert_eq!(of_supervisor.session, supervisor, "a session of its own");
    wait::until("both lines in the log", || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        (text.contains("to-stdout\n") && text.contains("to-stderr\n")).then_some(())
    });
    use std::os::unix::fs::PermissionsExt as _;
    let mode = log.metadata().unwrap().permissions().mode();
    assert_eq!(
        mode & 0o777,
        0o600,
        "output may hold what is nobody's business"
    );

    pair.deploy(&["stop", "web"]).ok();
    assert!(!process::runs(supervisor) && !process::runs(pid));
    assert_eq!(ps(&pair), Vec::<Value>::new());
    pair.leaves_nothing();
}

#[test]
fn detach_tells_why_a_service_does_not_start() {
    let pair = Pair::start();
    pair.set("db_password", "the value");
    let asked = Asked::service("web").command(&["/bin/true"]);
    let missing = asked.clone().secrets(&["db_password"]);
    detach(&pair, &missing, &[])
        .code(3)
        .says(&["deploy secret grant web db_password"]);
    let absent = Asked::service("web").command(&["/no/such/program"]);
    detach(&pair, &absent, &[])
        .code(127)
        .says(&["/no/such/program"]);
    let file = pair.manifest(&asked);
    let words = ["run", "--log", "/dev/null", file.to_str().unwrap()];
    pair.deploy(&words).code(2).says(&["--detach"]);
    pair.leaves_nothing();
}

#[test]
fn stop_ends_every_instance_of_one_service_and_no_other() {
    let pair = Pair::start();
    let asked = |name: &str| Asked::service(name).command(&["sleep", "infinity"]);
    let (web, api) = (asked("web"), asked("api"));
    let start = |asked: &Asked| -> Service {
        let service = pair.run(asked);
        service.instance();
        service
    };
    let (first, second, other) = (start(&web), start(&web), start(&api));
    let names: Vec<String> = ps(&pair)
        .iter()
        .map(|one| one["service"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["api", "web", "web"]);
    let table = pair.deploy(&["ps"]).ok().out();
    let mut rows = table.lines();
    assert!(rows.next().unwrap().contains("SERVICE"), "{table}");
    assert_eq!(rows.filter(|row| row.starts_with("web")).count(), 2);

    let said = pair.deploy(&["stop", "web", "--json"]).ok();
    assert_eq!(said.json()["stopped"], json!(2));
    first.wait().code(143);
    second.wait().code(143);
    assert!(process::runs(other.instance().pid));
    pair.deploy(&["stop", "web"]).code(4).says(&["web"]);
    pair.deploy(&["stop", "ap"])
        .code(4)
        .says(&["did you mean `api`"]);
    other.signal(Signal::TERM);
    other.wait().code(143);
    pair.leaves_nothing();
}

#[test]
fn stop_kills_a_service_that_does_not_want_to_end() {
    let pair = Pair::start();
    let text = "trap '' TERM; echo ready; sleep infinity & while :; do wait $!; done";
    let mut service = pair.run(&Asked::service("web").command(&["/bin/sh", "-c", text]));
    assert_eq!(service.line(), "ready");
    let pid = service.instance().pid;
    pair.deploy(&["stop", "web"]).ok();
    process::goes(pid);
    service.wait().code(137);
    pair.leaves_nothing();
}

#[test]
fn two_instances_of_one_service_are_revoked_together_and_end_apart() {
    let pair = Pair::start();
    pair.set("db_password", "the value");
    pair.grant("web", &["db_password"]);
    let asked = Asked::service("web")
        .secrets(&["db_password"])
        .config(&[("level", "debug")]);
    let (mut first, mut second) = (pair.probe(&asked), pair.probe(&asked));
    let numbers = [&first, &second].map(|probe| probe.service().instance().number);
    assert_ne!(numbers[0], numbers[1]);
    let readers = pair.deploy(&["secret", "readers", "db_password", "--json"]);
    let mut shown = numbers.to_vec();
    shown.sort_unstable();
    let shown: Vec<_> = shown.iter().map(|one| json!({ "instance": one })).collect();
    assert_eq!(readers.json()["services"][0]["instances"], json!(shown));
    for probe in [&mut first, &mut second] {
        assert_eq!(probe.read("/secret/db_password").text(), "the value");
    }
    first.end().ok();
    assert_eq!(second.read("/secret/db_password").text(), "the value");
    assert_eq!(second.read("/config/level").text(), "debug");
    let mut third = pair.probe(&asked);
    assert_ne!(
        third.service().instance().number,
        numbers[0],
        "numbers are not used again"
    );
    pair.revoke("web", "db_password");
    for probe in [&mut second, &mut third] {
        let answer = probe.read("/secret/db_password");
        assert_eq!(answer.errno(), Some(libc::ENOENT));
    }
}
