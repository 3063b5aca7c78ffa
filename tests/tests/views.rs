//! What is known of an instance, what stays the same over restarts, and what watchers hear.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::traces::signal;
use tests::{Answer, Pair, Probe, process, wait};

const VALUE: &str = "a-value-nobody-may-see";

/// A pair with one secret, and one config.
fn pair() -> Pair {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    pair
}

#[test]
fn the_registry_says_who_runs_where_and_holds_no_value() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let asked = Asked::service("web")
        .user(user.uid())
        .secrets(&["db_password"])
        .config(&[("level", "debug")]);
    let web = pair.probe(&asked);
    let instance = web.service().instance();
    let record = &instance.record;
    assert_eq!(record["format"], json!(1));
    assert_eq!(record["service"], json!("web"));
    assert_eq!(record["uid"], json!(user.uid()));
    assert_eq!(
        record["mount_ns"],
        json!(process::namespace(instance.pid, "mnt"))
    );
    assert_eq!(
        record["targets"],
        json!({"secret": "/secret", "config": "/config"})
    );
    let entries = record["entries"].as_array().unwrap();
    let named = |tree: &str, name: &str| {
        entries
            .iter()
            .any(|entry| entry["tree"] == json!(tree) && entry["name"] == json!(name))
    };
    assert!(
        named("secret", "db_password") && named("config", "level"),
        "{record}"
    );
    let folder = pair.run_folder().join("instances");
    let file = folder.join(instance.number.to_string());
    for (path, mode) in [(&folder, 0o700), (&file, 0o600)] {
        let meta = path.metadata().unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid()),
            (mode, 0),
            "{}",
            path.display()
        );
    }
    assert!(!std::fs::read_to_string(&file).unwrap().contains(VALUE));
    web.end().ok();
    assert!(!file.exists());
}

/// The inode numbers of a view's names.
fn inodes(probe: &mut Probe) -> Vec<u64> {
    [
        "/secret",
        "/secret/db_password",
        "/secret/tls",
        "/secret/tls/cert",
        "/secret/tls/key",
        "/config",
        "/config/level",
    ]
    .into_iter()
    .map(|path| match probe.stat(path) {
        Answer::Attributes { ino, .. } => ino,
        other => panic!("{path}: {other:?}"),
    })
    .collect()
}

#[test]
fn inode_numbers_are_fixed_fields_and_the_same_after_every_restart() {
    let pair = pair();
    let fields = br#"{"cert":"c","key":"k"}"#;
    pair.deploy_with(&["secret", "set", "tls", "--from-json", "-"], fields)
        .ok();
    pair.grant("web", &["tls"]);
    let asked = Asked::service("web")
        .secrets(&["db_password", "tls"])
        .config(&[("level", "debug")]);
    let mut web = pair.probe(&asked);
    let mut other = pair.probe(&asked);
    let first = inodes(&mut web);
    let number = u64::from(web.service().instance().number);
    for ino in &first {
        assert_eq!(ino >> 44, number, "the upper 20 bits are the instance");
    }
    let entry = |ino: u64| ino >> 28 & 0xffff;
    let version = |ino: u64| ino & 0xfff_ffff;
    assert_eq!(
        (entry(first[0]), entry(first[5])),
        (0, 0),
        "the folders themselves"
    );
    assert_eq!(version(first[1]), 1);
    assert_eq!(
        (version(first[2]), version(first[3])),
        (0, 1),
        "a folder has no version"
    );
    let mut entries: Vec<u64> = first[1..5].iter().map(|ino| entry(*ino)).collect();
    entries.sort_unstable();
    entries.dedup();
    assert_eq!(entries.len(), 4, "an entry number for each name");
    let others = inodes(&mut other);
    assert!(
        first.iter().all(|ino| !others.contains(ino)),
        "an inode space per instance"
    );

    pair.set("db_password", "second");
    let mut second = first.clone();
    second[1] += 1;
    assert_eq!(
        inodes(&mut web),
        second,
        "another version is another inode, all else stays"
    );
    // A name that comes later, and would be the first by its order, moves no other number.
    pair.set_fields("tls", r#"{"a":"","cert":"c","key":"k"}"#, &[])
        .ok();
    second[3] += 1;
    second[4] += 1;
    assert_eq!(inodes(&mut web), second);

    let kill = |pid: i32| signal(pid, Signal::KILL, wait::LONG);
    // With a change after each, so that the kernel asks for the names again.
    let change = |second: &mut Vec<u64>| {
        wait::until("secretsd to take a change", || {
            let fields = r#"{"a":"","cert":"c","key":"k"}"#;
            (pair.set_fields("tls", fields, &[]).code == 0).then_some(())
        });
        // One without an answer may have come about all the same.
        let version = *pair.versions("tls").last().unwrap();
        for at in [3, 4] {
            second[at] = second[at] >> 28 << 28 | version;
        }
    };
    kill(pair.secretsd());
    assert_eq!(inodes(&mut web), second, "after a crash of secretsd");
    change(&mut second);
    assert_eq!(
        inodes(&mut web),
        second,
        "and of names that are asked for anew"
    );
    let injector = *pair.traces().running("deploy-inject").last().unwrap();
    kill(injector);
    kill(pair.secretsd());
    assert_eq!(inodes(&mut web), second, "after a crash of both");
    wait::until("both to answer again", || {
        (pair.run_to_end(&asked.clone().command(&["true"])).code == 0).then_some(())
    });
    change(&mut second);
    assert_eq!(inodes(&mut web), second);
    pair.set("db_password", "third");
    second[1] += 1;
    assert_eq!(inodes(&mut web), second);
    assert_eq!(web.read("/secret/db_password").text(), "third");
}

#[test]
fn a_new_version_has_a_new_time_and_a_true_size() {
    let pair = pair();
    let mut web = pair.probe(&Asked::service("web").secrets(&["db_password"]));
    let mut look = || match web.stat("/secret/db_password") {
        Answer::Attributes { size, mtime, .. } => (size, mtime),
        other => panic!("{other:?}"),
    };
    let told = || {
        let history = pair
            .deploy(&["secret", "history", "db_password", "--json"])
            .ok()
            .json();
        let newest = history["versions"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone();
        newest["created"].as_i64().unwrap()
    };
    let first = look();
    assert_eq!(first, (VALUE.len() as u64, told()));
    // Times have whole seconds: until the clock shows another one.
    let next = wait::until("another second", || {
        pair.set("db_password", "xy");
        (told() != first.1).then(&mut look)
    });
    assert_eq!(next, (2, told()));
}

#[test]
fn a_watcher_hears_of_every_rotation_and_of_the_revoke() {
    let pair = pair();
    let user = ClaimedUser::claim();
    // inotify(7) by libc: IN_MODIFY 2, IN_CLOSE_WRITE 8, IN_CREATE 0x100, IN_DELETE 0x200.
    let script = "import ctypes, struct\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        fd = libc.inotify_init()\n\
        file = libc.inotify_add_watch(fd, b'/secret/db_password', 2 | 8)\n\
        folder = libc.inotify_add_watch(fd, b'/secret', 2 | 8 | 0x100 | 0x200)\n\
        print('watching', flush=True)\n\
        while True:\n    \
        data = os.read(fd, 65536)\n    \
        while data:\n        \
        wd, mask, _, n = struct.unpack('iIII', data[:16])\n        \
        name = data[16:16 + n].rstrip(b'\\0').decode()\n        \
        data = data[16 + n:]\n        \
        kind = 'file' if wd == file else 'folder'\n        \
        if mask & 8: print(kind, 'written', name, flush=True)\n        \
        if mask & 0x200: print(kind, 'deleted', name, flush=True)\n";
    let asked = Asked::service("web")
        .python(script)
        .user(user.uid())
        .secrets(&["db_password"]);
    let mut web = pair.run(&asked);
    assert_eq!(web.line(), "watching");
    // The watch was set once, on version 1.
    for round in 0..30 {
        pair.set("db_password", format!("round {round}"));
        let mut heard = (false, false);
        while heard != (true, true) {
            match web.line().as_str() {
                "file written " => heard.0 = true,
                "folder written db_password" => heard.1 = true,
                other => panic!("{other}"),
            }
        }
    }
    pair.revoke("web", "db_password");
    loop {
        let line = web.line();
        if line == "folder deleted db_password" {
            break;
        }
        assert!(line.contains("written"), "{line}");
    }
}

#[test]
fn a_stuck_reader_delays_no_revoke_of_another() {
    let pair = pair();
    let asked = Asked::service("web").secrets(&["db_password"]);
    let (mut web, other) = (pair.probe(&asked), pair.probe(&asked));
    assert_eq!(web.read("/secret/db_password").text(), VALUE);
    // A stopped process holds what it holds, and answers nothing.
    let pid = other.service().instance().pid;
    signal(pid, Signal::STOP, Duration::ZERO);
    pair.revoke("web", "db_password");
    assert_eq!(web.read("/secret/db_password"), Answer::Errno(libc::ENOENT));
    signal(pid, Signal::CONT, Duration::ZERO);
}
