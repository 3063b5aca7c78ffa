//! What a file of a view is to the programs that read it, and what stays the same over restarts.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::traces::signal;
use tests::{Answer, Pair, Probe, process, wait};

const VALUE: &str = "a-value-nobody-may-see";

/// A service that is a Python program; it has `check(what, function)` to say what came of a call.
fn python(script: &str) -> Vec<String> {
    let head = "import os, sys, mmap, fcntl, termios, select, errno, json, stat\n\
        def check(what, call):\n    \
        try: got = call()\n    \
        except OSError as e: got = errno.errorcode[e.errno]\n    \
        print(what, json.dumps(got), flush=True)\n";
    ["/usr/bin/python3", "-c", &format!("{head}{script}")]
        .map(str::to_owned)
        .to_vec()
}

fn asked(words: &[String]) -> Asked {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Asked::service("web").command(&words)
}

/// A pair with one secret, and one config.
fn pair() -> Pair {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    pair
}

#[test]
fn a_file_of_a_view_is_read_in_every_way_that_a_local_file_is() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let script = "for path in ['/secret/db_password', '/config/level']:\n    \
        n = path.split('/')[1]\n    \
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)\n    \
        size = os.fstat(fd).st_size\n    \
        check(n + ' shared', lambda: mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)[:].decode())\n    \
        check(n + ' private', lambda: mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)[:].decode())\n    \
        out, to = os.pipe()\n    \
        check(n + ' sendfile', lambda: os.sendfile(to, fd, 0, 100) == size)\n    \
        check(n + ' sent', lambda: os.read(out, 100).decode())\n    \
        check(n + ' seek', lambda: [os.lseek(fd, 3, os.SEEK_SET), os.lseek(fd, 1, os.SEEK_CUR), os.lseek(fd, 0, os.SEEK_END) == size])\n    \
        check(n + ' pread', lambda: os.pread(fd, 100, 2).decode())\n    \
        check(n + ' beyond', lambda: os.pread(fd, 100, size).decode())\n    \
        check(n + ' poll', lambda: len(select.select([fd], [], [], 0)[0]))\n    \
        check(n + ' flock', lambda: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB))\n    \
        check(n + ' lockf', lambda: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB))\n    \
        check(n + ' ioctl', lambda: termios.tcgetattr(fd) if False else fcntl.ioctl(fd, termios.TCGETS, bytes(64)))\n    \
        check(n + ' access', lambda: [os.access(path, os.R_OK), os.access(path, os.W_OK), os.access(path, os.X_OK)])\n    \
        check(n + ' free', lambda: os.statvfs(path).f_bavail)\n    \
        check(n + ' namemax', lambda: os.statvfs(path).f_namemax >= 253)\n    \
        check(n + ' readlink', lambda: os.readlink(path))\n    \
        check(n + ' below', lambda: os.stat(path + '/x'))\n    \
        check(n + ' links', lambda: os.stat(path).st_nlink)\n    \
        check(n + ' folder', lambda: [(e.name, e.is_file()) for e in os.scandir(os.path.dirname(path))])\n";
    let asked = asked(&python(script))
        .user(user.uid())
        .secrets(&["db_password"])
        .config(&[("level", "debugging")]);
    let said = pair.run_to_end(&asked).ok();
    for (name, value, file) in [
        ("secret", VALUE, "db_password"),
        ("config", "debugging", "level"),
    ] {
        for (what, expected) in [
            ("shared", json!(value)),
            ("private", json!(value)),
            ("sendfile", json!(true)),
            ("sent", json!(value)),
            ("seek", json!([3, 4, true])),
            ("pread", json!(value[2..])),
            ("beyond", json!("")),
            ("poll", json!(1)),
            ("flock", json!(null)),
            ("lockf", json!(null)),
            ("ioctl", json!("ENOTTY")),
            ("access", json!([true, false, false])),
            ("free", json!(0)),
            ("namemax", json!(true)),
            ("readlink", json!("EINVAL")),
            ("below", json!("ENOTDIR")),
            ("links", json!(1)),
            ("folder", json!([[file, true]])),
        ] {
            let head = format!("{name} {what} ");
            let out = said.out();
            let line = out.lines().find_map(|line| line.strip_prefix(&head));
            let got: Value = serde_json::from_str(line.unwrap_or("\"no line\"")).unwrap();
            assert_eq!(got, expected, "{head}: {said}");
        }
    }
}

#[test]
fn every_change_through_the_view_is_refused_with_its_errno() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let script = "p = '/secret/db_password'\n\
        check('rename', lambda: os.rename(p, '/secret/x'))\n\
        check('link', lambda: os.link(p, '/secret/x'))\n\
        check('symlink', lambda: os.symlink(p, '/secret/x'))\n\
        check('mkdir', lambda: os.mkdir('/secret/x'))\n\
        check('rmdir', lambda: os.rmdir('/secret/x'))\n\
        check('mknod', lambda: os.mknod('/secret/x'))\n\
        check('creat', lambda: os.open('/secret/x', os.O_CREAT | os.O_WRONLY))\n\
        check('chown', lambda: os.chown(p, os.getuid(), os.getgid()))\n\
        check('chmod', lambda: os.chmod(p, 0o777))\n\
        check('utimes', lambda: os.utime(p))\n\
        check('unlink', lambda: os.unlink(p))\n\
        check('setxattr', lambda: os.setxattr(p, 'user.x', b'1'))\n\
        check('write', lambda: os.open(p, os.O_WRONLY))\n\
        check('append', lambda: os.open(p, os.O_WRONLY | os.O_APPEND))\n\
        check('truncate', lambda: os.truncate(p, 0))\n";
    // As root too, whom no permission stops.
    for uid in [0, user.uid()] {
        let asked = asked(&python(script)).user(uid).secrets(&["db_password"]);
        let said = pair.run_to_end(&asked).ok();
        for line in said.out().lines() {
            let (what, got) = line.split_once(' ').unwrap();
            let erofs = got == "\"EROFS\"";
            // Permissions, and whether a name is there, are asked before the mount is.
            let sooner = match what {
                "write" | "append" | "truncate" | "mkdir" | "mknod" | "creat" => "\"EACCES\"",
                "rmdir" => "\"ENOENT\"",
                _ => "",
            };
            assert!(erofs || got == sooner, "{what} by {uid}: {got}");
        }
        assert_eq!(said.out().lines().count(), 15, "{said}");
    }
}

#[test]
fn a_listing_has_every_name_once_and_sorted() {
    let pair = Pair::start();
    // More than one readdir of the kernel's gives.
    let names: Vec<String> = (0..300)
        .map(|number| format!("name-{number:03}-{}", "x".repeat(100)))
        .collect();
    let mut calls = tests::Varlink::connect(&pair);
    for name in &names {
        let call = json!({"name": name, "value": name, "allowed_workloads": ["web"]});
        calls.call("io.deploy.Secrets.Create", call).unwrap();
    }
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    let script = "a = os.listdir('/secret')\n\
        check('order', lambda: a == sorted(a))\n\
        check('count', lambda: [len(a), len(set(a))])\n\
        b = [(e.name, e.stat().st_size) for e in os.scandir('/secret')]\n\
        check('sizes', lambda: all(len(name) == size for name, size in b) and [n for n, _ in b] == a)\n\
        check('bytes', lambda: all(open('/secret/' + n).read() == n for n in a))\n";
    let said = pair
        .run_to_end(&asked(&python(script)).secrets(&words))
        .ok();
    assert_eq!(
        said.out(),
        "order true\ncount [300, 300]\nsizes true\nbytes true\n"
    );
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

    let kill = |pid: i32| signal(pid, Signal::KILL, wait::LONG);
    kill(pair.secretsd());
    assert_eq!(inodes(&mut web), second, "after a crash of secretsd");
    let injector = *pair.traces().running("deploy-inject").last().unwrap();
    kill(injector);
    kill(pair.secretsd());
    assert_eq!(inodes(&mut web), second, "after a crash of both");
    wait::until("both to answer again", || {
        (pair.run_to_end(&asked.clone().command(&["true"])).code == 0).then_some(())
    });
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
    let asked = asked(&python(script))
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
