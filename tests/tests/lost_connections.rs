//! A FUSE connection that is lost all the same: aborted by a service, by an operator, or with
//! everything stopped. It is built again, attached again, and nothing of the old one can be read.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::traces::signal;
use tests::{Answer, Pair, Probe, Service, wait};

const SECRET: &str = "/secret/a";
const CONFIG: &str = "/config/level";

/// A pair, with a service that has a secret and its configuration open and read.
struct Stage {
    pair: Pair,
    web: Probe,
    secret: i32,
    config: i32,
}

fn asked() -> Asked {
    Asked::service("web")
        .secrets(&["a"])
        .config(&[("level", "debug")])
}

fn stage() -> Stage {
    let pair = Pair::start();
    pair.set("a", "the value");
    pair.grant("web", &["a"]);
    let user = ClaimedUser::claim();
    let mut web = pair.probe(&asked().user(user.uid()));
    let secret = web.open(SECRET).descriptor();
    let config = web.open(CONFIG).descriptor();
    let mut stage = Stage {
        pair,
        web,
        secret,
        config,
    };
    assert_eq!(stage.web.pread(secret).text(), "the value");
    assert_eq!(stage.web.pread(config).text(), "debug");
    stage
}

impl Stage {
    /// Keeper and injector.
    fn ours(&self) -> (i32, i32) {
        let pids = self.pair.traces().running("deploy-inject");
        (pids[0], *pids.last().unwrap())
    }

    fn abort(&self, path: &str) {
        abort(self.web.service(), path);
    }

    /// Waits until the service can read again, by the names that it always had.
    #[track_caller]
    fn reads_again(&mut self) {
        for (path, value) in [(SECRET, "the value"), (CONFIG, "debug")] {
            wait::until(&format!("{path} to be there again"), || {
                (self.web.read(path) == Answer::Bytes(value.into())).then_some(())
            });
        }
        // No dead mount lies below or above.
        let mounts = mounts(self.web.service());
        assert_eq!(mounts.len(), 2, "{mounts:?}");
    }

    /// The old one is dead, and what was cached of it goes.
    #[track_caller]
    fn is_closed(&mut self, descriptor: i32) {
        wait::until("a held descriptor to be closed", || {
            self.web.pread(descriptor).errno()
        });
    }

    /// All that is promised of a view holds of the new one.
    fn goes_on(mut self) {
        self.pair.set("a", "next");
        assert_eq!(self.web.read(SECRET).text(), "next");
        let held = self.web.open(SECRET).descriptor();
        assert_eq!(self.web.pread(held).text(), "next");
        let mut second = self.pair.probe(&asked());
        assert_eq!(second.read(SECRET).text(), "next");
        self.pair.revoke("web", "a");
        self.web.pread(held).is_revoked();
        for probe in [&mut self.web, &mut second] {
            assert_eq!(probe.read(SECRET), Answer::Errno(libc::ENOENT));
            assert_eq!(probe.read(CONFIG).text(), "debug");
        }
        drop(second);
        self.web.end().ok();
        self.pair.leaves_nothing();
    }
}

/// Lines of our mounts at the two targets.
fn mounts(service: &Service) -> Vec<String> {
    let table = format!("/proc/{}/mountinfo", service.instance().pid);
    let table = std::fs::read_to_string(table).unwrap();
    let ours = table.lines().filter(|line| {
        line.contains(" - fuse deploy-secrets:")
            && [Some("/secret"), Some("/config")].contains(&line.split(' ').nth(4))
    });
    ours.map(str::to_owned).collect()
}

/// Ends the connection behind a mount of a service, as root of the host may.
fn abort(service: &Service, target: &str) {
    let mounts = mounts(service);
    let line = mounts
        .iter()
        .find(|line| line.split(' ').nth(4) == Some(target))
        .unwrap();
    let device = line.split(' ').nth(2).unwrap();
    let minor = device.strip_prefix("0:").unwrap();
    // In a mount namespace of its own: the control file system is not mounted everywhere.
    let script = format!("mount -t fusectl none /mnt && echo 1 >/mnt/{minor}/abort");
    let mut command = Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c", &script]);
    run(command, b"").ok();
}

#[test]
fn a_service_that_ends_a_connection_for_all_has_it_back_with_all_others() {
    let mut stage = stage();
    let text = "echo started; while read path; do umount -f $path; echo done; done";
    let attacker = Asked::service("attacker").command(&["/bin/sh", "-c", text]);
    let mut attacker = stage.pair.run(&attacker);
    assert_eq!(attacker.line(), "started");
    attacker.write("/secret");
    assert_eq!(attacker.line(), "done");
    let secret = stage.secret;
    stage.is_closed(secret);
    stage.reads_again();
    // The other connection was not touched.
    assert_eq!(stage.web.pread(stage.config).text(), "debug");

    attacker.write("/config");
    assert_eq!(attacker.line(), "done");
    let config = stage.config;
    stage.is_closed(config);
    stage.reads_again();
    wait::until("the attacker's own views", || {
        (mounts(&attacker).len() == 2).then_some(())
    });
    drop(attacker);
    stage.goes_on();
}

#[test]
fn again_and_again() {
    let mut stage = stage();
    for path in [SECRET, CONFIG].repeat(5) {
        let held = stage.web.open(path).descriptor();
        assert!(stage.web.pread(held).errno().is_none());
        let target = Path::new(path).parent().unwrap();
        stage.abort(target.to_str().unwrap());
        stage.is_closed(held);
        stage.reads_again();
    }
    stage.goes_on();
}

#[test]
fn while_secretsd_is_stopped() {
    let mut stage = stage();
    let secretsd = stage.pair.secretsd();
    signal(secretsd, Signal::STOP, Duration::ZERO);
    stage.abort("/secret");
    assert!(stage.web.read(SECRET).errno().is_some());
    signal(secretsd, Signal::CONT, Duration::ZERO);
    let secret = stage.secret;
    stage.is_closed(secret);
    stage.reads_again();
    stage.goes_on();
}

#[test]
fn while_secretsd_is_dead() {
    let mut stage = stage();
    let (keeper, _) = stage.ours();
    signal(keeper, Signal::STOP, Duration::ZERO);
    signal(stage.pair.secretsd(), Signal::KILL, wait::LONG);
    for target in ["/secret", "/config"] {
        stage.abort(target);
    }
    signal(keeper, Signal::CONT, Duration::ZERO);
    for held in [stage.secret, stage.config] {
        stage.is_closed(held);
    }
    stage.reads_again();
    stage.goes_on();
}

/// What another secretsd has given out: a version before the newest, and the key of a config that was
/// deleted, the last change of all.
#[test]
fn while_secretsd_is_dead_what_no_name_leads_to_any_more() {
    let pair = Pair::start();
    pair.set("a", "old");
    pair.grant("web", &["a"]);
    pair.deploy(&["config", "create", "app", "stored=1"]).ok();
    let asked = Asked::service("web")
        .with("secrets", json!([{"name": "a", "previous": true}]))
        .with("config_from", json!(["app"]));
    let mut web = pair.probe(&asked);
    let stored = web.open("/config/stored").descriptor();
    assert_eq!(web.pread(stored).text(), "1");
    pair.deploy_with(
        &["secret", "rotate", "a", "--file", "-", "--grace", "1h"],
        b"new",
    )
    .ok();
    let old = web.open("/secret/.previous/a").descriptor();
    assert_eq!(web.pread(old).text(), "old");
    pair.deploy(&["config", "delete", "app", "--yes"]).ok();

    let keeper = pair.traces().running("deploy-inject")[0];
    signal(keeper, Signal::STOP, Duration::ZERO);
    signal(pair.secretsd(), Signal::KILL, wait::LONG);
    for target in ["/secret", "/config"] {
        abort(web.service(), target);
    }
    for (held, value) in [(old, "old"), (stored, "1")] {
        assert_eq!(web.pread(held).text(), value, "the test shows nothing");
    }
    signal(keeper, Signal::CONT, Duration::ZERO);
    for held in [old, stored] {
        wait::until("a held descriptor to be closed", || web.pread(held).errno());
    }
    web.end().ok();
    pair.leaves_nothing();
}

#[test]
fn while_all_of_ours_are_dead() {
    let mut stage = stage();
    let (keeper, injector) = stage.ours();
    signal(keeper, Signal::STOP, Duration::ZERO);
    signal(stage.pair.secretsd(), Signal::KILL, wait::LONG);
    signal(injector, Signal::KILL, wait::LONG);
    stage.abort("/secret");
    signal(keeper, Signal::CONT, Duration::ZERO);
    let secret = stage.secret;
    stage.is_closed(secret);
    stage.reads_again();
    stage.goes_on();
}

#[test]
fn an_injector_that_dies_over_it_leaves_nothing_undone() {
    let mut stage = stage();
    let secretsd = stage.pair.secretsd();
    signal(secretsd, Signal::STOP, Duration::ZERO);
    stage.abort("/secret");
    // It is building the connection again, or has, and waits for secretsd.
    wait::until("the new connection", || {
        let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let views = stage.pair.run_folder().join("views/secret");
        let at = |line: &&str| line.split(' ').nth(4).map(Path::new) == Some(&views);
        let device = |line: &str| line.split(' ').nth(2).unwrap().to_owned();
        let master = mounted.lines().rfind(at).map(device)?;
        let old = mounts(stage.web.service())
            .into_iter()
            .find(|line| line.contains(" /secret "))?;
        (master != device(&old)).then_some(())
    });
    let (_, injector) = stage.ours();
    signal(injector, Signal::KILL, wait::LONG);
    signal(secretsd, Signal::KILL, wait::LONG);
    let secret = stage.secret;
    stage.is_closed(secret);
    stage.reads_again();
    stage.goes_on();
}

#[test]
fn the_operators_tree_is_mended_alone() {
    let mut stage = stage();
    let tree = stage.pair.run_folder().join("secrets");
    let mut command = Command::new("umount");
    command.arg("-f").arg(&tree);
    // It says that it is busy, and has aborted all the same.
    run(command, b"");
    wait::until("the operators' tree", || {
        std::fs::read_dir(&tree).ok()?.next()?.ok()
    });
    for (held, value) in [(stage.secret, "the value"), (stage.config, "debug")] {
        assert_eq!(stage.web.pread(held).text(), value);
    }
    stage.goes_on();
}

#[test]
fn a_stop_leaves_nothing_that_can_be_read() {
    let mut stage = stage();
    assert_eq!(stage.pair.down(), 0, "{}", stage.pair.log_text());
    for held in [stage.secret, stage.config] {
        stage.is_closed(held);
    }
    for path in [SECRET, CONFIG] {
        assert!(stage.web.read(path).errno().is_some(), "{path}");
    }
}

#[test]
fn all_stopped_and_started_again_a_service_reads_again_under_its_number() {
    let mut stage = stage();
    let number = stage.web.service().instance().number;
    assert_eq!(stage.pair.down(), 0);
    assert_eq!(
        mounts(stage.web.service()),
        Vec::<String>::new(),
        "dead mounts stay"
    );
    stage.pair.up();
    stage.reads_again();
    let (secret, config) = (stage.secret, stage.config);
    stage.is_closed(secret);
    stage.is_closed(config);
    assert_eq!(stage.web.service().instance().number, number);
    let mut second = stage.pair.probe(&asked());
    assert_ne!(second.service().instance().number, number);
    assert_eq!(second.read(SECRET).text(), "the value");
}

#[test]
fn an_upgrade_of_secretsd_by_sigterm_is_no_stop() {
    let mut stage = stage();
    let secretsd = stage.pair.secretsd();
    signal(secretsd, Signal::TERM, wait::LONG);
    assert_eq!(stage.web.pread(stage.secret).text(), "the value");
    assert_eq!(stage.web.read(SECRET).text(), "the value");
    assert_ne!(stage.pair.secretsd(), secretsd);
    stage.goes_on();
}
