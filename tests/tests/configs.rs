//! Stored configs and those of a manifest: what is in the files of /config, and when.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::watcher::{Heard, Watcher};
use tests::{Answer, Ask, Pair, Probe};

/// A pair with the config of the issue.
fn pair() -> Pair {
    let pair = Pair::start();
    let file = pair.file(
        "settings.json",
        r#"{"log_level": "info", "max_conn": 100, "ratio": 1.10, "beta": true}"#,
    );
    let words = [
        "config",
        "create",
        "app.settings",
        "--from-json",
        file.to_str().unwrap(),
    ];
    pair.deploy(&words).ok();
    pair
}

fn asked(from: &[&str], own: &[(&str, &str)]) -> Asked {
    Asked::service("web")
        .with("config_from", json!(from))
        .config(own)
}

/// Every key of a service's /config, with its value.
#[track_caller]
fn shown(probe: &mut Probe) -> Vec<(String, String)> {
    let names = probe.list("/config").names();
    let value = |name: String| {
        let text = probe.read(&format!("/config/{name}")).text();
        (name, text)
    };
    names.into_iter().map(value).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn create_get_set_update_list_and_delete() {
    let pair = pair();
    let get = |words: &[&str]| {
        let mut all = vec!["config", "get", "app.settings"];
        all.extend(words);
        pair.deploy(&all)
    };
    assert_eq!(
        get(&[]).ok().out(),
        "beta=true\nlog_level=info\nmax_conn=100\nratio=1.10\n",
        "numbers as they were written"
    );
    assert_eq!(
        get(&["ratio"]).ok().out(),
        "1.10",
        "as it is, without a line end"
    );
    get(&["log_leval"])
        .code(4)
        .says(&["did you mean `log_level`"]);

    pair.deploy(&["config", "set", "app.settings", "log_level=a=b c"])
        .ok();
    assert_eq!(get(&["log_level"]).ok().out(), "a=b c");
    let words = ["config", "set", "app.settings", "motd", "--file", "-"];
    pair.deploy_with(&words, b"two\nlines\n").ok();
    assert_eq!(get(&["motd"]).ok().out(), "two\nlines\n");
    pair.deploy(&["config", "update", "app.settings", "beta=false", "empty="])
        .ok();
    let data = get(&["--json"]).ok().json();
    assert_eq!(
        data["data"],
        json!({"beta": "false", "empty": "", "log_level": "a=b c", "max_conn": "100",
            "motd": "two\nlines\n", "ratio": "1.10"})
    );
    assert_eq!(
        data["version"],
        json!(4),
        "an update of several keys is one change"
    );

    pair.deploy(&["config", "create", "other", "a=1"]).ok();
    let listed = pair.deploy(&["config", "list", "--json"]).ok();
    let listed = listed.hides("two").hides("a=b").json();
    let names: Vec<&Value> = listed["configs"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names[0]["name"], json!("app.settings"));
    assert_eq!(names[0]["keys"], json!(6));
    let listed = pair
        .deploy(&["config", "list", "app.", "--json"])
        .ok()
        .json();
    assert_eq!(listed["configs"].as_array().unwrap().len(), 1, "by prefix");

    pair.deploy(&["config", "create", "other", "b=2"]).code(6);
    assert_eq!(pair.deploy(&["config", "get", "other"]).ok().out(), "a=1\n");
    pair.deploy(&["config", "delete", "other", "--yes"]).ok();
    pair.deploy(&["config", "get", "other"]).code(4);
    pair.deploy(&["config", "set", "other", "a=1"]).code(4);
    pair.deploy(&["config", "update", "app.settings"]).code(2);
    pair.leaves_nothing();
}

#[test]
fn configs_come_from_env_files_and_survive_a_restart() {
    let mut pair = pair();
    let file = pair.file("more.env", "# comment\nexport PORT=80\nname='a b'\n");
    let words = [
        "config",
        "create",
        "more",
        "--from-env",
        file.to_str().unwrap(),
    ];
    pair.deploy(&words).ok();
    assert_eq!(pair.down(), 0);
    pair.up();
    let printed = pair.deploy(&["config", "get", "more"]).ok().out();
    assert_eq!(printed, "PORT=80\nname=a b\n");
    let printed = pair.deploy(&["config", "get", "app.settings", "max_conn"]);
    assert_eq!(printed.ok().out(), "100");
}

#[test]
fn an_immutable_config_can_only_be_deleted() {
    let pair = Pair::start();
    pair.deploy(&["config", "create", "release", "build=7", "--immutable"])
        .ok();
    for words in [
        &["config", "set", "release", "build=8"][..],
        &["config", "set", "release", "new=1"],
        &["config", "update", "release", "build=8"],
        &["config", "create", "release", "build=8"],
    ] {
        pair.deploy(words).code(6);
    }
    pair.deploy(&["config", "set", "release", "build=8"])
        .says(&["immutable"]);
    assert_eq!(
        pair.deploy(&["config", "get", "release"]).ok().out(),
        "build=7\n"
    );
    let listed = pair.deploy(&["config", "list", "--json"]).ok().json();
    assert_eq!(listed["configs"][0]["immutable"], json!(true));
    pair.deploy(&["config", "delete", "release", "--yes"]).ok();
    pair.deploy(&["config", "create", "release", "build=8"])
        .ok();
    pair.deploy(&["config", "set", "release", "build=9"]).ok();
}

#[test]
fn a_later_config_wins_and_the_manifests_own_wins_over_all() {
    let pair = Pair::start();
    pair.deploy(&["config", "create", "one", "a=1", "b=1", "c=1", "only.one=x"])
        .ok();
    pair.deploy(&["config", "create", "two", "a=2", "b=2"]).ok();
    let mut web = pair.probe(&asked(&["one", "two"], &[("a", "own")]));
    let expected = pairs(&[("a", "own"), ("b", "2"), ("c", "1"), ("only.one", "x")]);
    assert_eq!(shown(&mut web), expected);
    let mut other = pair.probe(&asked(&["two", "one"], &[]));
    let expected = pairs(&[("a", "1"), ("b", "1"), ("c", "1"), ("only.one", "x")]);
    assert_eq!(shown(&mut other), expected);

    // It stays so after each change.
    pair.deploy(&["config", "update", "one", "a=5", "b=5", "c=5"])
        .ok();
    pair.deploy(&["config", "set", "two", "a=6"]).ok();
    let expected = pairs(&[("a", "own"), ("b", "2"), ("c", "5"), ("only.one", "x")]);
    assert_eq!(shown(&mut web), expected);
    let expected = pairs(&[("a", "5"), ("b", "5"), ("c", "5"), ("only.one", "x")]);
    assert_eq!(shown(&mut other), expected);
}

#[test]
fn a_config_that_is_not_stored_is_refused_before_the_start() {
    let pair = pair();
    let started = pair.folder().join("started");
    let asked = asked(&["app.settings", "absent", "gone"], &[])
        .command(&["/usr/bin/touch", started.to_str().unwrap()]);
    pair.run_to_end(&asked)
        .code(1)
        .says(&["absent", "gone", "deploy config create"]);
    assert!(!started.exists());
    pair.leaves_nothing();
}

#[test]
fn a_change_is_in_the_file_when_the_command_returns() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let mut web = pair.probe(&asked(&["app.settings"], &[]).user(user.uid()));
    let held = web.open("/config/log_level").descriptor();
    assert_eq!(web.pread(held).text(), "info");
    // Values that grow and shrink, so that a stale size would show.
    for round in 0..60 {
        let value = format!("round {round} {}", "x".repeat(round * 37 % 200));
        let pair_of = format!("log_level={value}");
        pair.deploy(&["config", "set", "app.settings", &pair_of])
            .ok();
        assert_eq!(web.read("/config/log_level").text(), value);
        match web.stat("/config/log_level") {
            Answer::Attributes { size, uid, .. } => {
                assert_eq!(size, value.len() as u64);
                assert_eq!(uid, user.uid());
            }
            other => panic!("{other:?}"),
        }
    }
    pair.deploy(&["config", "update", "app.settings", "new.key=1"])
        .ok();
    assert_eq!(web.read("/config/new.key").text(), "1");
    assert!(web.list("/config").names().contains(&"new.key".to_owned()));
    pair.deploy(&["config", "delete", "app.settings", "--yes"])
        .ok();
    assert_eq!(web.read("/config/log_level"), Answer::Errno(libc::ENOENT));
    assert_eq!(web.list("/config").names(), Vec::<String>::new());
    pair.deploy(&["config", "create", "app.settings", "log_level=again"])
        .ok();
    assert_eq!(web.read("/config/log_level").text(), "again");
    web.end().ok();
    pair.leaves_nothing();
}

#[test]
fn readers_see_an_old_or_a_new_value_and_never_a_torn_one() {
    let pair = Pair::start();
    let values: Vec<String> = (0..8)
        .map(|n| n.to_string().repeat(5000 * (n + 1)))
        .collect();
    let set = |value: &str| {
        let words = ["config", "set", "app", "blob", "--file", "-"];
        pair.deploy_with(&words, value.as_bytes()).ok();
    };
    pair.deploy(&["config", "create", "app", "blob="]).ok();
    set(&values[0]);
    let mut web = pair.probe(&asked(&["app"], &[]));
    for _ in 0..2 {
        let ask = Ask::Loop("/config/blob".into(), values.clone());
        assert_eq!(web.ask(ask), Answer::Done);
    }
    for value in values.iter().cycle().skip(1).take(40) {
        set(value);
    }
    match web.ask(Ask::LoopEnds) {
        Answer::Loops(rounds, failures) => {
            assert_eq!(failures, Vec::<String>::new());
            assert!(rounds > 40, "only {rounds} reads");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn reload_takes_the_manifests_own_configuration_into_the_running_service() {
    let pair = pair();
    pair.deploy(&["config", "create", "more", "from.more=1"])
        .ok();
    let file = |from: &[&str], own: &[(&str, &str)]| {
        let program = pair.for_services("probe");
        let asked = asked(from, own).command(&[program.to_str().unwrap(), "serve"]);
        pair.file("web.yaml", asked.text())
    };
    let path = file(&[], &[("level", "info"), ("stays", "1"), ("goes", "1")]);
    let mut web = Probe::of(pair.run_file("web", &path));
    let before = web.service().instance();
    let expected = pairs(&[("goes", "1"), ("level", "info"), ("stays", "1")]);
    assert_eq!(shown(&mut web), expected);

    file(
        &["more"],
        &[("level", "debugging"), ("stays", "1"), ("new", "2")],
    );
    let reload = || pair.deploy(&["reload", path.to_str().unwrap()]);
    assert_eq!(
        shown(&mut web),
        expected,
        "a changed file alone changes nothing"
    );
    reload().ok();
    let expected = pairs(&[
        ("from.more", "1"),
        ("level", "debugging"),
        ("new", "2"),
        ("stays", "1"),
    ]);
    assert_eq!(shown(&mut web), expected);
    pair.deploy(&["config", "set", "more", "from.more=2"]).ok();
    assert_eq!(web.read("/config/from.more").text(), "2");

    // Back to what it was: the very same bytes, and no stale page of the time between.
    file(&[], &[("level", "info")]);
    reload().ok();
    assert_eq!(shown(&mut web), pairs(&[("level", "info")]));
    let after = web.service().instance();
    assert_eq!((before.pid, before.number), (after.pid, after.number));

    // What a running service cannot take is refused, and nothing changes.
    file(&["absent"], &[("level", "no")]);
    reload().code(1).says(&["absent"]);
    let text = asked(&[], &[("level", "no")])
        .secrets(&["db_password"])
        .text();
    std::fs::write(&path, text).unwrap();
    assert_ne!(reload().code, 0);
    std::fs::write(&path, "service: web\nconfig: [no]\n").unwrap();
    reload().code(2).says(&["web.yaml:2"]);
    assert_eq!(shown(&mut web), pairs(&[("level", "info")]));

    web.end().ok();
    file(&[], &[("level", "info")]);
    let said = reload();
    assert_ne!(said.code, 0, "{said}");
    said.says(&["web", "deploy run"]);
    pair.leaves_nothing();
}

#[test]
fn what_was_reloaded_is_there_after_secretsd_was_killed() {
    let pair = pair();
    let program = pair.for_services("probe");
    let asked = |level: &str| {
        let words = [program.to_str().unwrap(), "serve"];
        asked(&["app.settings"], &[("level", level)])
            .command(&words)
            .text()
    };
    let path = pair.file("web.yaml", asked("one"));
    let mut web = Probe::of(pair.run_file("web", &path));
    assert_eq!(web.read("/config/level").text(), "one");
    for level in ["two", "three"] {
        std::fs::write(&path, asked(level)).unwrap();
        pair.deploy(&["reload", path.to_str().unwrap()]).ok();
        tests::traces::signal(
            pair.secretsd(),
            rustix::process::Signal::KILL,
            tests::wait::LONG,
        );
        assert_eq!(web.read("/config/level").text(), level);
        assert_eq!(web.read("/config/max_conn").text(), "100");
    }
}

#[test]
fn a_watch_that_is_set_once_hears_of_each_change() {
    let pair = Pair::start();
    pair.deploy(&["config", "create", "app", "level=0"]).ok();
    let asked = Asked::service("web").with("config_from", json!(["app"]));
    let mut watcher = Watcher::start(&pair, &asked, "/config/level");
    for level in 1..40 {
        let level = format!("level={level}");
        pair.deploy(&["config", "update", "app", &level]).ok();
        watcher.hears_all(&Heard::ROTATION);
        watcher.forgets();
    }
}
