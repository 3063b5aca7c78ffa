//! What a restore brings back, and what it asks before.

use std::os::unix::fs::MetadataExt as _;

use tests::manifest::Asked;

use super::*;

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
    assert_eq!(backups.beside("state."), std::slice::from_ref(&aside));
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
