//! RUN_DIR/secrets: what root sees and does there with no other program than a shell.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::json;
use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::{Answer, Pair, wait};

const VALUE: &str = "a-value-nobody-may-see";

fn path(pair: &Pair, name: &str) -> PathBuf {
    pair.run_folder().join("secrets").join(name)
}

/// Writes to `ctl` by one write(2).
fn ctl(pair: &Pair, line: &[u8]) -> io::Result<()> {
    let mut file = File::options().append(true).open(path(pair, "ctl"))?;
    let count = file.write(line)?;
    assert_eq!(count, line.len(), "a command is taken whole or not at all");
    Ok(())
}

#[track_caller]
fn refused(result: io::Result<()>, errno: i32) {
    let error = result.expect_err("it was taken");
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
}

fn get(pair: &Pair, name: &str) -> Vec<u8> {
    pair.deploy(&["secret", "get", name]).ok().stdout
}

fn shell(pair: &Pair, script: &str) -> tests::Finished {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).current_dir(path(pair, ""));
    run(command, b"")
}

fn names(pair: &Pair, folder: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path(pair, folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_shell_sets_and_deletes_with_either_redirection() {
    let pair = Pair::start();
    shell(&pair, "echo 'set db_password one' > ctl").ok();
    assert_eq!(get(&pair, "db_password"), b"one");
    shell(&pair, "echo 'set db_password two words' >> ctl").ok();
    assert_eq!(get(&pair, "db_password"), b"two words");
    shell(&pair, "printf 'set api_key no line end' > ctl").ok();
    assert_eq!(get(&pair, "api_key"), b"no line end");
    shell(
        &pair,
        "echo 'delete api_key' > ctl && echo 'delete db_password' >> ctl",
    )
    .ok();
    for name in ["api_key", "db_password"] {
        pair.deploy(&["secret", "get", name]).code(4);
    }
    // A redirection alone writes nothing.
    shell(&pair, ": > ctl && : >> ctl").ok();
    assert_eq!(names(&pair, "store"), Vec::<String>::new());
    pair.leaves_nothing();
}

#[test]
fn a_value_is_all_that_follows_the_name() {
    let pair = Pair::start();
    let every: Vec<u8> = (0..=255).collect();
    for (written, value) in [
        (&b"set a  two spaces \n\n"[..], &b" two spaces \n"[..]),
        (b"set a ", b""),
        (b"set a \n", b""),
        (b"set a delete b", b"delete b"),
        (&[b"set a ", &every[..]].concat(), &every),
    ] {
        ctl(&pair, written).unwrap();
        assert_eq!(get(&pair, "a"), value);
    }
    // One write is one command, also where it looks like two.
    ctl(&pair, b"set a one\nset b two\n").unwrap();
    assert_eq!(get(&pair, "a"), b"one\nset b two");
    assert_eq!(names(&pair, "store"), ["a"]);
}

#[test]
fn a_bad_line_is_einval_and_changes_nothing() {
    let pair = Pair::start();
    pair.set("right", VALUE);
    let history = || {
        pair.deploy(&["secret", "history", "right", "--json"])
            .ok()
            .out()
    };
    let before = history();
    for line in [
        &b"\n"[..],
        b"set",
        b"set \n",
        b"set right\n",
        b"set ../right x\n",
        b"set Right x\n",
        b"set  right x\n",
        b"SET right x\n",
        b" set right x\n",
        b"delete\n",
        b"delete \n",
        b"delete right now\n",
        b"delete right\n\n",
        b"rotate-key now\n",
        b"rotate-key\n\n",
        b"set \xff x\n",
        b"seal\n",
        b"\0",
    ] {
        let words = String::from_utf8_lossy(line).into_owned();
        let error = ctl(&pair, line).expect_err(&words);
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{words:?}");
    }
    // A shell tells it, and gives an exit code.
    let said = shell(&pair, "/bin/echo 'set ../right x' > ctl");
    assert_ne!(said.code, 0);
    said.says(&["Invalid argument"]);
    refused(ctl(&pair, b"delete nothing\n"), libc::ENOENT);
    assert_eq!(history(), before);
    assert_eq!(names(&pair, "store"), ["right"]);
    let status = pair.deploy(&["status", "--json"]).ok().json();
    assert_eq!(status["generation"], json!(1), "nothing was rotated");
    assert!(!pair.log_text().contains(VALUE));
}

#[test]
fn a_value_has_at_most_64_kib_there() {
    let pair = Pair::start();
    let most = vec![b'x'; 64 * 1024];
    let line = |value: &[u8]| [&b"set large "[..], value, b"\n"].concat();
    ctl(&pair, &line(&most)).unwrap();
    assert_eq!(get(&pair, "large"), most);
    for more in [1, 4096, 64 * 1024, 1 << 20] {
        let larger = vec![b'y'; most.len() + more];
        refused(ctl(&pair, &line(&larger)), libc::EINVAL);
    }
    assert_eq!(
        get(&pair, "large"),
        most,
        "the version before is the newest still"
    );
}

#[test]
fn what_was_written_is_durable_when_the_write_returns() {
    let pair = Pair::start();
    for round in 0..5 {
        // Large, so that what is not on the disk yet takes a while to get there.
        let value = format!("round {round} {}", "x".repeat(60_000));
        let secretsd = pair.secretsd();
        ctl(&pair, format!("set a {value}\n").as_bytes()).unwrap();
        tests::traces::signal(secretsd, Signal::KILL, wait::LONG);
        let got = wait::until("a secretsd that answers", || {
            let got = pair.get("a", &[]);
            (got.code != 1).then_some(got)
        });
        assert!(got.ok().out() == value, "round {round} is lost");
    }
    // The tree itself is there as before.
    ctl(&pair, b"set b after\n").unwrap();
    assert_eq!(names(&pair, "store"), ["a", "b"]);
}

#[test]
fn services_have_it_and_lose_it_when_the_write_returns() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    ctl(&pair, b"set db_password one").unwrap();
    pair.grant("web", &["db_password"]);
    let asked = Asked::service("web")
        .user(user.uid())
        .secrets(&["db_password"]);
    let mut web = pair.probe(&asked);
    let held = web.open("/secret/db_password").descriptor();
    assert_eq!(web.pread(held).text(), "one");
    ctl(&pair, b"set db_password second").unwrap();
    assert_eq!(web.read("/secret/db_password").text(), "second");
    ctl(&pair, b"delete db_password").unwrap();
    assert_eq!(web.read("/secret/db_password"), Answer::Errno(libc::ENOENT));
    let answer = web.pread(held);
    assert!(
        matches!(answer.errno(), Some(libc::EKEYREVOKED | libc::EIO)),
        "{answer:?}"
    );
}

#[test]
fn rotate_key_returns_at_once_and_the_root_key_is_rotated() {
    let pair = Pair::start();
    // Enough that it takes a while.
    for number in 0..40 {
        pair.set(&format!("key-{number}"), vec![b'x'; 1 << 20]);
    }
    let generation = || pair.deploy(&["status", "--json"]).ok().json()["generation"].clone();
    assert_eq!(generation(), json!(1));
    let start = Instant::now();
    shell(&pair, "echo rotate-key > ctl").ok();
    let written = start.elapsed();
    wait::until("the next generation", || {
        (generation() == json!(2)).then_some(())
    });
    let rotated = start.elapsed();
    assert!(
        written * 2 < rotated,
        "the write took {written:?} of {rotated:?}"
    );
    assert!(get(&pair, "key-39") == vec![b'x'; 1 << 20]);
}

#[test]
fn store_shows_the_sealed_record_of_each_secret() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.set("other", VALUE);
    assert_eq!(names(&pair, "store"), ["db_password", "other"]);
    let record = std::fs::read(path(&pair, "store/db_password")).unwrap();
    // docs/format.md, "Sealed record".
    assert_eq!(record.len(), 84 + VALUE.len() + 16);
    assert_eq!(record[..4], [1, 2, 1, 0], "format, kind, cipher, reserved");
    assert_eq!(record[4..8], 1_u32.to_le_bytes(), "generation");
    let meta = std::fs::metadata(path(&pair, "store/db_password")).unwrap();
    assert_eq!(meta.len(), record.len() as u64);
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o400, 0));
    let holds = |bytes: &[u8], text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(
        !holds(&record, VALUE),
        "the record holds the value in clear"
    );
    let other = std::fs::read(path(&pair, "store/other")).unwrap();
    assert_ne!(other[8..], record[8..], "equal values can be told");

    // Nothing is cached: what is read next is what holds now.
    pair.set("db_password", "longer than it was before, by far");
    let next = std::fs::read(path(&pair, "store/db_password")).unwrap();
    assert_eq!(next.len(), 84 + 33 + 16);
    pair.deploy(&["secret", "delete", "other", "--yes"]).ok();
    let error = std::fs::read(path(&pair, "store/other")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(names(&pair, "store"), ["db_password"]);
}

#[test]
fn grants_shows_a_line_for_each_secret_of_a_service() {
    let pair = Pair::start();
    for name in ["b", "a", "c"] {
        pair.set(name, VALUE);
    }
    assert_eq!(names(&pair, "grants"), Vec::<String>::new());
    pair.grant("web", &["b", "a"]);
    pair.grant("api", &["c"]);
    let until = r#"{"service":"api","names":["a"],"until":4102444800}"#;
    pair.deploy(&["call", "secret.grant", until]).ok();
    assert_eq!(names(&pair, "grants"), ["api", "web"]);
    let read = |service: &str| std::fs::read_to_string(path(&pair, "grants").join(service));
    assert_eq!(read("web").unwrap(), "a\nb\n");
    assert_eq!(read("api").unwrap(), "a until 2100-01-01T00:00:00Z\nc\n");
    pair.revoke("web", "a");
    assert_eq!(read("web").unwrap(), "b\n");
    pair.revoke("web", "b");
    assert_eq!(read("web").unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert_eq!(names(&pair, "grants"), ["api"]);
}

#[test]
fn key_exists_and_is_never_readable_by_root_neither() {
    let pair = Pair::start();
    assert_eq!(names(&pair, ""), ["ctl", "grants", "key", "store"]);
    let meta = std::fs::metadata(path(&pair, "key")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0);
    assert_eq!(meta.len(), 0);
    for options in [
        File::options().read(true),
        File::options().write(true),
        File::options().read(true).write(true),
    ] {
        let error = options.open(path(&pair, "key")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
    let error = std::fs::read(path(&pair, "ctl")).unwrap_err();
    assert_eq!(
        error.raw_os_error(),
        Some(libc::EACCES),
        "ctl is written alone"
    );
    let said = shell(&pair, "cp key /dev/null; chmod 600 key; cat key");
    assert_ne!(said.code, 0, "{said}");
}

#[test]
fn the_tree_is_roots_alone() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    let stranger = ClaimedUser::claim().uid().to_string();
    // secretsd's own user is no exception.
    for uid in [stranger, pair.uid().to_string()] {
        for script in [
            "ls .",
            "ls store grants",
            "cat store/db_password",
            "cat grants/web",
            "cat key",
            "echo 'set db_password x' > ctl",
            "echo 'delete db_password' >> ctl",
        ] {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"])
                .args(["/bin/sh", "-c"])
                .arg(format!("cd \"$0\" && {script}"))
                .arg(path(&pair, ""));
            let said = run(command, b"");
            assert_ne!(said.code, 0, "{script}: {said}");
        }
    }
    assert_eq!(get(&pair, "db_password"), VALUE.as_bytes());
    let mode = std::fs::metadata(path(&pair, ""))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o700);
}

#[test]
fn a_sealed_store_takes_and_shows_nothing() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    pair.deploy(&["seal"]).ok();
    for line in [
        &b"set db_password x"[..],
        b"set new x",
        b"delete db_password",
    ] {
        refused(ctl(&pair, line), libc::ENOKEY);
    }
    refused(ctl(&pair, b"set ../x y"), libc::EINVAL);
    for name in ["store/db_password", "grants/web"] {
        let error = std::fs::read(path(&pair, name)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOKEY), "{name}");
    }
    pair.deploy(&["unseal"]).ok();
    assert_eq!(get(&pair, "db_password"), VALUE.as_bytes());
    assert_eq!(names(&pair, "store"), ["db_password"]);
}

#[test]
fn nothing_else_can_be_made_changed_or_removed_there() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    for script in [
        "touch new",
        "mkdir new",
        "echo x > store/db_password",
        "echo x > store/new",
        "rm store/db_password",
        "rm ctl",
        "mv store/db_password store/other",
        "ln store/db_password store/other",
        "ln -s /etc/passwd link",
        "chmod 777 ctl",
        "chown 1 ctl",
        "echo web > grants/web",
    ] {
        let said = shell(&pair, script);
        assert_ne!(said.code, 0, "{script}: {said}");
    }
    assert_eq!(names(&pair, ""), ["ctl", "grants", "key", "store"]);
    assert_eq!(names(&pair, "store"), ["db_password"]);
    assert_eq!(get(&pair, "db_password"), VALUE.as_bytes());
}
