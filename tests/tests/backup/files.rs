//! The file of a backup: who opens it, when it is there, and when it is refused.

use std::process::Command;

use tests::command::run;

use super::*;

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
