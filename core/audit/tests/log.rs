//! The log as secretsd uses it: what was written is there, however it ended.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use audit::{Access, Event, Filter, Follow, Found, Log, Options, Quota, query, verify};
use common::{PROGRAM, access, change, copy, denied, fill, lines, open, segments, small, whole};

#[test]
fn what_was_written_is_found_again_and_the_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let (log, found) = open(&path);
    assert_eq!(found, Found::default());
    fill(&log, 300);
    log.append_durable(&Event::Change(change("db"))).unwrap();
    let anchor = log.anchor();
    log.close();
    drop(log);
    assert!(segments(&path).len() > 2, "more than one segment");
    let (log, found) = open(&path);
    assert_eq!(found.damage, "");
    assert!(found.last.seq > anchor.seq);
    assert_eq!(lines(&path, "open").len(), 300);
    assert_eq!(lines(&path, "start").len(), 2);
    assert_eq!(lines(&path, "stop").len(), 1);
    let changes = lines(&path, "change");
    assert_eq!(
        (&changes[0]["operator"], &changes[0]["what"]),
        (&"alice".into(), &"db".into())
    );
    // Beside whoever writes.
    let verified = verify(&path, Some(anchor)).unwrap();
    assert!(verified.is_whole(), "{verified:?}");
    assert_eq!((verified.first, verified.last), (1, log.anchor()));
    for path in segments(&path) {
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o7777,
            0o600
        );
    }
    assert_eq!(
        path.metadata().unwrap().permissions().mode() & 0o7777,
        0o700
    );
}

#[test]
fn opens_beyond_the_quota_are_counted_exactly_also_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options {
        opens: Quota {
            per_second: 0,
            burst: 3,
        },
        ..small()
    };
    let (log, _) = Log::open(folder.path(), small, PROGRAM).unwrap();
    let other = Access {
        secret: "db",
        ..access(0)
    };
    for _ in 0..50 {
        log.append(&Event::Open(access(1)), false).unwrap();
        log.append(&Event::Open(other), false).unwrap();
    }
    let count = |folder: &Path| {
        let merged = lines(folder, "merged");
        let of = |secret: &str| -> u64 {
            let of = merged.iter().filter(|one| one["secret"] == secret);
            of.map(|one| one["count"].as_u64().unwrap()).sum()
        };
        let whole = lines(folder, "open").len() as u64;
        (whole, of("tls") + of("db"))
    };
    // As a kill would leave it at this moment.
    let killed = copy(folder.path());
    log.flush();
    assert_eq!(count(folder.path()), (3, 97));
    drop(log);
    for _ in 0..2 {
        let (log, _) = Log::open(killed.path(), small, PROGRAM).unwrap();
        assert_eq!(count(killed.path()), (3, 97), "and not twice");
        assert_eq!(log.adoption().readers("db")[0].version, 3);
    }
    assert!(whole(killed.path(), None));
}

#[test]
fn denials_are_written_once_and_then_counted_and_ever_new_ones_take_no_more_room() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    for _ in 0..40 {
        log.append(&Event::Open(denied("not granted")), false)
            .unwrap();
        log.append(&Event::Open(denied("sealed")), false).unwrap();
    }
    log.flush();
    let counted: Vec<_> = lines(folder.path(), "merged")
        .iter()
        .map(|one| (one["why"].clone(), one["count"].as_u64().unwrap()))
        .collect();
    assert_eq!(lines(folder.path(), "open").len(), 2);
    assert_eq!(counted, [("not granted".into(), 39), ("sealed".into(), 39)]);
    let start = Instant::now();
    let names: Vec<String> = (0..5000).map(|number| format!("name-{number}")).collect();
    let services: Vec<String> = (0..50).map(|number| format!("service-{number}")).collect();
    for (at, secret) in names.iter().enumerate() {
        let service = &services[at % services.len()];
        let access = Access {
            secret,
            service,
            ..denied("not granted")
        };
        log.append(&Event::Open(access), false).unwrap();
    }
    log.flush();
    let all: u64 = lines(folder.path(), "merged")
        .iter()
        .map(|one| one["count"].as_u64().unwrap())
        .sum();
    let whole = lines(folder.path(), "open").len() as u64;
    assert_eq!(all + whole, 5080, "none is lost");
    // In each round of the log's thread at most one for each place in the table of counts.
    let rounds = start.elapsed().as_millis() as u64 / 500 + 2;
    assert!(whole <= 256 * rounds, "{whole} in {rounds}");
}

#[test]
fn a_request_that_is_sent_again_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    fill(&log, 10);
    drop(log);
    let (log, _) = open(folder.path());
    log.append(&Event::Open(access(4)), true).unwrap();
    log.append(&Event::Open(access(11)), true).unwrap();
    let elsewhere = Access {
        connection: 6,
        ..access(4)
    };
    log.append(&Event::Open(elsewhere), true).unwrap();
    assert_eq!(lines(folder.path(), "open").len(), 12);
}

#[test]
fn what_is_asked_for_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    fill(&log, 5);
    log.append(&Event::Open(denied("not granted")), false)
        .unwrap();
    log.append_durable(&Event::Change(change("db"))).unwrap();
    let count = |filter: Filter| {
        let mut count = 0;
        query(folder.path(), &filter, |_| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        count
    };
    let some = |text: &str| Some(text.to_owned());
    let all = Filter::default;
    assert_eq!(
        count(Filter {
            service: some("web"),
            ..all()
        }),
        6
    );
    assert_eq!(
        count(Filter {
            verdict: some("denied"),
            ..all()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            operator: some("alice"),
            ..all()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            secret: some("db"),
            ..all()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            pid: Some(12),
            ..all()
        }),
        6
    );
    assert_eq!(
        count(Filter {
            kind: Some(audit::Kind::Change),
            ..all()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            from: Some(audit::Time(u64::MAX)),
            ..all()
        }),
        0
    );
    assert_eq!(
        count(Filter {
            after: log.anchor().seq - 1,
            ..all()
        }),
        1
    );
}

#[test]
fn whoever_follows_is_given_each_entry_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path());
    let mut all = Follow::from_start(folder.path());
    fill(&log, 50);
    let mut new = Follow::from_end(folder.path()).unwrap();
    let mut seen = (Vec::new(), Vec::new());
    let middle = log.anchor().seq;
    for _ in 0..10 {
        // Over the end of segments.
        fill(&log, 37);
        let note = |to: &mut Vec<u64>, follow: &mut Follow| {
            follow.read(|entry| {
                to.push(entry.seq);
                Ok(())
            })
        };
        note(&mut seen.0, &mut all).unwrap();
        note(&mut seen.1, &mut new).unwrap();
    }
    let last = log.anchor().seq;
    assert!(segments(folder.path()).len() > 3);
    assert_eq!(seen.0, (1..=last).collect::<Vec<_>>());
    assert_eq!(seen.1, (middle + 1..=last).collect::<Vec<_>>());
    // What could not be passed on is given again.
    fill(&log, 1);
    let failed = new.read(|_| Err(std::io::ErrorKind::WouldBlock.into()));
    assert!(failed.is_err());
    let mut again = 0;
    new.read(|entry| {
        again = entry.seq;
        Ok(())
    })
    .unwrap();
    assert_eq!(again, last + 1);
}

/// The part of the next test that is killed.
#[test]
fn child() {
    let Some(folder) = std::env::var_os("AUDIT_FOLDER") else {
        return;
    };
    let (log, _) = open(Path::new(&folder));
    for unique in 0.. {
        log.append(&Event::Open(access(unique)), false).unwrap();
        println!("{unique}");
    }
}

#[test]
fn what_was_answered_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut written = 0;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env("AUDIT_FOLDER", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines_of = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut answered = 0;
        let mut line = String::new();
        while answered < 50 + 117 * round {
            line.clear();
            std::io::BufRead::read_line(&mut lines_of, &mut line).unwrap();
            answered += u64::from(line.trim().parse::<u64>().is_ok());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let now = lines(folder.path(), "open").len() as u64;
        assert!(now >= written + answered, "{now} {written} {answered}");
        written = now;
    }
    let (log, _) = open(folder.path());
    assert!(whole(folder.path(), Some(log.anchor())));
}

/// `cargo test -p audit --test log -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn what_an_append_costs() {
    let folder = tempfile::tempdir().unwrap();
    let many = 200_000;
    let (log, _) = Log::open(
        folder.path(),
        Options {
            opens: Quota {
                per_second: 0,
                burst: 1_000_000,
            },
            ..Options::default()
        },
        PROGRAM,
    )
    .unwrap();
    let file = fs::File::create(folder.path().join("yardstick")).unwrap();
    let bytes = [7; 208];
    let mut hash = [0; 32];
    let mut costs = [const { Vec::new() }; 3];
    // In turns, so that what else goes on meets all of them; and the median of each.
    for round in 0..many / 1000 {
        for (what, costs) in costs.iter_mut().enumerate() {
            let start = Instant::now();
            for at in round * 1000..round * 1000 + 1000 {
                match what {
                    0 => log.append(&Event::Open(access(at)), false).unwrap(),
                    1 => {
                        let place = (at % 40_000) * 208;
                        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, place).unwrap();
                    }
                    _ => {
                        use sha2::{Digest, Sha256};
                        let both = Sha256::new().chain_update(hash).chain_update(&bytes[..176]);
                        hash = both.finalize().into();
                    }
                }
            }
            costs.push(start.elapsed().as_nanos() as f64 / 1000.0);
        }
    }
    let [append, write, sum] = costs.map(|mut costs| {
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    });
    assert_ne!(hash, [0; 32]);
    println!("append {append:.0} ns, pwrite of as many bytes {write:.0} ns, SHA-256 {sum:.0} ns");
    let (both, alone) = (append / (write + sum), append / write);
    println!("append is {both:.2} of both, {alone:.2} of a pwrite");
}

/// As above.
#[test]
#[ignore = "a measurement"]
fn what_opening_a_full_log_costs() {
    let folder = tempfile::tempdir().unwrap();
    let all = Options {
        opens: Quota {
            per_second: 0,
            burst: 10_000_000,
        },
        ..Options::default()
    };
    let (log, _) = Log::open(folder.path(), all, PROGRAM).unwrap();
    fill(&log, 2_500_000);
    log.close();
    drop(log);
    let start = Instant::now();
    let (log, found) = Log::open(folder.path(), all, PROGRAM).unwrap();
    let (took, segments) = (start.elapsed(), segments(folder.path()).len());
    println!("opened {segments} segments in {took:?}");
    assert_eq!(found.damage, "");
    let start = Instant::now();
    let verified = verify(folder.path(), Some(log.anchor())).unwrap();
    println!(
        "verified {} entries in {:?}",
        verified.entries,
        start.elapsed()
    );
    assert!(verified.is_whole());
}
