//! Any program may die: secretsd, the injector, or both, by a signal at a moment that nobody chose,
//! under every kind of call, and no service sees an error or hangs; what was acknowledged stays.
//!
//! `KILL_SEED=` plays the same moments again; `make soak` kills a thousand times. `UPGRADE_FROM=` is a
//! folder with programs of an earlier commit, to begin with; those that were built follow them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::probe::Coming;
use tests::programs::{copy_for_all, program};
use tests::soak::{Random, rounds, tell};
use tests::traces::signal;
use tests::watcher::{Heard, Watcher};
use tests::{Answer, Ask, Pair, Probe, Varlink, process, wait};

/// Always granted; `turns` is rotated all the time.
const STAY: &[&str] = &["stays", "turns"];
/// Granted and revoked all the time.
const COMES: &str = "comes";

/// The keeper's command with copies of both programs, which can be replaced.
fn by_copies(pair: &Pair) -> Command {
    let earlier = std::env::var_os("UPGRADE_FROM").map(std::path::PathBuf::from);
    let usual = pair.up_command();
    let mut command = Command::new(usual.get_program());
    for word in usual.get_args() {
        let path = std::path::Path::new(word);
        let copied = [program("secretsd"), program("deploy-inject")].contains(&path.into());
        if copied {
            let earlier = earlier
                .as_ref()
                .map(|of| of.join(path.file_name().unwrap()));
            command.arg(copy_for_all(
                earlier.as_deref().unwrap_or(path),
                pair.folder(),
            ));
        } else {
            command.arg(word);
        }
    }
    for (name, value) in usual.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// What an operator was told, and what may be so as well because nobody answered.
#[derive(Default)]
struct Ledger {
    values: BTreeMap<String, Vec<u64>>,
    /// Those that are certainly there: one value of each was acknowledged.
    there: BTreeSet<String>,
    /// `None`: a call about it got no answer.
    granted: Option<bool>,
    version: u64,
    acknowledged: u64,
    unanswered: u64,
}

impl Ledger {
    /// Asks; whether it was acknowledged.
    fn call(&mut self, pair: &Pair, method: &str, parameters: Value) -> bool {
        let method = format!("io.deploy.Secrets.{method}");
        let done = matches!(Varlink::once(pair, &method, &parameters), Some(Ok(_)));
        self.acknowledged += u64::from(done);
        self.unanswered += u64::from(!done);
        done
    }

    fn set(&mut self, pair: &Pair, name: &str) -> bool {
        self.version += 1;
        let parameters = json!({"name": name, "value": Coming::of(self.version)});
        let done = self.call(pair, "Set", parameters);
        let may_be = self.values.entry(name.into()).or_default();
        if done {
            may_be.clear();
            self.there.insert(name.into());
        }
        may_be.push(self.version);
        done
    }

    fn grant(&mut self, pair: &Pair, service: &str, grant: bool) -> bool {
        let method = if grant { "Grant" } else { "Revoke" };
        let done = self.call(pair, method, json!({"service": service, "names": [COMES]}));
        self.granted = done.then_some(grant);
        done
    }

    #[track_caller]
    fn check(&self, name: &str, content: &[u8], when: &str) {
        let version = Coming::version(content);
        let right = version.is_some_and(|version| self.values[name].contains(&version));
        assert!(
            right,
            "{when}: {name} has version {version:?}, not {:?}",
            self.values[name]
        );
    }
}

#[track_caller]
fn bytes(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Bytes(bytes) => bytes,
        other => panic!("no content but {other:?}"),
    }
}

/// What an operator does until it is told to end, with a look by a service after each act.
fn operate(
    pair: &Pair,
    web: &mut Probe,
    ledger: &mut Ledger,
    mut random: Random,
    (end, turns): (&AtomicBool, &Turns),
) {
    let comes = format!("/secret/{COMES}");
    while !end.load(Ordering::SeqCst) {
        let _turn = turns.take();
        if ledger.granted == Some(false) {
            let answer = web.read(&comes);
            assert_eq!(
                answer,
                Answer::Errno(libc::ENOENT),
                "a revoke does not stay"
            );
        }
        match random.below(4) {
            0 => {
                ledger.set(pair, &format!("key-{}", random.below(10)));
            }
            1 if ledger.granted == Some(true) => {
                let held = web.open(&comes).descriptor();
                ledger.check(COMES, &bytes(web.ask(Ask::Pread(held, 0, 1 << 20))), "held");
                if ledger.grant(pair, "web", false) {
                    web.pread(held).is_revoked();
                }
                web.ask(Ask::Close(held));
            }
            1 => {
                if ledger.grant(pair, "web", true) {
                    ledger.check(COMES, &bytes(web.read(&comes)), "after a grant");
                }
            }
            _ => {
                if ledger.set(pair, "turns") {
                    ledger.check("turns", &bytes(web.read("/secret/turns")), "after a set");
                }
            }
        }
    }
}

/// When programs die.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Die {
    /// One at a time, between two changes by the operator.
    Between,
    /// One or both, at any moment.
    Any,
}

/// Ends one program or both, and waits until nothing is left of what was ended; gives how many.
fn kill(pair: &Pair, random: &mut Random, die: Die) -> usize {
    let secretsd = pair.secretsd();
    // The keeper is the parent of both.
    let keeper = process::stat(secretsd).map_or(0, |stat| stat.parent);
    let mut injectors = pair.traces().running("deploy-inject").into_iter();
    let injector =
        injectors.rfind(|pid| process::stat(*pid).is_some_and(|stat| stat.parent == keeper));
    let how = *random.one_of(&[Signal::KILL, Signal::KILL, Signal::SEGV, Signal::ABORT]);
    let both = [Some(secretsd), injector];
    let ended = match (die, random.below(4)) {
        (_, 0 | 1) => &both[..1],
        (Die::Any, 2) => &both[..],
        _ => &both[1..],
    };
    for pid in ended.iter().flatten() {
        signal(*pid, how, Duration::ZERO);
    }
    for pid in ended.iter().flatten() {
        wait::until(
            &format!("process {pid} to be gone, not even a zombie"),
            || {
                // Rust's own handler of SIGSEGV lets the first one pass that is no fault.
                if process::stat(*pid).is_some_and(|stat| stat.parent == keeper && stat.runs()) {
                    signal(*pid, how, Duration::ZERO);
                }
                process::stat(*pid).is_none().then_some(())
            },
        );
    }
    ended.iter().flatten().count()
}

/// Other files under the names of both programs, as an upgrade leaves them: who starts next is one.
/// Each is whole when it gets its name, for somebody may be starting it just then.
fn upgrade(pair: &Pair) {
    let next = pair.folder().join("next");
    std::fs::create_dir(&next).unwrap();
    for name in ["secretsd", "deploy-inject"] {
        let copy = copy_for_all(&program(name), &next);
        std::fs::rename(copy, pair.folder().join(name)).unwrap();
    }
}

/// Whether a program runs from the file that has its name now.
fn is_upgraded(pair: &Pair, pid: i32) -> bool {
    let ino = |path: &std::path::Path| path.metadata().map(|meta| meta.ino()).ok();
    let runs = std::path::PathBuf::from(format!("/proc/{pid}/exe"));
    ino(&runs) == ino(&pair.folder().join("secretsd"))
}

/// One acts at a time; who waits is next, however soon the other asks again.
#[derive(Default)]
struct Turns {
    next: Mutex<()>,
    acting: Mutex<()>,
}

impl Turns {
    fn take(&self) -> MutexGuard<'_, ()> {
        let _next = self.next.lock().unwrap();
        self.acting.lock().unwrap()
    }
}

/// Tells the operator to end, also if the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn keeps_busy(probe: &mut Probe) {
    let files = ["/secret/stays", "/secret/turns", "/config/level"];
    let ask = Ask::Busy {
        files: files.map(str::to_owned).to_vec(),
        coming: vec![format!("/secret/{COMES}")],
    };
    assert_eq!(probe.ask(ask), Answer::Done);
}

#[test]
fn secretsd_or_the_injector_may_die_between_changes_and_no_service_sees_it() {
    play(Die::Between, rounds(25, 1000));
}

#[test]
fn both_may_die_at_any_moment_and_no_service_sees_it() {
    play(Die::Any, rounds(25, 1000));
}

fn play(die: Die, kills: u64) {
    let mut pair = Pair::prepare();
    pair.init(&[]).ok();
    pair.up_by(by_copies(&pair));
    let mut random = Random::new("KILL_SEED");
    let user = ClaimedUser::claim();
    let level = Coming::of(0);
    let mut ledger = Ledger::default();
    for name in STAY.iter().chain([&COMES]) {
        assert!(ledger.set(&pair, name));
    }
    for service in ["web", "api"] {
        pair.grant(service, STAY);
        assert!(ledger.grant(&pair, service, true));
    }
    let all = [STAY, &[COMES]].concat();
    let asks = |service: &str| {
        Asked::service(service)
            .user(user.uid())
            .secrets(&all)
            .config(&[("level", &level)])
    };
    let mut web = pair.probe(&asks("web"));
    let mut busy = [pair.probe(&asks("web")), pair.probe(&asks("api"))];
    let mut watcher = Watcher::start(&pair, &asks("web"), "/secret/turns");
    busy.iter_mut().for_each(keeps_busy);

    let (end, turns) = (AtomicBool::new(false), Turns::default());
    std::thread::scope(|threads| {
        let (pair, end, turns) = (&pair, &end, &turns);
        let (ledger, web) = (&mut ledger, &mut web);
        let operators_random = Random::of(random.seed() ^ 0x5eed);
        let ends = Ends(end);
        let operator =
            threads.spawn(move || operate(pair, web, ledger, operators_random, (end, turns)));
        let (mut ended, mut upgraded) = (0, false);
        while ended < kills {
            if operator.is_finished() {
                break;
            }
            if !upgraded && ended >= kills / 2 {
                upgrade(pair);
                upgraded = true;
            }
            std::thread::park_timeout(Duration::from_millis(random.below(150)));
            if random.below(8) == 0 {
                // On a busy machine a start may take longer than the pauses.
                wait::until("a secretsd that answers", || {
                    (pair.deploy(&["status"]).code == 0).then_some(())
                });
            }
            let _between = (die == Die::Between).then(|| turns.take());
            ended += kill(pair, &mut random, die) as u64;
        }
        drop(ends);
        operator.join().unwrap();
    });

    let (mut calls, mut stall) = (0, (0, String::new()));
    for probe in &mut busy {
        match probe.ask(Ask::BusyEnds) {
            Answer::Busy {
                calls: of_it,
                failures,
                longest_ms,
                longest,
            } => {
                assert_eq!(failures, [""; 0]);
                calls += of_it;
                stall = stall.max((longest_ms, longest));
            }
            other => panic!("{other:?}"),
        }
    }
    wait::until("a secretsd that answers", || {
        (pair.deploy(&["status"]).code == 0).then_some(())
    });
    assert!(!pair.is_sealed());
    assert!(is_upgraded(&pair, pair.secretsd()));
    for name in ledger.values.keys() {
        let got = pair.get(name, &[]);
        if got.code != 4 || ledger.there.contains(name) {
            ledger.check(name, &got.ok().stdout, "after the kills");
        }
    }
    // The injector rings, and nobody in its place while it is away.
    wait::until("an injector that answers", || {
        let start = Asked::service("web").secrets(STAY).command(&["/bin/true"]);
        (pair.run_to_end(&start).code == 0).then_some(())
    });
    // A watch that was set before all of it, and has nothing old to tell any more.
    watcher.forgets();
    assert!(ledger.set(&pair, "turns"));
    watcher.hears_all(&Heard::ROTATION);
    tell(
        "kill_rounds",
        Some(random.seed()),
        &format!(
            "{kills} kills under {calls} calls of 2 services, {} changes acknowledged and {} not: \
             no error; longest call {} ms ({})",
            ledger.acknowledged, ledger.unanswered, stall.0, stall.1,
        ),
    );
    drop((web, busy, watcher));
    pair.leaves_nothing();
}

#[test]
fn a_watcher_hears_of_what_changed_while_the_injector_was_away() {
    let pair = Pair::start();
    pair.set("turns", "first");
    pair.grant("web", &["turns"]);
    let asked = Asked::service("web").secrets(&["turns"]);
    let mut watcher = Watcher::start(&pair, &asked, "/secret/turns");
    let injector = *pair.traces().running("deploy-inject").last().unwrap();
    signal(injector, Signal::KILL, wait::LONG);
    pair.set("turns", "second");
    watcher.hears_all(&Heard::ROTATION);
}
