//! The audit log of a running pair: who opened what, who was refused, who changed what.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::probe::{Answer, Ask};
use tests::soak::{Random, rounds};
use tests::{Pair, wait};

const VALUE: &str = "a-value-nobody-may-see";

fn pair() -> Pair {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    pair
}

/// Entries that `deploy audit query` prints.
#[track_caller]
fn query(pair: &Pair, more: &[&str]) -> Vec<Value> {
    let words = [&["audit", "query"], more].concat();
    let said = pair.deploy(&words).ok().hides(VALUE);
    let lines = said.out();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn web(user: &ClaimedUser) -> Asked {
    Asked::service("web")
        .user(user.uid())
        .secrets(&["db_password"])
        .config(&[("level", "debug")])
}

#[test]
fn an_open_is_named_with_everything_about_whoever_asked() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let mut probe = pair.probe(&web(&user));
    assert_eq!(probe.read("/secret/db_password").text(), VALUE);
    assert_eq!(probe.read("/config/level").text(), "debug");
    let instance = probe.service().instance();
    let opens = query(&pair, &["--kind", "open"]);
    let [open] = &opens[..] else {
        panic!("{opens:?}");
    };
    for (key, expected) in [
        ("service", json!("web")),
        ("instance", json!(instance.number)),
        ("secret", json!("db_password")),
        ("version", json!(1)),
        ("verdict", json!("allowed")),
        ("pid", json!(instance.pid)),
        ("uid", json!(user.uid())),
        ("comm", json!("probe")),
    ] {
        assert_eq!(open[key], expected, "{key}: {open}");
    }
    let cgroup = instance.record["cgroup"].as_str().unwrap_or_default();
    assert!(
        open["cgroup"]
            .as_str()
            .unwrap_or_default()
            .ends_with(cgroup)
    );
    assert!(open["time"].as_str().unwrap().starts_with("20"));
    probe.end().ok();
}

#[test]
fn denials_are_named_and_so_is_root_of_the_host() {
    let pair = pair();
    pair.set("other", "x");
    let user = ClaimedUser::claim();
    let mut probe = pair.probe(&web(&user));
    let instance = probe.service().instance();
    assert_eq!(probe.read("/secret/other").errno(), Some(libc::ENOENT));
    let from_outside = format!("/proc/{}/root/secret/db_password", instance.pid);
    assert!(std::fs::read(from_outside).is_err());
    pair.revoke("web", "db_password");
    assert_eq!(
        probe.read("/secret/db_password").errno(),
        Some(libc::ENOENT)
    );
    let denied = query(&pair, &["--verdict", "denied"]);
    let why = |secret: &str, why: &str| {
        denied
            .iter()
            .find(|one| one["secret"] == secret && one["why"] == why)
            .unwrap_or_else(|| panic!("{secret} {why}: {denied:?}"))
    };
    assert_eq!(why("other", "not in the manifest")["uid"], user.uid());
    let foreign = why("db_password", "not a process of the instance");
    assert_eq!(
        (&foreign["uid"], &foreign["pid"]),
        (&json!(0), &json!(std::process::id()))
    );
    why("db_password", "revoked");
    probe.end().ok();
}

#[test]
fn strangers_at_the_socket_and_starts_without_a_grant_are_named() {
    let pair = pair();
    let user = ClaimedUser::claim();
    for _ in 0..3 {
        let mut command = Command::new("setpriv");
        let uid = user.uid().to_string();
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]);
        let mut deploy = pair.deploy_command(&["status"]);
        // Where the socket is, its permissions stop most; a member of its group who is no operator
        // gets as far as this.
        let socket = pair.run_folder().join("control.sock");
        std::fs::set_permissions(socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        deploy.arg("--quiet");
        command
            .arg(pair.for_services("deploy"))
            .args(deploy.get_args());
        for (name, value) in deploy.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        assert_eq!(tests::command::run(command, b"").code, 3);
    }
    let refused = query(&pair, &["--verdict", "denied"]);
    let count: u64 = refused
        .iter()
        .filter(|one| one["act"] == "connect" && one["uid"] == user.uid())
        .map(|one| one.get("count").map_or(1, |count| count.as_u64().unwrap()))
        .sum();
    assert_eq!(count, 3, "{refused:?}");
    let other = Asked::service("cron")
        .secrets(&["db_password"])
        .command(&["/bin/true"]);
    assert_eq!(pair.run_to_end(&other).code, 3);
    let denied = query(&pair, &["--service", "cron"]);
    assert_eq!(
        (&denied[0]["secret"], &denied[0]["verdict"]),
        (&json!("db_password"), &json!("denied"))
    );
}

#[test]
fn every_change_is_named_with_its_operator_and_no_value() {
    let pair = pair();
    pair.deploy_with(
        &["secret", "rotate", "db_password", "--file", "-"],
        b"the next one",
    )
    .ok();
    pair.deploy(&["secret", "get", "db_password"]).ok();
    pair.deploy(&["secret", "rollback", "db_password", "1"])
        .ok();
    pair.revoke("web", "db_password");
    pair.deploy(&["config", "create", "app", "level=debug"])
        .ok();
    pair.deploy(&["key", "rotate"]).ok();
    pair.deploy(&["secret", "delete", "db_password", "--yes"])
        .ok();
    let refused = pair.deploy_with(&["secret", "rotate", "db_password", "--file", "-"], b"x");
    assert_eq!(refused.code, 4, "{refused}");
    let changes = query(&pair, &["--kind", "change", "--operator", "root"]);
    let done: Vec<_> = changes
        .iter()
        .filter(|one| one["outcome"] == "done")
        .map(|one| {
            format!(
                "{} {}",
                one["act"].as_str().unwrap(),
                one["what"].as_str().unwrap_or("")
            )
        })
        .collect();
    assert_eq!(
        done,
        [
            "secret.set db_password",
            "secret.grant web",
            "secret.rotate db_password",
            "secret.get db_password",
            "secret.rollback db_password",
            "secret.revoke web",
            "config.create app",
            "key.rotate ",
            "secret.delete db_password",
        ]
    );
    // Each was there before it was done, and what failed says why.
    let begun = changes
        .iter()
        .filter(|one| one["outcome"] == "begun")
        .count();
    assert_eq!(begun, done.len());
    let failed = changes
        .iter()
        .find(|one| one["outcome"] == "failed")
        .unwrap();
    assert!(
        failed["why"]
            .as_str()
            .unwrap()
            .contains("there is no secret"),
        "{failed}"
    );
    pair.seal();
    assert_eq!(query(&pair, &["--kind", "seal"]).len(), 1);
    let log = std::fs::read(pair.state().join("audit/segment-0000000001")).unwrap();
    let holds = |text: &str| log.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(holds("db_password") && !holds(VALUE) && !holds("the next one"));
}

#[test]
fn each_read_is_named_where_the_manifest_asks_for_it() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let asked = web(&user).with(
        "secrets",
        json!([{"name": "db_password", "audit": "every-read"}]),
    );
    let mut probe = pair.probe(&asked);
    let Answer::Descriptor(held) = probe.ask(Ask::Open("/secret/db_password".into())) else {
        panic!();
    };
    for _ in 0..3 {
        assert_eq!(probe.ask(Ask::Pread(held, 0, 100)).text(), VALUE);
    }
    assert_eq!(query(&pair, &["--kind", "read"]).len(), 3);
    probe.end().ok();
}

#[test]
fn an_entry_survives_a_kill_and_what_comes_later_follows_it() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let mut probe = pair.probe(&web(&user));
    let mut opens = 0;
    for _ in 0..5 {
        for _ in 0..20 {
            assert_eq!(probe.read("/secret/db_password").text(), VALUE);
            opens += 1;
        }
        pair.kill_secretsd();
    }
    assert_eq!(query(&pair, &["--kind", "open"]).len(), opens);
    let told = pair.deploy(&["audit", "verify", "--json"]).ok().json();
    assert_eq!(
        (&told["whole"], &told["damage"]),
        (&json!(true), &json!([]))
    );
    assert_eq!(query(&pair, &["--kind", "start"]).len(), 6);
    probe.end().ok();
}

#[test]
fn each_answered_open_is_in_the_log_once_however_often_secretsd_dies() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let mut probe = pair.probe(&web(&user));
    let mut random = Random::new("AUDIT_SEED");
    let end = AtomicBool::new(false);
    let opened = std::thread::scope(|threads| {
        let opening = threads.spawn(|| {
            let mut opened = 0;
            while !end.load(Ordering::SeqCst) {
                assert_eq!(probe.read("/secret/db_password").text(), VALUE);
                opened += 1;
            }
            opened
        });
        for _ in 0..rounds(10, 300) {
            std::thread::park_timeout(Duration::from_millis(random.below(60)));
            pair.kill_secretsd();
        }
        end.store(true, Ordering::SeqCst);
        opening.join().unwrap()
    });
    let entries = query(&pair, &["--secret", "db_password", "--verdict", "allowed"]);
    let told = |entry: &Value| match entry["kind"].as_str() {
        Some("open") => 1,
        Some("merged") => entry["count"].as_u64().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(entries.iter().map(told).sum::<u64>(), opened);
}

#[test]
fn a_log_that_was_cut_or_changed_is_found_out_with_and_without_a_daemon() {
    let mut pair = pair();
    let told = pair.deploy(&["audit", "verify", "--json"]).ok().json();
    let anchor = told["anchor"].as_str().unwrap().to_owned();
    // More than the end that a kill could have torn.
    for _ in 0..20 {
        pair.set("db_password", "again");
    }
    let verify = ["audit", "verify", "--anchor", &anchor];
    assert_eq!(
        pair.deploy(&[&verify[..], &["--json"]].concat())
            .ok()
            .json()["anchored"],
        "fits"
    );
    let later = pair.deploy(&["audit", "verify", "--json"]).ok().json();
    let later = later["anchor"].as_str().unwrap().to_owned();
    assert_eq!(
        pair.deploy(&["audit", "verify", "--anchor", "7:xyz"]).code,
        2
    );
    pair.down();
    let path = pair.state().join("audit/segment-0000000001");
    let good = std::fs::read(&path).unwrap();
    let uid = pair.uid().to_string();
    let secretsd = tests::programs::program("secretsd");
    let offline = |anchor: &str| {
        pair.deploy(&[
            "audit",
            "verify",
            "--state-dir",
            pair.state().to_str().unwrap(),
            "--user",
            &uid,
            "--secretsd",
            secretsd.to_str().unwrap(),
            "--anchor",
            anchor,
        ])
    };
    offline(&later).ok();
    let mut changed = good.clone();
    changed[300] ^= 1;
    std::fs::write(&path, changed).unwrap();
    let said = offline(&anchor);
    assert_eq!(said.code, 1, "{said}");
    assert!(said.out().contains("damage"), "{said}");
    let mut cut = good.clone();
    cut[400..].fill(0);
    std::fs::write(&path, cut).unwrap();
    let said = offline(&later);
    assert!(said.code == 1 && said.out().contains("cut"), "{said}");
}

#[test]
fn without_an_audit_log_no_secret_is_opened_and_config_goes_on() {
    let mut pair = pair();
    let user = ClaimedUser::claim();
    pair.down();
    // A file where the folder should be: nothing can be written.
    let folder = pair.state().join("audit");
    std::fs::rename(&folder, pair.state().join("audit.away")).unwrap();
    std::fs::write(&folder, b"").unwrap();
    pair.up();
    let mut probe = pair.probe(&web(&user));
    assert_eq!(probe.read("/secret/db_password").errno(), Some(libc::EIO));
    assert_eq!(probe.read("/config/level").text(), "debug");
    let warnings = pair.status()["warnings"].to_string();
    assert!(
        warnings.contains("audit log") && warnings.contains("EIO"),
        "{warnings}"
    );
    let refused = pair.set_with("db_password", "new", &[]);
    assert!(
        refused.code == 1 && refused.err().contains("audit log"),
        "{refused}"
    );
    // What takes away is done all the same.
    pair.revoke("web", "db_password");
    assert_eq!(
        probe.read("/secret/db_password").errno(),
        Some(libc::ENOENT)
    );
    probe.end().ok();
    // It goes on by itself once the disk is mended.
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(pair.state().join("audit.away"), &folder).unwrap();
    wait::until("the log to be written again", || {
        pair.set_with("db_password", "new", &[])
            .code
            .eq(&0)
            .then_some(())
    });
}

#[test]
fn it_fails_open_when_the_operator_wants_that() {
    let mut pair = pair();
    let user = ClaimedUser::claim();
    pair.down();
    let folder = pair.state().join("audit");
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, b"").unwrap();
    let mut command = pair.up_command();
    command.env("DEPLOY_AUDIT_FAIL_OPEN", "true");
    pair.up_by(command);
    let mut probe = pair.probe(&web(&user));
    assert_eq!(probe.read("/secret/db_password").text(), VALUE);
    assert!(
        pair.status()["warnings"]
            .to_string()
            .contains("allowed all the same")
    );
    probe.end().ok();
}

#[test]
fn a_tail_goes_on_with_what_comes() {
    let pair = pair();
    let mut tail = pair
        .deploy_command(&["audit", "tail", "--follow", "-n", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(tail.stdout.take().unwrap()));
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["act"], "secret.grant");
    pair.set("another", "x");
    assert_eq!(
        (&next()["what"], &next()["outcome"]),
        (&json!("another"), &json!("done"))
    );
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn a_name_that_would_forge_a_line_forges_none() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let script = "import ctypes\n\
        ctypes.CDLL(None).prctl(15, b'x\\n{\"seq\":1}', 0, 0, 0)\n\
        check('read', lambda: open('/secret/db_password').read() != '')\n";
    pair.run_to_end(&web(&user).python(script)).ok();
    let said = pair.deploy(&["audit", "query", "--kind", "open"]).ok();
    assert_eq!(said.out().lines().count(), 1);
    let open: Value = serde_json::from_str(said.out().trim()).unwrap();
    assert!(open["comm"].as_str().unwrap().contains("u{a}"), "{open}");
}

#[test]
fn who_reads_which_version_is_shown_and_waited_for() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let mut probe = pair.probe(&web(&user));
    let number = probe.service().instance().number;
    let readers = || {
        let told = pair
            .deploy(&["secret", "readers", "db_password", "--json"])
            .ok();
        told.json()["services"][0]["instances"][0].clone()
    };
    assert_eq!(readers(), json!({ "instance": number }));
    let Answer::Descriptor(held) = probe.ask(Ask::Open("/secret/db_password".into())) else {
        panic!();
    };
    assert_eq!(readers()["version"], 1);
    let rotate = |wait: &str| {
        let words = [
            "secret",
            "rotate",
            "db_password",
            "--file",
            "-",
            "--wait",
            wait,
        ];
        pair.deploy_with(&words, b"next")
    };
    let late = rotate("1s");
    assert_eq!(late.code, 1, "{late}");
    assert!(
        late.err().contains(&format!("instance {number} of web")),
        "{late}"
    );
    assert_eq!(
        (&readers()["version"], &readers()["holds"]),
        (&json!(1), &json!([1]))
    );
    // Also for the next secretsd.
    pair.kill_secretsd();
    assert_eq!(
        (&readers()["version"], &readers()["holds"]),
        (&json!(1), &json!([1]))
    );
    assert_eq!(probe.read("/secret/db_password").text(), "next");
    assert_eq!(probe.ask(Ask::Close(held)), Answer::Done);
    wait::until("version 1 to be let go", || {
        readers().get("holds").is_none().then_some(())
    });
    assert_eq!(readers()["version"], 2);
    let mut reads = pair.deploy_command(&[]);
    reads.arg("secret").arg("rotate").arg("db_password");
    let told = std::thread::scope(|scope| {
        let rotating = scope.spawn(|| rotate("60s"));
        wait::until("version 3 to be read", || {
            let text = probe.read("/secret/db_password").text();
            let at = readers()["version"].clone();
            (text == "next" && at == 3).then_some(())
        });
        rotating.join().unwrap()
    });
    assert!(told.ok().out().contains("opened by 1 running instance"));
    probe.end().ok();
}

#[test]
fn the_journal_is_told_too() {
    let mut pair = pair();
    let user = ClaimedUser::claim();
    pair.down();
    let path = pair.folder().join("journal");
    let journal = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    journal.set_read_timeout(Some(wait::LONG)).unwrap();
    let mut command = pair.up_command();
    command.env("DEPLOY_JOURNAL_SOCKET", &path);
    pair.up_by(command);
    let mut probe = pair.probe(&web(&user));
    assert_eq!(probe.read("/secret/db_password").text(), VALUE);
    let mut message = [0; 8192];
    let entry = loop {
        let length = journal.recv(&mut message).unwrap();
        let text = std::str::from_utf8(&message[..length]).unwrap();
        if let Some(entry) = text.lines().find_map(|line| line.strip_prefix("MESSAGE="))
            && entry.contains("\"open\"")
        {
            assert!(
                text.contains("SYSLOG_IDENTIFIER=secretsd-audit\n"),
                "{text}"
            );
            break serde_json::from_str::<Value>(entry).unwrap();
        }
    };
    assert_eq!(entry["secret"], "db_password");
    probe.end().ok();
}

/// secretsd's log folder, for a look from outside.
#[test]
fn the_log_is_secretsds_alone() {
    let pair = pair();
    let folder: PathBuf = pair.state().join("audit");
    let mut stat = Command::new("stat");
    stat.arg("-c")
        .arg("%a %u")
        .arg(&folder)
        .arg(folder.join("segment-0000000001"));
    let said = tests::command::run(stat, b"").ok().out();
    let uid = pair.uid();
    assert_eq!(said, format!("700 {uid}\n600 {uid}\n"));
}
