//! SIGKILL at any point: nothing acknowledged is lost, and no reader sees an error.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal};
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::traces::signal;
use tests::{Answer, Ask, Pair, process, wait};

/// Random enough to end a process at points that nobody chose, and printed to be run again.
struct Points(u64);

impl Points {
    fn new() -> Points {
        let seed = std::env::var("CRASH_SEED").map_or_else(
            |_| {
                std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap()
                    .as_nanos() as u64
            },
            |text| text.parse().unwrap(),
        );
        eprintln!("CRASH_SEED={seed}");
        Points(seed | 1)
    }

    /// Up to `most`; xorshift64 (Marsaglia 2003).
    fn next(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// Kills secretsd, and waits until another one has taken its place.
fn kill_secretsd(pair: &Pair) {
    let pid = pair.secretsd();
    signal(pid, Signal::KILL, Duration::from_secs(10));
    wait::until("the next secretsd", || {
        pair.traces()
            .running("secretsd")
            .into_iter()
            .find(|other| *other != pid)
    });
}

#[test]
fn every_acknowledged_write_is_there_after_sigkill() {
    let pair = Pair::start();
    let mut points = Points::new();
    let ended = AtomicBool::new(false);
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let mut doubtful: BTreeMap<String, Vec<String>> = BTreeMap::new();
    std::thread::scope(|threads| {
        let (pair, ended) = (&pair, &ended);
        let killer = threads.spawn(move || {
            for _ in 0..20 {
                std::thread::park_timeout(Duration::from_millis(20 + points.next(300)));
                kill_secretsd(pair);
            }
            ended.store(true, Ordering::SeqCst);
        });
        let mut round = 0;
        while !ended.load(Ordering::SeqCst) && !killer.is_finished() {
            let name = format!("key-{}", round % 25);
            let value = format!("value {round}");
            let answer =
                pair.deploy_with(&["secret", "set", &name, "--file", "-"], value.as_bytes());
            if answer.code == 0 {
                acknowledged.insert(name.clone(), value);
                doubtful.remove(&name);
            } else {
                // Without an answer it may have come about or not; both are right.
                doubtful.entry(name).or_default().push(value);
            }
            round += 1;
        }
        killer.join().unwrap();
    });
    assert!(!acknowledged.is_empty(), "no write went through");
    wait::until("a secretsd that answers", || {
        (pair.deploy(&["status"]).code == 0).then_some(())
    });
    let check = |when: &str| {
        for (name, value) in &acknowledged {
            let got = pair.deploy(&["secret", "get", name]).ok().out();
            let may_be = doubtful.get(name).is_some_and(|later| later.contains(&got));
            assert!(
                got == *value || may_be,
                "{when}: {name} is not as acknowledged"
            );
        }
    };
    check("after the kills");
    kill_secretsd(&pair);
    wait::until("a secretsd that answers", || {
        (pair.deploy(&["status"]).code == 0).then_some(())
    });
    check("after another one");
}

#[test]
fn readers_see_no_error_while_secretsd_dies() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("db_password", "the value");
    pair.grant("reader", &["db_password"]);
    let mut reader = pair.probe(
        &Asked::service("reader")
            .user(user.uid())
            .secrets(&["db_password"])
            .config(&[("level", "debug")]),
    );
    for (path, value) in [
        ("/secret/db_password", "the value"),
        ("/config/level", "debug"),
    ] {
        let ask = Ask::Loop(path.into(), vec![value.into()]);
        assert_eq!(reader.ask(ask), Answer::Done);
    }
    let mut points = Points::new();
    for _ in 0..20 {
        std::thread::park_timeout(Duration::from_millis(points.next(150)));
        kill_secretsd(&pair);
    }
    match reader.ask(Ask::LoopEnds) {
        Answer::Loops(rounds, failures) => {
            assert_eq!(failures, Vec::<String>::new());
            assert!(rounds > 100, "only {rounds} reads");
        }
        other => panic!("{other:?}"),
    }
    reader.end().ok();
    pair.leaves_nothing();
}

#[test]
fn the_injector_may_die_and_come_back() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("db_password", "the value");
    pair.grant("web", &["db_password"]);
    let asked = Asked::service("web")
        .user(user.uid())
        .secrets(&["db_password"]);
    let mut web = pair.probe(&asked);
    let keeper_and_injector = pair.traces().running("deploy-inject");
    assert!(keeper_and_injector.len() >= 2, "{keeper_and_injector:?}");
    let injector = *keeper_and_injector.last().unwrap();
    signal(injector, Signal::KILL, Duration::from_secs(10));
    assert_eq!(web.read("/secret/db_password").text(), "the value");
    kill_secretsd(&pair);
    assert_eq!(web.read("/secret/db_password").text(), "the value");
    wait::until("another injector", || {
        let now = pair.traces().running("deploy-inject");
        (now.len() >= 2 && !now.contains(&injector)).then_some(())
    });
    let mut second = wait::until("a start through the next injector", || {
        let asked = Asked::service("web")
            .user(user.uid())
            .secrets(&["db_password"]);
        let refused = pair.run_to_end(&asked.command(&["/bin/true"]));
        (refused.code == 0).then(|| {
            pair.probe(
                &Asked::service("web")
                    .user(user.uid())
                    .secrets(&["db_password"]),
            )
        })
    });
    assert_eq!(second.read("/secret/db_password").text(), "the value");
    pair.revoke("web", "db_password");
    for probe in [&mut web, &mut second] {
        assert_eq!(
            probe.read("/secret/db_password"),
            Answer::Errno(libc::ENOENT)
        );
    }
}

#[test]
fn key_rotation_killed_at_any_point_leaves_one_whole_generation() {
    let pair = Pair::start();
    for number in 0..40 {
        pair.set(&format!("key-{number}"), format!("value {number}"));
    }
    let mut points = Points::new();
    for round in 0..6 {
        std::thread::scope(|threads| {
            let rotation = threads.spawn(|| pair.deploy(&["key", "rotate"]).code);
            std::thread::park_timeout(Duration::from_millis(points.next(60)));
            kill_secretsd(&pair);
            rotation.join().unwrap();
        });
        wait::until("a secretsd that answers", || {
            (pair.deploy(&["status"]).code == 0).then_some(())
        });
        for number in [0, 13, 39] {
            let got = pair.deploy(&["secret", "get", &format!("key-{number}")]);
            assert_eq!(got.ok().out(), format!("value {number}"), "round {round}");
        }
    }
    pair.deploy(&["key", "rotate"]).ok();
    for number in 0..40 {
        let got = pair.deploy(&["secret", "get", &format!("key-{number}")]);
        assert_eq!(got.ok().out(), format!("value {number}"));
    }
}

#[test]
fn a_stop_and_a_start_keep_everything() {
    let mut pair = Pair::start();
    pair.set("db_password", "the value");
    pair.grant("web", &["db_password"]);
    assert_eq!(pair.down(), 0, "{}", pair.log_text());
    pair.up();
    let said = pair.deploy(&["secret", "get", "db_password"]).ok();
    assert_eq!(said.out(), "the value");
    let user = ClaimedUser::claim();
    let web = Asked::service("web")
        .user(user.uid())
        .secrets(&["db_password"])
        .command(&["/bin/cat", "/secret/db_password"]);
    assert_eq!(pair.run_to_end(&web).ok().out(), "the value");
    pair.leaves_nothing();
}

#[test]
fn a_descriptor_of_an_instance_that_ended_while_secretsd_was_dead_reads_nothing() {
    passed_on(|_| {});
}

/// The next one finds in the registry what nobody has been told of.
#[test]
fn nor_does_one_if_the_injector_dies_before_it_can_tell_of_the_end() {
    passed_on(|pair| signal(pair.injector(), Signal::KILL, wait::LONG));
}

fn passed_on(meanwhile: impl FnOnce(&Pair)) {
    let pair = Pair::start();
    pair.set("key", "value");
    pair.grant("web", &["key"]);
    let mut web = pair.probe(&Asked::service("web").secrets(&["key"]));
    let Answer::Descriptor(number) = web.ask(Ask::Open("/secret/key".into())) else {
        panic!("not opened");
    };
    // As if it was passed on, by somebody who has read it.
    let pid = web.service().instance().pid;
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    let process = rustix::process::pidfd_open(process, PidfdFlags::empty()).unwrap();
    let held = rustix::process::pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).unwrap();
    let read = || rustix::io::pread(&held, &mut [0; 64], 0);
    assert_eq!(read(), Ok(5));
    let keeper = pair.traces().running("deploy-inject")[0];
    signal(keeper, Signal::STOP, Duration::ZERO);
    let secretsd = pair.secretsd();
    signal(secretsd, Signal::KILL, Duration::ZERO);
    signal(pid, Signal::KILL, Duration::ZERO);
    wait::until("the instance to end", || {
        let ended = pair.log_text().contains("instance 1 of web ended");
        ended.then_some(())
    });
    meanwhile(&pair);
    assert_eq!(read(), Ok(5), "the kernel has it");
    signal(keeper, Signal::CONT, Duration::ZERO);
    process::goes(secretsd);
    pair.revoke("web", "key");
    assert!(read().is_err());
    wait::until("the registry to forget it", || {
        let mut registry = std::fs::read_dir(pair.run_folder().join("instances")).unwrap();
        registry.next().is_none().then_some(())
    });
}
