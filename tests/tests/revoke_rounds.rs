//! Revocation is final: once the command has returned, no read that begins gives a byte, whatever
//! the service holds and however busy it is. Rounds of grant, read and revoke.
//!
//! `REVOKE_SEED=` plays the same rounds again; `make soak` goes a thousand.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use serde_json::json;
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::readers::{ALL, Met, Readers, Report, WITHOUT_NAMES, content, now};
use tests::soak::{Random, rounds, tell};
use tests::{Pair, Varlink};

/// One that fits into a page, one that does not, one that takes several messages.
const SECRETS: &[(&str, usize)] = &[("small", 40), ("page", 5000), ("large", 300_000)];

fn names() -> Vec<&'static str> {
    SECRETS.iter().map(|(name, _)| *name).collect()
}

/// A pair with the secrets, granted to two services, and a connection to it.
fn pair() -> (Pair, Varlink) {
    let pair = Pair::start();
    let mut calls = Varlink::connect(&pair);
    set_all(&mut calls, 0);
    for service in ["web", "api"] {
        grant(&mut calls, service, &names());
    }
    (pair, calls)
}

/// The round's values.
fn set_all(calls: &mut Varlink, round: u64) {
    for (name, size) in SECRETS {
        let value = content(name, round, *size);
        let call = json!({"name": name, "value": value});
        calls.call("io.deploy.Secrets.Set", call).unwrap();
    }
}

fn grant(calls: &mut Varlink, service: &str, names: &[&str]) {
    let call = json!({"service": service, "names": names});
    calls.call("io.deploy.Secrets.Grant", call).unwrap();
}

/// The times just before and just after.
fn revoke(calls: &mut Varlink, service: &str, names: &[&str]) -> (u64, u64) {
    let call = json!({"service": service, "names": names});
    let before = now();
    let said = calls.call("io.deploy.Secrets.Revoke", call).unwrap();
    let after = now();
    assert_eq!(said["revoked"].as_array().unwrap().len(), names.len());
    (before, after)
}

/// What a way of reading may end with, once its secret is revoked.
fn right_end(way: &str, met: &Met) -> bool {
    match way {
        "held" | "inherited" | "passed" | "flight" => ["EKEYREVOKED", "EIO"].contains(&&*met.bad),
        "mapped" => met.bad == "SIGBUS",
        // The inode is asked for its attributes before it is opened, and says what it is.
        "again" => ["EKEYREVOKED", "ENOENT"].contains(&&*met.bad),
        _ => met.bad == "ENOENT",
    }
}

/// Checks a report; gives how many reads there were.
#[track_caller]
fn check(who: &str, round: u64, report: &Report, gone: &[&str]) -> u64 {
    assert_eq!(report.unheard, [""; 0], "round {round}, {who}: no DELETE");
    for (key, met) in &report.readers {
        let (way, name) = key.split_once('/').unwrap();
        let says = || format!("round {round}, {who}, {key}: {met:?}");
        assert!(
            met.goods > 0 && met.wrong == 0 && !met.bad_before,
            "{}",
            says()
        );
        if gone.contains(&name) {
            assert!(!met.good_after && right_end(way, met), "{}", says());
        } else {
            assert!(met.bad.is_empty(), "{}", says());
        }
    }
    report.readers.values().map(|met| met.goods).sum()
}

#[test]
fn after_a_revoke_no_read_that_begins_gives_a_byte() {
    let (pair, mut calls) = pair();
    let mut random = Random::new("REVOKE_SEED");
    let user = ClaimedUser::claim();
    let names = names();
    // One of them looks up no name while it is revoked, and so hears of each: see below.
    let mut readers: Vec<(&str, &[&str], Readers)> =
        [("web", ALL), ("web", WITHOUT_NAMES), ("api", ALL)]
            .into_iter()
            .map(|(service, ways)| {
                let asked = Asked::service(service).user(user.uid()).secrets(&names);
                (service, ways, Readers::start(&pair, &asked))
            })
            .collect();
    let all = rounds(60, 1000);
    let mut reads = 0;
    for round in 1..=all {
        set_all(&mut calls, round);
        grant(&mut calls, "web", &names);
        for (_, ways, one) in &mut readers {
            one.begin(round, SECRETS, ways);
        }
        for (_, _, one) in &mut readers {
            one.begun();
        }
        std::thread::park_timeout(Duration::from_millis(random.below(10)));
        let gone: Vec<&str> = random.some_of(&names).into_iter().copied().collect();
        let times = revoke(&mut calls, "web", &gone);
        for (_, ways, one) in &mut readers {
            let heard: &[&str] = if *ways == WITHOUT_NAMES { &gone } else { &[] };
            one.stop(times, heard);
        }
        for (service, _, one) in &mut readers {
            let lost: &[&str] = if *service == "web" { &gone } else { &[] };
            reads += check(service, round, &one.report(), lost);
        }
    }
    tell(
        "revoke_rounds",
        Some(random.seed()),
        &format!(
            "{all} revokes under {reads} reads by 10 ways of 3 instances: none after, no stale byte"
        ),
    );
    drop(readers);
    pair.leaves_nothing();
}

#[test]
fn a_watcher_hears_of_a_revoke_also_beside_busy_opens_of_the_name() {
    let (pair, mut calls) = pair();
    let names = names();
    let mut web = Readers::start(&pair, &Asked::service("web").secrets(&names));
    for round in 1..=20 {
        set_all(&mut calls, round);
        grant(&mut calls, "web", &names);
        web.begin(round, SECRETS, ALL);
        web.begun();
        let times = revoke(&mut calls, "web", &names);
        web.stop(times, &names);
        assert_eq!(web.report().unheard, [""; 0], "round {round}: no DELETE");
    }
}

#[test]
fn a_service_that_holds_its_folders_lock_delays_no_revoke_and_keeps_nothing() {
    let (pair, mut calls) = pair();
    let names = names();
    let user = ClaimedUser::claim();
    let asked = Asked::service("web").secrets(&names);
    // As root, who may mount the file that its memory comes from.
    let mut holder = Readers::start(&pair, &asked);
    let mut other = Readers::start(&pair, &asked.user(user.uid()));
    for round in 1..=rounds(1, 20) {
        set_all(&mut calls, round);
        grant(&mut calls, "web", &names);
        holder.begin(round, SECRETS, WITHOUT_NAMES);
        other.begin(round, SECRETS, ALL);
        holder.begun();
        other.begun();
        holder.lock(&pair.file("stalled", ""));
        // Returns, as what holds the lock does so until it is ended below.
        let times = revoke(&mut calls, "web", &names);
        holder.stop(times, &[]);
        other.stop(times, &[]);
        check("the holder", round, &holder.report(), &names);
        check("another", round, &other.report(), &names);
        holder.unlock();
    }
    drop((holder, other));
    pair.leaves_nothing();
}
