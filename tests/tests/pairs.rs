//! A certificate and its key: who opens one field of a version gets the other fields of the same one,
//! under rotation, by programs that know nothing of it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::nginx::{Nginx, key_pair};
use tests::soak::{rounds, tell};
use tests::traces::signal;
use tests::{Answer, Ask, Pair, Varlink, wait};

/// What an open says that met two rotations: the kernel looks the name up again once, not twice.
const STALE: &str = "Stale file handle";

/// Tells the rotations to end, also if the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Does `act` while `tls` goes through these pairs again and again; gives how many rotations.
fn under_rotation(pair: &Pair, pairs: &[[String; 2]], act: impl FnOnce()) -> u64 {
    let ended = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let ended = &ended;
        let _ends = Ends(ended);
        let rotations = threads.spawn(move || {
            let mut calls = Varlink::connect(pair);
            let mut count = 0;
            for [cert, key] in pairs.iter().cycle() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let data = json!({"name": "tls", "data": {"cert.pem": cert, "key.pem": key}});
                calls.call("io.deploy.Secrets.Set", data).unwrap();
                count += 1;
            }
            count
        });
        act();
        ended.store(true, Ordering::SeqCst);
        rotations.join().unwrap()
    })
}

/// As many versions stay in reach, for this and later ones.
fn set(pair: &Pair, [cert, key]: &[String; 2], keep: &str) {
    let fields = json!({"cert.pem": cert, "key.pem": key}).to_string();
    pair.set_fields("tls", &fields, &["--keep", keep]).ok();
}

#[test]
fn a_reader_by_path_never_gets_fields_of_two_versions() {
    read_pairs(rounds(20_000, 1_000_000), "1000");
}

#[test]
fn no_reader_ever_sees_estale() {
    assert_eq!(read_pairs(400_000, "1000"), 0);
}

#[test]
fn a_pair_is_whole_also_if_more_versions_come_between_than_are_kept() {
    read_pairs(400_000, "1");
}

/// Gives how many opens said ESTALE.
fn read_pairs(all: u64, keep: &str) -> usize {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    let same = |version: u64| [version.to_string(), version.to_string()];
    let pairs: Vec<[String; 2]> = (0..1000).map(same).collect();
    set(&pair, &pairs[0], keep);
    pair.grant("web", &["tls"]);
    let asked = Asked::service("web").user(user.uid()).secrets(&["tls"]);
    let mut web = pair.probe(&asked);
    let mut stale = 0;
    let at_once = 5000;
    let rotations = under_rotation(&pair, &pairs, || {
        for _ in 0..all / at_once {
            let [cert, key] = ["/secret/tls/cert.pem", "/secret/tls/key.pem"].map(str::to_owned);
            match web.ask(Ask::Pairs(cert, key, at_once)) {
                Answer::Loops(_, failures) => {
                    let (known, wrong): (Vec<_>, Vec<_>) =
                        failures.into_iter().partition(|one| one.contains(STALE));
                    assert_eq!(wrong, [""; 0]);
                    stale += known.len();
                }
                other => panic!("{other:?}"),
            }
        }
    });
    assert!(rotations > 10);
    tell(
        "pairs",
        None,
        &format!(
            "{all} pairs by a plain reader under {rotations} rotations: no mismatch; {stale} ESTALE"
        ),
    );
    web.end().ok();
    pair.leaves_nothing();
    stale
}

#[test]
fn nginx_and_openssl_never_load_a_certificate_with_another_ones_key() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    let paths = ("/secret/tls/cert.pem", "/secret/tls/key.pem");
    let nginx = Nginx::prepare(&pair, user.uid(), paths);
    let pairs: Vec<[String; 2]> = (0..10)
        .map(|number| key_pair(&nginx, pair.folder(), &format!("number-{number}")))
        .collect();
    set(&pair, &pairs[0], "1000");
    pair.grant("web", &["tls"]);
    let web = pair.run(&nginx.manifest("web", user.uid()).secrets(&["tls"]));
    let master = nginx.master();
    // openssl as a process of a service: a mismatch is an error of it.
    let [program, libraries] = nginx.openssl_program();
    let script = format!(
        "export LD_LIBRARY_PATH={libraries}\nwhile read go; do {program} pkcs12 -export \
         -in {} -inkey {} -passout pass: -out /dev/null 2>&1 | tr '\\n' ' '; echo; done",
        paths.0, paths.1
    );
    let asked = Asked::service("web").user(user.uid()).secrets(&["tls"]);
    let mut openssl = pair.run(&asked.command(&["/bin/sh", "-c", &script]));

    let reloads = rounds(60, 2000);
    let workers = |log: &str| log.matches("start worker processes").count();
    let rotations = under_rotation(&pair, &pairs, || {
        for _ in 0..reloads {
            let log = nginx.log();
            let before = workers(&log) + log.matches("[emerg]").count();
            signal(master, Signal::HUP, Duration::ZERO);
            openssl.write("go");
            let said = openssl.line();
            assert!(said.trim().is_empty() || said.contains(STALE), "{said}");
            wait::until("nginx to reload", || {
                let log = nginx.log();
                let refused = |line: &&str| line.contains("[emerg]");
                let wrong = log
                    .lines()
                    .filter(refused)
                    .find(|line| !line.contains(STALE));
                assert_eq!(wrong, None);
                let stale = log.lines().filter(refused).count();
                (workers(&log) + stale > before).then_some(())
            });
        }
    });
    set(&pair, &pairs[7], "1000");
    signal(master, Signal::HUP, Duration::ZERO);
    wait::until("the last certificate", || {
        (nginx.serves() == "number-7").then_some(())
    });
    tell(
        "pairs",
        None,
        &format!(
            "{reloads} reloads of nginx and as many runs of openssl under {rotations} rotations: no mismatch"
        ),
    );
    drop((web, openssl));
    pair.leaves_nothing();
}
