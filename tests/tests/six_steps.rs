//! The six steps of `make demo`, a test each.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::redis::Redis;
use tests::{Answer, Ask, Pair, wait};

const VALUE: &str = "correct-horse-battery-staple";

#[test]
fn step_1_set_at_a_terminal_prompts_twice_without_echo() {
    let pair = Pair::start();
    let mut terminal = pair.terminal(&["secret", "set", "db_password"]);
    terminal.shows("db_password", 1);
    terminal.type_hidden(VALUE);
    // The second prompt is a new line; what was typed is not on any.
    wait::until("a second prompt", || {
        (terminal.screen().trim_end().lines().count() >= 2).then_some(())
    });
    terminal.type_hidden(VALUE);
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains(VALUE), "the terminal echoed the value");
    assert_eq!(
        pair.deploy(&["secret", "get", "db_password"]).ok().stdout,
        VALUE.as_bytes(),
        "exact bytes, without a line end that nobody typed"
    );
    pair.leaves_nothing();
}

#[test]
fn step_1_two_prompts_that_differ_set_nothing() {
    let pair = Pair::start();
    let mut terminal = pair.terminal(&["secret", "set", "db_password"]);
    terminal.shows("db_password", 1);
    terminal.type_hidden("one value");
    wait::until("a second prompt", || {
        (terminal.screen().trim_end().lines().count() >= 2).then_some(())
    });
    terminal.type_hidden("another value");
    let (code, screen) = terminal.end();
    assert_ne!(code, 0, "{screen}");
    pair.deploy(&["secret", "get", "db_password"]).code(4);
}

#[test]
fn step_2_grant_is_seen_by_readers_and_list() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.deploy(&["secret", "grant", "web", "db_password"]).ok();
    let readers = pair
        .deploy(&["secret", "readers", "db_password", "--json"])
        .ok();
    assert!(readers.out().contains("web"), "{readers}");
    let list = pair.deploy(&["secret", "list", "--json"]).ok().hides(VALUE);
    assert!(list.out().contains("db_password"), "{list}");
}

#[test]
fn step_3_an_unchanged_redis_reads_its_password_from_a_file() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("db_password", format!("requirepass {VALUE}\n"));
    pair.grant("web", &["db_password"]);
    let redis = Redis::prepare(&pair, user.uid(), "/secret/db_password");
    let web = pair.run(
        &redis
            .manifest("web", user.uid())
            .secrets(&["db_password"])
            .config(&[("log_level", "debug")]),
    );

    assert_eq!(redis.say(Some(VALUE), "PING"), "+PONG");
    assert!(redis.say(None, "PING").starts_with("-NOAUTH"));
    assert!(redis.say(Some("wrong"), "PING").starts_with("-WRONGPASS"));

    let pid = web.instance().pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let uids = status
        .lines()
        .find(|line| line.starts_with("Uid:"))
        .unwrap();
    let uid = user.uid();
    assert_eq!(uids, format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}"));

    let level = run(web.inside(uid, &["cat", "/config/log_level"]), b"").ok();
    assert_eq!(level.out(), "debug");
    web.signal(rustix::process::Signal::TERM);
    web.wait();
    pair.leaves_nothing();
}

#[test]
fn step_4_a_missing_grant_is_named_before_the_start() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("api_key", VALUE);
    let started = pair.folder().join("started");
    let api = Asked::service("api")
        .user(user.uid())
        .secrets(&["api_key"])
        .command(&["/usr/bin/touch", started.to_str().unwrap()]);
    pair.run_to_end(&api)
        .code(3)
        .says(&["api_key", "deploy secret grant api api_key"])
        .hides(VALUE);
    assert!(!started.exists(), "the service was started");
    assert_eq!(
        std::fs::read_dir(pair.run_folder().join("instances"))
            .unwrap()
            .count(),
        0,
        "an instance was left behind"
    );
    pair.leaves_nothing();
}

#[test]
fn step_4_every_missing_grant_is_named_at_once() {
    let pair = Pair::start();
    for name in ["one", "two", "three"] {
        pair.set(name, VALUE);
    }
    pair.grant("api", &["two"]);
    let api = Asked::service("api")
        .secrets(&["one", "two", "three"])
        .command(&["/bin/true"]);
    let refused = pair.run_to_end(&api).code(3).says(&["one", "three"]);
    assert!(!refused.err().contains("two"), "{refused}");
}

#[test]
fn step_4_a_secret_that_was_not_given_is_enoent_and_not_listed() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("db_password", VALUE);
    pair.set("api_key", "another");
    pair.grant("web", &["db_password"]);
    let mut web = pair.probe(
        &Asked::service("web")
            .user(user.uid())
            .secrets(&["db_password"]),
    );
    assert_eq!(web.read("/secret/db_password").text(), VALUE);
    assert_eq!(web.read("/secret/api_key"), Answer::Errno(libc::ENOENT));
    assert_eq!(web.stat("/secret/api_key"), Answer::Errno(libc::ENOENT));
    assert_eq!(web.list("/secret").names(), ["db_password"]);
    web.end().ok();
}

#[test]
fn step_5_revoke_is_done_when_the_command_returns() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("db_password", VALUE);
    pair.set("other", "stays");
    pair.grant("web", &["db_password", "other"]);
    let mut web = pair.probe(
        &Asked::service("web")
            .user(user.uid())
            .secrets(&["db_password", "other"]),
    );
    let before = web.open("/secret/db_password").descriptor();
    let unread = web.open("/secret/db_password").descriptor();
    let folder = web.ask(Ask::OpenFolder("/secret".into())).descriptor();
    assert_eq!(web.pread(before).text(), VALUE);
    assert_eq!(web.ask(Ask::Child(before)), Answer::Done);
    assert_eq!(web.ask(Ask::Chdir("/secret".into())), Answer::Done);

    pair.revoke("web", "db_password");

    assert_eq!(
        web.read("/secret/db_password"),
        Answer::Errno(libc::ENOENT),
        "a new open"
    );
    for (descriptor, what) in [(before, "cached"), (unread, "never read")] {
        let answer = web.pread(descriptor);
        assert!(
            matches!(answer.errno(), Some(libc::EKEYREVOKED | libc::EIO)),
            "a descriptor that is open already ({what}): {answer:?}"
        );
    }
    let reopened = web.open(&format!("/proc/self/fd/{before}"));
    assert!(
        matches!(reopened.errno(), Some(libc::ENOENT | libc::EKEYREVOKED)),
        "by /proc/self/fd: {reopened:?}"
    );
    assert_eq!(
        web.ask(Ask::OpenAt(folder, "db_password".into())),
        Answer::Errno(libc::ENOENT),
        "below an open folder"
    );
    assert_eq!(
        web.read("db_password"),
        Answer::Errno(libc::ENOENT),
        "in the working directory"
    );
    match web.ask(Ask::ChildReads) {
        Answer::Child(code, output) => {
            assert_ne!(code, 0, "a forked child reads on");
            assert_eq!(output, b"", "a forked child got bytes");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(web.list("/secret").names(), ["other"]);
    assert_eq!(web.read("/secret/other").text(), "stays");

    pair.grant("web", &["db_password"]);
    assert_eq!(
        web.read("/secret/db_password").text(),
        VALUE,
        "granted again, it shows again"
    );
    web.end().ok();
    pair.leaves_nothing();
}

#[test]
fn step_5_a_mapping_of_a_revoked_secret_is_sigbus() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    let script = "import mmap, sys\n\
        f = open('/secret/db_password', 'rb')\n\
        m = mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)\n\
        print(m[:7].decode(), flush=True)\n\
        sys.stdin.readline()\n\
        print(m[:7].decode(), flush=True)\n";
    let mut web = pair.run(
        &Asked::service("web")
            .user(user.uid())
            .secrets(&["db_password"])
            .command(&["/usr/bin/python3", "-c", script]),
    );
    assert_eq!(web.line(), "correct");
    pair.revoke("web", "db_password");
    web.write("go");
    let ended = web.wait();
    assert_eq!(ended.code, 128 + libc::SIGBUS, "{ended}");
    assert_eq!(ended.out(), "");
}

#[test]
fn step_6_key_rotation_under_readers() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    let names: Vec<String> = (0..20).map(|number| format!("secret-{number}")).collect();
    for name in &names {
        pair.set(name, format!("value of {name}"));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    pair.grant("reader", &names);
    let mut reader = pair.probe(
        &Asked::service("reader")
            .user(user.uid())
            .secrets(&names)
            .config(&[("log_level", "debug")]),
    );
    for name in &names[..3] {
        let ask = Ask::Loop(format!("/secret/{name}"), vec![format!("value of {name}")]);
        assert_eq!(reader.ask(ask), Answer::Done);
    }
    let config = Ask::Loop("/config/log_level".into(), vec!["debug".into()]);
    assert_eq!(reader.ask(config), Answer::Done);

    assert_eq!(generation(&pair), 1);
    pair.deploy(&["key", "rotate"]).ok();
    assert_eq!(generation(&pair), 2);

    match reader.ask(Ask::LoopEnds) {
        Answer::Loops(rounds, failures) => {
            assert_eq!(failures, Vec::<String>::new());
            assert!(rounds > 0, "the readers did not read");
        }
        other => panic!("{other:?}"),
    }
    // Not in the page cache: these come out of the new generation.
    for name in &names {
        assert_eq!(
            reader.read(&format!("/secret/{name}")).text(),
            format!("value of {name}")
        );
        let record = std::fs::read(pair.run_folder().join("secrets/store").join(name)).unwrap();
        let generation = u32::from_le_bytes(record[4..8].try_into().unwrap());
        assert_eq!(generation, 2, "the record of {name}");
    }
    let generations: Vec<String> = wait::until("the old generation's folder to go", || {
        let found: Vec<String> = std::fs::read_dir(pair.state())
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("gen-"))
            .collect();
        (found.len() == 1).then_some(found)
    });
    assert_eq!(generations, ["gen-00000002"]);
    reader.end().ok();
    pair.leaves_nothing();
}

#[test]
fn the_whole_way_leaves_nothing_after_ctrl_c() {
    // The keeper alone, as an operator stops it: views go, programs end, the run folder goes.
    let mut pair = Pair::start();
    pair.set("db_password", VALUE);
    assert_eq!(pair.down(), 0, "{}", pair.log_text());
    let left = wait::within(Duration::from_secs(5), || {
        let left = pair.traces().find();
        (left.mounts.is_empty() && left.processes.is_empty() && left.cgroups.is_empty())
            .then_some(())
    });
    assert!(left.is_some(), "{:#?}", pair.traces().find());
    pair.leaves_nothing();
}

fn generation(pair: &Pair) -> u64 {
    let status = pair.deploy(&["status", "--json"]).ok();
    let value = status.json();
    value["generation"]
        .as_u64()
        .unwrap_or_else(|| panic!("no generation: {status}"))
}
