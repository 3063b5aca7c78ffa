//! docs/semantics.md, call by call: what a file of a view is to the programs that read it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::{Value, json};
use tests::Pair;
use tests::claim::ClaimedUser;
use tests::manifest::Asked;

const VALUE: &str = "a-value-nobody-may-see";

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
        check(n + ' ioctl', lambda: fcntl.ioctl(fd, termios.TCGETS, bytes(64)))\n    \
        check(n + ' access', lambda: [os.access(path, os.R_OK), os.access(path, os.W_OK), os.access(path, os.X_OK)])\n    \
        check(n + ' free', lambda: os.statvfs(path).f_bavail)\n    \
        check(n + ' namemax', lambda: os.statvfs(path).f_namemax >= 253)\n    \
        check(n + ' readlink', lambda: os.readlink(path))\n    \
        check(n + ' below', lambda: os.stat(path + '/x'))\n    \
        check(n + ' links', lambda: os.stat(path).st_nlink)\n    \
        check(n + ' folder', lambda: [(e.name, e.is_file()) for e in os.scandir(os.path.dirname(path))])\n";
    let asked = Asked::service("web")
        .python(script)
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
        let asked = Asked::service("web")
            .python(script)
            .user(uid)
            .secrets(&["db_password"]);
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
        .run_to_end(&Asked::service("web").python(script).secrets(&words))
        .ok();
    assert_eq!(
        said.out(),
        "order true\ncount [300, 300]\nsizes true\nbytes true\n"
    );
}
