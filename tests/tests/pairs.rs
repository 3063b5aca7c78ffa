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

fn set(pair: &Pair, [cert, key]: &[String; 2], words: &[&str]) {
    let fields = json!({"cert.pem": cert, "key.pem": key}).to_string();
    pair.set_fields("tls", &fields, words).ok();
}

#[test]
fn a_reader_by_path_never_gets_fields_of_two_versions() {
    read_pairs(rounds(60_000, 1_000_000), &[]);
}

#[test]
fn a_pair_is_whole_also_if_more_versions_come_between_than_are_kept() {
    read_pairs(rounds(60_000, 400_000), &["--keep", "1"]);
}

/// No open fails, and no pair is of two versions. `words` are for the secret's first version, and hold
/// for later ones.
fn read_pairs(all: u64, words: &[&str]) {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    let same = |version: u64| [version.to_string(), version.to_string()];
    let pairs: Vec<[String; 2]> = (0..1000).map(same).collect();
    set(&pair, &pairs[0], words);
    pair.grant("web", &["tls"]);
    let asked = Asked::service("web").user(user.uid()).secrets(&["tls"]);
    let mut web = pair.probe(&asked);
    let at_once = 5000;
    let rotations = under_rotation(&pair, &pairs, || {
        for _ in 0..all / at_once {
            let [cert, key] = ["/secret/tls/cert.pem", "/secret/tls/key.pem"].map(str::to_owned);
            match web.ask(Ask::Pairs(cert, key, at_once)) {
                Answer::Loops(_, failures) => assert_eq!(failures, [""; 0]),
                other => panic!("{other:?}"),
            }
        }
    });
    assert!(rotations > 10);
    tell(
        "pairs",
        None,
        &format!(
            "{all} pairs by a plain reader under {rotations} rotations: no mismatch, no error"
        ),
    );
    web.end().ok();
    pair.leaves_nothing();
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
    set(&pair, &pairs[0], &[]);
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
    let workers = || nginx.log().matches("start worker processes").count();
    let rotations = under_rotation(&pair, &pairs, || {
        for _ in 0..reloads {
            let before = workers();
            signal(master, Signal::HUP, Duration::ZERO);
            openssl.write("go");
            assert_eq!(openssl.line().trim(), "");
            wait::until("nginx to reload", || {
                let log = nginx.log();
                assert_eq!(log.lines().find(|line| line.contains("[emerg]")), None);
                (workers() > before).then_some(())
            });
        }
    });
    set(&pair, &pairs[7], &[]);
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
