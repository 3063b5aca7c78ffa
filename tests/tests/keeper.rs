//! The keeper: what it starts again, and of what file.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::MetadataExt as _;

use rustix::process::Signal;
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::programs::{copy_for_all, program};
use tests::traces::signal;
use tests::{Pair, Probe, process, wait};

const FILE: &str = "/secret/db_password";

fn reader(pair: &Pair, user: &ClaimedUser) -> Probe {
    pair.set("db_password", "first");
    pair.grant("web", &["db_password"]);
    let asked = Asked::service("web").secrets(&["db_password"]);
    pair.probe(&asked.user(user.uid()))
}

/// Both are there, and do their work.
fn works(pair: &Pair, web: &mut Probe, value: &str) {
    wait::until("a change to be taken", || {
        let asked = ["secret", "set", "db_password", "--file", "-"];
        (pair.deploy_with(&asked, value.as_bytes()).code == 0).then_some(())
    });
    assert_eq!(web.read(FILE).text(), value);
    let asked = Asked::service("web").secrets(&["db_password"]);
    let started = || (pair.run_to_end(&asked.clone().command(&["true"])).code == 0).then_some(());
    wait::until("a service to be started", started);
}

/// KILLS=1000 for the long run.
#[test]
fn kills_in_a_row_do_not_stop_it_and_leave_no_zombie() {
    let kills: u32 = std::env::var("KILLS").map_or(30, |text| text.parse().unwrap());
    let user = ClaimedUser::claim();
    let pair = Pair::start();
    let mut web = reader(&pair, &user);
    for round in 0..kills {
        // One, the other, both; at whatever point of their start the last one has left them.
        let both = [pair.secretsd(), pair.injector()];
        for (at, pid) in both.into_iter().enumerate() {
            if round as usize % 3 != at {
                signal(pid, Signal::KILL, wait::LONG);
                process::goes(pid);
            }
        }
        assert_eq!(web.read(FILE).text(), "first", "round {round}");
    }
    works(&pair, &mut web, "after all");
    let ours = ["secretsd", "deploy-inject"].map(|name| pair.traces().running(name));
    assert_eq!(ours.each_ref().map(Vec::len), [1, 2], "{ours:?}");
    assert!(ours.iter().flatten().all(|pid| process::runs(*pid)));
}

/// The file that a process runs.
fn file_of(pid: i32) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/exe")).unwrap().ino()
}

#[test]
fn a_file_that_was_replaced_is_what_runs_after_the_next_end() {
    let user = ClaimedUser::claim();
    let pair = Pair::start_copies();
    let mut web = reader(&pair, &user);
    type Which = fn(&Pair) -> i32;
    let both: [(&str, Which); 2] = [
        ("secretsd", Pair::secretsd),
        ("deploy-inject", Pair::injector),
    ];
    for round in 0..2 {
        for (name, which) in both {
            let running = pair.folder().join(name);
            let folder = pair.folder().join("new");
            std::fs::create_dir_all(&folder).unwrap();
            let new = copy_for_all(&program(name), &folder);
            let file = new.metadata().unwrap().ino();
            // What runs now is not known by its name any more.
            let pid = which(&pair);
            std::fs::rename(&new, &running).unwrap();
            assert_ne!(file_of(pid), file);
            signal(pid, Signal::KILL, wait::LONG);
            process::goes(pid);
            // Not yet, where the process apart of the one before is ending.
            wait::until(&format!("{name} to run the new file"), || {
                let exe = format!("/proc/{}/exe", which(&pair));
                (std::fs::metadata(exe).ok()?.ino() == file).then_some(())
            });
            works(&pair, &mut web, &format!("{round} {name}"));
        }
    }
}

#[test]
fn a_file_that_is_gone_for_a_while_is_waited_for() {
    let user = ClaimedUser::claim();
    let pair = Pair::start_copies();
    let mut web = reader(&pair, &user);
    let both = [pair.secretsd(), pair.injector()];
    let files = ["secretsd", "deploy-inject"].map(|name| pair.folder().join(name));
    for file in &files {
        std::fs::rename(file, file.with_extension("away")).unwrap();
    }
    for pid in both {
        signal(pid, Signal::KILL, wait::LONG);
        process::goes(pid);
    }
    wait::until("the keeper to say so", || {
        let said = pair.log_text();
        (said.matches("trying again").count() >= 4).then_some(())
    });
    for file in &files {
        std::fs::rename(file.with_extension("away"), file).unwrap();
    }
    works(&pair, &mut web, "again");
}
