//! Backups of a running store, and what restoring one brings back.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::Pair;
use tests::command::{Finished, run};
use tests::manifest::Asked;

const VALUE: &str = "a-value-nobody-may-see";
const PASSPHRASE: &str = "a-passphrase-nobody-may-see";

/// Of the vectors of docs/format.md: a key pair of age.
fn key(what: &str) -> String {
    let text = include_str!("../../core/store/tests/vectors/backup.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    vectors[what].as_str().unwrap().to_owned()
}

/// What every test does with backups.
struct Backups<'a> {
    pair: &'a Pair,
    identity: PathBuf,
    uid: String,
}

impl Backups<'_> {
    fn of(pair: &Pair) -> Backups<'_> {
        let identity = pair.file("backup.key", format!("# a comment\n{}\n", key("identity")));
        let uid = pair.uid().to_string();
        Backups {
            pair,
            identity,
            uid,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.pair.folder().join(name)
    }

    #[track_caller]
    fn try_make(&self, name: &str, more: &[&str]) -> Finished {
        let recipient = key("recipient");
        let words = [&["backup", name, "--recipient", &recipient], more].concat();
        self.pair.deploy(&words)
    }

    /// Makes one, and gives what is told of it.
    #[track_caller]
    fn make(&self, name: &str) -> Value {
        self.try_make(name, &["--json"]).ok().json()
    }

    fn words<'a>(&'a self, words: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        let identity = self.identity.to_str().unwrap();
        let opening = ["--identity", identity, "--user", &self.uid];
        [words, &opening, more].concat()
    }

    #[track_caller]
    fn verify(&self, name: &str) -> Finished {
        let words = self.words(&["backup", "verify", name], &["--json"]);
        self.pair.deploy(&words)
    }

    #[track_caller]
    fn restore(&self, name: &str, more: &[&str]) -> Finished {
        self.pair.deploy(&self.words(&["restore", name], more))
    }

    /// What lies beside the state folder by name.
    fn beside(&self, start: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.pair.folder()).unwrap();
        let entries = entries.map(|entry| entry.unwrap().path());
        let mut found: Vec<_> = entries
            .filter(|path| {
                let name = path.file_name().unwrap().to_str().unwrap();
                name.starts_with(start)
            })
            .collect();
        found.sort();
        found
    }
}

/// All files of a folder with what is in them.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// Something of everything that a store holds.
fn fill(pair: &Pair) {
    pair.set("db_password", "an older one");
    pair.set("db_password", VALUE);
    pair.set_fields("tls", r#"{"cert.pem":"c","key.pem":"k"}"#, &[])
        .ok();
    pair.set("binary", [0, 255, 10, 13]);
    pair.set("gone", "x");
    pair.deploy(&["secret", "delete", "gone", "--yes"]).ok();
    pair.grant("web", &["db_password", "tls"]);
    let ttl = ["secret", "grant", "api", "tls", "--ttl", "8h"];
    pair.deploy(&ttl).ok();
    pair.deploy(&["config", "create", "app.settings", "log_level=debug"])
        .ok();
    pair.deploy(&["config", "set", "app.settings", "max_conn=100"])
        .ok();
    pair.deploy(&["config", "create", "fixed", "a=1", "--immutable"])
        .ok();
    pair.add_passphrase("open sesame", &["--label", "the office"])
        .ok();
    pair.deploy(&["key", "rotate"]).ok();
}

/// What operators are told of everything.
fn told(pair: &Pair) -> Vec<Value> {
    let calls: [&[&str]; 8] = [
        &["secret", "list", "--json"],
        &["secret", "history", "db_password", "--json"],
        &["secret", "history", "tls", "--json"],
        &["secret", "show", "db_password", "--json"],
        &["config", "list", "--json"],
        &["config", "get", "app.settings", "--json"],
        &["config", "get", "fixed", "--json"],
        &["key", "slot", "list", "--json"],
    ];
    let mut all: Vec<Value> = calls
        .iter()
        .map(|words| pair.deploy(words).ok().json())
        .collect();
    for service in ["web", "api"] {
        all.push(pair.call("secret.grants", &json!({"service": service}).to_string()));
    }
    let status = pair.status();
    all.push(json!([
        status["store"],
        status["generation"],
        status["cipher"]
    ]));
    all
}

#[test]
fn what_is_restored_on_another_machine_is_what_was() {
    let mut pair = Pair::start();
    fill(&pair);
    let before = told(&pair);
    let anchor = pair.deploy(&["audit", "verify", "--json"]).ok().json()["anchor"].clone();
    let backups = Backups::of(&pair);
    let made = backups.make("store.age");
    let file = backups.path("store.age");
    let meta = file.metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o600, 0));
    assert_eq!(made["bytes"], json!(meta.len()));
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"age-encryption.org/v1\n"));
    for clear in [VALUE, "db_password", "app.settings", "the office"] {
        let there = bytes
            .windows(clear.len())
            .any(|part| part == clear.as_bytes());
        assert!(!there, "{clear} is in clear");
    }
    let contents = &made["contents"];
    assert_eq!(
        (
            &contents["secrets"],
            &contents["grants"],
            &contents["configs"]
        ),
        (&json!(3), &json!(3), &json!(2))
    );
    assert_eq!(contents["slots"].as_array().unwrap().len(), 2);
    let seq = |anchor: &Value| -> u64 {
        let text = anchor.as_str().unwrap();
        text.split(':').next().unwrap().parse().unwrap()
    };
    assert!(seq(&contents["anchor"]) > seq(&anchor), "{contents}");
    let uid = backups.uid.clone();

    // Without a daemon, and without a store.
    assert_eq!(pair.down(), 0);
    let backups = Backups::of(&pair);
    assert_eq!(backups.verify("store.age").ok().json(), *contents);
    fs::rename(pair.state(), backups.path("lost")).unwrap();
    let verified = backups.verify("store.age").ok();
    assert_eq!(verified.json(), *contents);
    let text = pair.deploy(&backups.words(&["backup", "verify", "store.age"], &[]));
    assert!(text.ok().out().contains("3 in 4 versions"));

    let restored = backups.restore("store.age", &["--json"]).ok().json();
    assert_eq!(restored["moved_aside"], Value::Null);
    assert_eq!(restored["report"]["found"], json!("nothing"));
    let added = &restored["report"]["added_slot"];
    assert_eq!(added["path"], json!("restored-3.key"), "a new key file");
    let state = pair.state().metadata().unwrap();
    assert_eq!(state.mode() & 0o7777, 0o700);
    assert_eq!(state.uid().to_string(), uid);
    assert!(backups.beside("state.").is_empty());
    pair.up();
    let mut after = told(&pair);
    let slots = after[7]["slots"].as_array_mut().unwrap();
    assert_eq!(slots.pop().unwrap(), *added);
    assert_eq!(after, before);
    let get = |words: &[&str]| pair.get("db_password", words).ok().out();
    assert_eq!(
        (get(&[]), get(&["--version", "1"])),
        (VALUE.into(), "an older one".into())
    );
    assert_eq!(pair.get("tls", &["--field", "key.pem"]).ok().out(), "k");
    assert_eq!(pair.get("binary", &[]).ok().stdout, [0, 255, 10, 13]);
    // A name that was deleted goes on where it was.
    pair.set("gone", "y");
    assert_eq!(pair.versions("gone"), [2]);

    // The slots of before open it, and the dead one can be removed.
    pair.seal();
    pair.unseal("open sesame").ok();
    pair.deploy(&["key", "slot", "remove", "1"]).ok();
    pair.kill_secretsd();
    assert_eq!(pair.status()["warnings"], json!([]));

    // A service gets what it was granted before, and nothing else.
    let mut probe = pair.probe(&Asked::service("web").secrets(&["db_password"]));
    assert_eq!(probe.read("/secret/db_password").text(), VALUE);
    drop(probe);
    let refused = pair.run_to_end(
        &Asked::service("api")
            .secrets(&["db_password"])
            .command(&["true"]),
    );
    refused.code(3).says(&["db_password"]);
    pair.leaves_nothing();
}

#[test]
fn an_older_backup_is_refused_and_names_what_it_would_bring_back() {
    let mut pair = Pair::start();
    fill(&pair);
    Backups::of(&pair).make("old.age");
    pair.revoke("web", "db_password");
    pair.deploy(&["key", "slot", "remove", "2"]).ok();
    pair.set("db_password", "a newer one");
    pair.set("made-since", "x");
    let anchor = pair.deploy(&["audit", "verify", "--json"]).ok().json()["anchor"]
        .as_str()
        .unwrap()
        .to_owned();

    // While secretsd runs, nothing is even looked at.
    let backups = Backups::of(&pair);
    backups
        .restore("old.age", &["--accept"])
        .code(6)
        .says(&["secretsd runs", "deploy-inject up"]);
    pair.down();
    let backups = Backups::of(&pair);
    let before = files(&pair.state());
    let refused = backups.restore("old.age", &[]).code(6);
    let words = [
        "web may read db_password again",
        "key slot 2 (the office) is back",
        "from generation 3 to 2",
        "db_password goes back from version 3 to 2",
        "secret made-since is lost",
        "--accept",
    ];
    let refused = refused.says(&words).hides(VALUE);
    assert_eq!(refused.err().matches("\n  - ").count(), 5, "{refused}");
    let refused = backups.restore("old.age", &["--json"]).code(6).json();
    assert_eq!(refused["ready"], json!(false));
    let kinds: Vec<&Value> = refused["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["kind"])
        .collect();
    assert_eq!(
        kinds,
        [
            "older-generation",
            "slot-back",
            "grant-back",
            "older",
            "lost"
        ]
    );
    assert!(files(&pair.state()) == before, "something has changed");
    assert!(backups.beside("state.").is_empty());

    let restored = backups
        .restore("old.age", &["--accept", "--json"])
        .ok()
        .json();
    let aside = PathBuf::from(restored["moved_aside"].as_str().unwrap());
    assert_eq!(backups.beside("state."), [aside.clone()]);
    assert!(aside.to_str().unwrap().contains("state.replaced-2"));
    let moved: Vec<_> = before
        .into_iter()
        .map(|(path, bytes)| (aside.join(path.strip_prefix(pair.state()).unwrap()), bytes))
        .collect();
    assert!(files(&aside) == moved, "the folder before is not whole");
    // Its own key file opens it again: nothing had to be made.
    assert_eq!(restored["report"]["added_slot"], Value::Null);
    pair.up();
    assert!(!pair.is_sealed());
    assert_eq!(pair.get("db_password", &[]).ok().out(), VALUE);
    pair.get("made-since", &[]).code(4);
    let granted = pair.call("secret.grants", r#"{"service":"web"}"#);
    assert!(granted.to_string().contains("db_password"));

    // The audit log goes on, and has the restore.
    pair.deploy(&["audit", "verify", "--anchor", &anchor]).ok();
    let log = pair.deploy(&["audit", "query", "--kind", "change"]).ok();
    let acts: Vec<Value> = log
        .out()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let at = |act: &str| {
        acts.iter()
            .rposition(|one| one["act"] == json!(act))
            .unwrap()
    };
    assert!(at("backup") < at("secret.revoke") && at("secret.revoke") < at("restore"));
    let detail = acts[at("restore")]["detail"].as_str().unwrap();
    assert!(detail.contains("5 differences accepted"), "{detail}");
    pair.leaves_nothing();
}

#[test]
fn a_backup_of_what_is_there_now_is_restored_without_a_question() {
    let mut pair = Pair::start();
    fill(&pair);
    Backups::of(&pair).make("now.age");
    pair.down();
    let restored = Backups::of(&pair)
        .restore("now.age", &["--json"])
        .ok()
        .json();
    assert_eq!(restored["report"]["found"], json!("store"));
    assert_eq!(restored["report"]["differences"], json!([]));
    pair.up();
    assert_eq!(pair.get("db_password", &[]).ok().out(), VALUE);
}

#[test]
fn over_a_broken_folder_the_audit_log_tells_what_was_done_since() {
    let mut pair = Pair::start();
    fill(&pair);
    Backups::of(&pair).make("store.age");
    pair.revoke("web", "tls");
    pair.get("tls", &["--field", "key.pem"]).ok();
    pair.down();
    let current = fs::read_to_string(pair.state().join("CURRENT")).unwrap();
    let journal = pair.state().join(current.trim()).join("journal");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[600] ^= 1;
    fs::write(&journal, &bytes).unwrap();
    let broken = files(&pair.state());

    let backups = Backups::of(&pair);
    let refused = backups.restore("store.age", &[]).code(6);
    let refused = refused.says(&["cannot be compared", "journal", "secret.revoke web tls"]);
    assert_eq!(refused.err().matches("\n  - ").count(), 2, "{refused}");
    assert!(files(&pair.state()) == broken);
    backups.restore("store.age", &["--accept"]).ok();
    let aside = backups.beside("state.");
    assert_eq!(files(&aside[0]).len(), broken.len());
    pair.up();
    assert_eq!(pair.get("db_password", &[]).ok().out(), VALUE);
    pair.down();

    // Without a log, and with another's, that is said.
    for (name, content) in [("STORE", "x"), ("audit/segment-0000000001", "x")] {
        fs::write(pair.state().join(name), content).unwrap();
    }
    let backups = Backups::of(&pair);
    backups
        .restore("store.age", &[])
        .code(6)
        .says(&["STORE", "does not go on from the backup"]);
    fs::remove_dir_all(pair.state()).unwrap();
    fs::create_dir(pair.state()).unwrap();

    // Nothing to compare with: an anchor that was kept elsewhere says whether there should be.
    let anchor = format!("4711:{}", "0".repeat(64));
    backups
        .restore("store.age", &["--anchor", &anchor])
        .code(6)
        .says(&["audit entries after the backup"]);
    backups.restore("store.age", &["--anchor", "4711"]).code(1);
    let own = backups.verify("store.age").ok().json()["anchor"].clone();
    backups
        .restore("store.age", &["--anchor", own.as_str().unwrap()])
        .ok();
    pair.up();
    assert_eq!(pair.get("db_password", &[]).ok().out(), VALUE);
}

#[test]
fn a_store_under_passphrases_comes_back_under_them_and_a_backup_has_its_own() {
    let mut pair = Pair::start_sealed("open sesame");
    let backups = Backups::of(&pair);
    backups.try_make("store.age", &[]).code(5).says(&["sealed"]);
    assert!(backups.beside("store.age").is_empty());
    pair.unseal("open sesame").ok();
    pair.set("db_password", VALUE);
    let words = ["backup", "store.age", "--passphrase-file", "-"];
    pair.deploy_with(&words, PASSPHRASE.as_bytes())
        .ok()
        .hides(PASSPHRASE);
    let uid = backups.uid.clone();
    let open = |pair: &Pair, words: &[&str], passphrase: &str| {
        let more = ["--user", &uid, "--passphrase-file", "-"];
        let said = pair.deploy_with(&[words, &more].concat(), passphrase.as_bytes());
        said.hides(passphrase).hides(VALUE)
    };
    let verify = ["backup", "verify", "store.age"];
    open(&pair, &verify, PASSPHRASE).ok();
    // Neither that of a slot nor an identity opens it.
    open(&pair, &verify, "open sesame")
        .code(3)
        .says(&["passphrase"]);
    backups.verify("store.age").code(3).says(&["a passphrase"]);
    // Or the keyring keeps its root key, which is the restored one's too.
    pair.seal();
    pair.down();
    open(&pair, &["restore", "store.age"], "open barley").code(3);
    fs::remove_dir_all(pair.state()).unwrap();
    open(&pair, &["restore", "store.age"], "open barley").code(3);
    assert!(!pair.state().exists());
    let said = open(&pair, &["restore", "store.age", "--json"], PASSPHRASE).ok();
    assert_eq!(said.json()["report"]["added_slot"], Value::Null);
    pair.up();
    assert!(pair.is_sealed());
    pair.unseal(PASSPHRASE).code(3);
    pair.unseal("open sesame").ok();
    assert_eq!(pair.get("db_password", &[]).ok().out(), VALUE);
    assert!(!pair.log_text().contains(PASSPHRASE));
}

#[test]
fn a_passphrase_is_asked_for_at_a_terminal_and_an_identity_is_named() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    let backups = Backups::of(&pair);
    let mut terminal = pair.terminal(&["backup", "store.age", "--passphrase"]);
    terminal.shows("Passphrase of the backup", 1);
    terminal.type_hidden(PASSPHRASE);
    terminal.shows("again", 1);
    terminal.type_hidden(PASSPHRASE);
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(
        screen.contains("read back") && !screen.contains(PASSPHRASE),
        "{screen}"
    );
    let words = ["backup", "verify", "store.age", "--user", &backups.uid];
    let mut terminal = pair.terminal(&words);
    terminal.shows("Passphrase of the backup", 1);
    terminal.type_hidden(PASSPHRASE);
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");

    backups.make("other.age");
    pair.deploy(&["backup", "verify", "other.age"])
        .code(2)
        .says(&["--identity FILE"]);
    // What could be a private half is not shown, wherever it is given.
    let private = key("identity");
    pair.deploy(&["backup", "third.age", "--recipient", &private])
        .code(2)
        .says(&["recipient 1"])
        .hides(&private);
    let log = pair.deploy(&["audit", "query"]).ok();
    log.hides(&private);
    pair.deploy(&["backup", "third.age"]).code(2);
    assert!(backups.beside("third.age").is_empty());
}

#[test]
fn a_file_that_is_there_is_replaced_only_if_asked_and_only_by_a_whole_one() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    let backups = Backups::of(&pair);
    backups.make("store.age");
    let first = fs::read(backups.path("store.age")).unwrap();
    let said = backups.try_make("store.age", &[]).code(6);
    said.says(&["is there already", "--force"]);
    pair.seal();
    backups.try_make("store.age", &["--force"]).code(5);
    assert!(fs::read(backups.path("store.age")).unwrap() == first);
    pair.deploy(&["unseal"]).ok();
    backups.try_make("store.age", &["--force"]).ok();
    assert!(fs::read(backups.path("store.age")).unwrap() != first);
    backups.verify("store.age").ok();
    let nowhere = backups.try_make("nowhere/store.age", &[]).code(1);
    nowhere.says(&["nowhere/store.age"]);
    // A method that would have to give all of it at once.
    let call = json!({"recipients": [key("recipient")]}).to_string();
    let said = pair.deploy(&["call", "backup", &call]).code(2);
    said.says(&["deploy backup FILE"]);
    assert_eq!(backups.beside("store.age").len(), 1);
    assert!(backups.beside(".store").is_empty());
}

#[test]
fn a_file_that_was_cut_or_changed_is_refused_and_nothing_is_touched() {
    let mut pair = Pair::start();
    fill(&pair);
    // Several pieces of an age file, of 64 KiB each.
    pair.set("large", vec![b'x'; 150_000]);
    Backups::of(&pair).make("whole.age");
    pair.down();
    let backups = Backups::of(&pair);
    let whole = fs::read(backups.path("whole.age")).unwrap();
    let before = files(&pair.state());
    let header = whole.windows(4).position(|part| part == b"--- ").unwrap();
    // The header, its MAC, the nonce, a piece and its last byte, between two pieces, the end.
    let payload = header + 4 + 43 + 1 + 16;
    let places = [
        30,
        header + 10,
        payload - 8,
        payload + 100,
        payload + 65_536 + 15,
        whole.len() - 17,
        whole.len() - 1,
    ];
    for (number, place) in places.into_iter().enumerate() {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        for (what, bytes) in [("changed", &changed[..]), ("cut", &whole[..place])] {
            let name = format!("{what}-{number}.age");
            pair.file(&name, bytes);
            let said = backups.verify(&name);
            assert!([1, 3].contains(&said.code), "{said}");
            let said = backups.restore(&name, &["--accept"]);
            assert!([1, 3].contains(&said.code), "{said}");
        }
    }
    for length in [0, payload + 65_536 + 16] {
        pair.file("cut.age", &whole[..length]);
        backups.restore("cut.age", &["--accept"]).code(1);
    }
    pair.file("longer.age", [&whole[..], b"x"].concat());
    backups.restore("longer.age", &["--accept"]).code(1);
    assert!(files(&pair.state()) == before);
    assert!(backups.beside("state.").is_empty());
    backups.restore("whole.age", &[]).ok();
}

#[test]
fn a_moment_is_chosen_out_of_a_folder_and_never_another_one() {
    let mut pair = Pair::start();
    let folder = pair.folder().join("backups");
    fs::create_dir(&folder).unwrap();
    let mut versions = Vec::new();
    for number in 1..=3 {
        pair.set("db_password", number.to_string());
        let made = Backups::of(&pair).make(&format!("backups/{number}.age"));
        versions.push(made["contents"]["version"].as_str().unwrap().to_owned());
    }
    pair.file("backups/notes.txt", "no backup");
    pair.down();
    let backups = Backups::of(&pair);
    let next = format!("{}0", versions[2]);
    backups
        .restore("backups", &["--at", &next])
        .code(4)
        .says(&[&versions[0], &versions[2]]);
    backups
        .restore("backups/1.age", &["--at", &versions[1]])
        .code(4)
        .says(&[&versions[0]]);
    backups
        .restore("backups", &["--at", "2001-01-01T00:00:00Z"])
        .code(4);
    backups.restore("backups", &["--at", "yesterday"]).code(2);
    backups
        .restore("backups", &["--at", &versions[1], "--accept"])
        .ok();
    pair.up();
    assert_eq!(pair.get("db_password", &[]).ok().out(), "2");
    pair.down();
    Backups::of(&pair).restore("backups", &["--accept"]).ok();
    pair.up();
    assert_eq!(pair.get("db_password", &[]).ok().out(), "3");
}

/// A disk of its own below the pair's folder, removed with its other mounts.
fn disk(folder: &Path, options: &str) {
    fs::create_dir(folder).unwrap();
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(folder);
    run(mount, b"").ok();
}

#[test]
fn a_full_disk_leaves_no_backup_and_no_restored_folder() {
    let mut pair = Pair::start();
    for number in 0..4 {
        pair.set(&format!("large-{number}"), vec![b'x'; 1 << 20]);
    }
    let small = pair.folder().join("small");
    disk(&small, "size=2m,mode=755");
    pair.file("small/store.age", "an older one");
    let backups = Backups::of(&pair);
    let said = backups.try_make("small/store.age", &["--force"]).code(1);
    said.says(&["small/store.age", "space"]);
    let names = fs::read_dir(&small).unwrap().count();
    assert_eq!(names, 1);
    assert_eq!(fs::read(small.join("store.age")).unwrap(), b"an older one");
    // What the kernel holds without a name is gone too.
    let room = rustix::fs::statvfs(&small).unwrap();
    let free = room.f_bavail * room.f_frsize;
    assert!(free > 1_900_000, "{free} bytes are free");

    backups.make("store.age");
    pair.down();
    let backups = Backups::of(&pair);
    let state = small.join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("a file"), "of an older store").unwrap();
    let words = ["--state-dir", state.to_str().unwrap(), "--accept"];
    backups
        .restore("store.age", &words)
        .code(1)
        .says(&["space"]);
    assert_eq!(files(&state).len(), 1);
    assert_eq!(fs::read_dir(&small).unwrap().count(), 2);

    // A disk whose root is the state folder cannot change places; that is said, and nothing is lost.
    let mounted = pair.folder().join("mounted");
    disk(&mounted, "size=64m,mode=700");
    fs::write(mounted.join("a file"), "of an older store").unwrap();
    let words = ["--state-dir", mounted.to_str().unwrap(), "--accept"];
    let said = backups.restore("store.age", &words).code(1);
    said.says(&["mounted on"]);
    assert_eq!(files(&mounted).len(), 1);
    assert!(backups.beside("mounted.").is_empty());
}
