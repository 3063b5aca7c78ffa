//! Key slots: what unlocks the root key, and what does so no more.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};
use tests::{Pair, wait};

const VALUE: &str = "a-value-nobody-may-see";

/// The `keys` file of the generation in use.
fn keys_file(pair: &Pair) -> String {
    let current = std::fs::read_to_string(pair.state().join("CURRENT")).unwrap();
    std::fs::read_to_string(pair.state().join(current.trim()).join("keys")).unwrap()
}

#[test]
fn the_first_slot_is_a_file_that_only_secretsd_reads() {
    let pair = Pair::start();
    let listed = pair.slots();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["id"], &listed[0]["kind"]),
        (&json!(1), &json!("file"))
    );
    // docs/format.md: a relative path starts at the store's folder.
    let file = pair.state().join(listed[0]["path"].as_str().unwrap());
    let meta = file.metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o600, pair.uid()));
    // No command prints the private half, and no other file holds it.
    let text = std::fs::read_to_string(&file).unwrap();
    let private = text.lines().find(|line| !line.starts_with('#')).unwrap();
    assert!(private.starts_with("AGE-SECRET-KEY-1"));
    for words in [
        &["status", "--json"][..],
        &["key", "slot", "list", "--json"],
        &["key", "slot", "list"],
    ] {
        pair.deploy(words).ok().hides(private);
    }
    assert!(!keys_file(&pair).contains(private) && !pair.log_text().contains(private));
    pair.seal();
    assert!(pair.is_sealed());
    pair.deploy(&["unseal"]).ok();
    assert!(!pair.is_sealed());
    pair.leaves_nothing();
}

#[test]
fn the_key_file_can_lie_elsewhere_and_without_it_the_store_stays_sealed() {
    let mut pair = Pair::prepare();
    let folder = pair.folder().join("stick");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(pair.uid()), Some(pair.uid())).unwrap();
    let file = folder.join("deploy.key");
    pair.init(&[
        "--key-file",
        file.to_str().unwrap(),
        "--cipher",
        "chacha20-poly1305",
    ])
    .ok();
    assert!(file.exists() && !pair.state().join("file-slot.key").exists());
    pair.up();
    assert!(!pair.is_sealed());
    pair.set("db_password", VALUE);
    let record = std::fs::read(pair.run_folder().join("secrets/store/db_password")).unwrap();
    assert_eq!(record[2], 2, "the cipher that was chosen");
    pair.seal();
    let away = folder.join("away");
    std::fs::rename(&file, &away).unwrap();
    let said = pair.deploy(&["unseal"]);
    assert_ne!(said.code, 0, "{said}");
    said.says(&["deploy.key"]);
    std::fs::rename(&away, &file).unwrap();
    pair.deploy(&["unseal"]).ok();
    assert_eq!(
        pair.deploy(&["secret", "get", "db_password"]).ok().out(),
        VALUE
    );
}

#[test]
fn slots_are_added_listed_and_removed() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.add_passphrase("open sesame", &["--label", "the office"])
        .ok();
    let file = pair.state().join("second.key");
    let words = ["key", "slot", "add", "--key-file", file.to_str().unwrap()];
    pair.deploy(&words).ok();
    pair.deploy(&words).code(6).says(&["second.key"]);
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);

    let listed = pair.slots();
    let kinds: Vec<&Value> = listed.iter().map(|slot| &slot["kind"]).collect();
    assert_eq!(kinds, ["file", "passphrase", "file"]);
    assert_eq!(listed[1]["label"], json!("the office"));
    assert_eq!(
        listed[1]["argon2"],
        json!({"memory_kib": 65536, "passes": 3, "lanes": 4})
    );
    let table = pair.deploy(&["key", "slot", "list"]).ok().out();
    assert!(
        table.contains("the office") && table.contains("second.key"),
        "{table}"
    );

    // Each of them opens the store alone.
    pair.seal();
    pair.unseal("open sesame").ok();
    pair.deploy(&["key", "slot", "remove", "1"]).ok();
    assert_eq!(pair.slots().len(), 2);
    pair.deploy(&["key", "slot", "remove", "1"]).code(4);
    pair.seal();
    pair.deploy(&["unseal"]).ok();
    pair.deploy(&["key", "slot", "remove", "3"]).ok();
    pair.deploy(&["key", "slot", "remove", "2"])
        .code(6)
        .says(&["last"]);
    assert_eq!(pair.slots().len(), 1);
    pair.seal();
    pair.unseal("open sesame").ok();
    assert_eq!(
        pair.deploy(&["secret", "get", "db_password"]).ok().out(),
        VALUE
    );

    // A number is given once.
    pair.add_passphrase("another", &[]).ok();
    assert_eq!(pair.slots()[1]["id"], json!(4));
    pair.leaves_nothing();
}

#[test]
fn a_removed_slot_opens_no_later_generation() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.add_passphrase("leaves", &[]).ok();
    pair.add_passphrase("stays", &[]).ok();
    let before = pair.slots();
    let recipient = |slot: &Value| slot["recipient"].as_str().unwrap().to_owned();
    assert_eq!(pair.status()["generation"], json!(1));
    // First the passphrase, then the file, whose private half is on the disk still.
    for (id, generation) in [("2", 2), ("1", 3)] {
        pair.deploy(&["key", "slot", "remove", id]).ok();
        assert_eq!(
            pair.status()["generation"],
            json!(generation),
            "a new root key"
        );
    }
    assert!(pair.state().join("file-slot.key").exists());
    let text = keys_file(&pair);
    assert!(!text.contains(&recipient(&before[0])) && !text.contains(&recipient(&before[1])));
    assert!(text.contains(&recipient(&before[2])));
    let generations = || {
        let entries = std::fs::read_dir(pair.state()).unwrap();
        entries
            .filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with("gen-")
            })
            .count()
    };
    wait::until("older generations to go", || {
        (generations() == 1).then_some(())
    });

    pair.seal();
    pair.unseal("leaves").code(3);
    let by_file = pair.deploy(&["call", "unseal", "{}"]);
    assert_ne!(by_file.code, 0, "{by_file}");
    assert!(pair.is_sealed());
    pair.unseal("stays").ok();
    assert_eq!(
        pair.deploy(&["secret", "get", "db_password"]).ok().out(),
        VALUE
    );
    pair.deploy(&["key", "rotate"]).ok();
    pair.seal();
    pair.unseal("leaves").code(3);
    pair.unseal("stays").ok();
}

#[test]
fn weak_and_boundless_argon2_parameters_are_refused() {
    let pair = Pair::start();
    for (memory, passes) in [
        ("18", "3"),
        ("64", "1"),
        ("0", "0"),
        ("2048", "3"),
        ("64", "17"),
    ] {
        let more = ["--argon2-memory", memory, "--argon2-passes", passes];
        let said = pair.add_passphrase("anything", &more).code(2);
        said.says(&["19456", "1048576"]);
    }
    let call = r#"{"kind":"passphrase","passphrase":"x","argon2":{"memory_kib":65536,"passes":3,"lanes":0}}"#;
    pair.deploy(&["call", "key.slot-add", call]).code(2);
    let words = ["key", "slot", "add", "--passphrase-file", "-"];
    pair.deploy_with(&words, b"\n").code(1).says(&["empty"]);
    let long = "x".repeat(65);
    pair.add_passphrase("anything", &["--label", &long]).code(2);
    assert_eq!(pair.slots().len(), 1, "one of them was added");
    let least = ["--argon2-memory", "19", "--argon2-passes", "2"];
    pair.add_passphrase("anything", &least).ok();
    pair.seal();
    pair.unseal("anything").ok();
}

#[test]
fn a_rotation_shows_at_a_terminal_how_far_it_is_and_nothing_in_a_pipe() {
    let pair = Pair::start();
    for number in 0..40 {
        pair.set(&format!("key-{number}"), vec![b'x'; 1 << 20]);
    }
    let (code, screen) = pair.terminal(&["key", "rotate"]).end();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("sealing records anew"), "{screen}");
    assert!(screen.contains("under key generation 2"), "{screen}");
    let said = pair.deploy(&["key", "rotate"]).ok();
    assert_eq!(said.err(), "");
    assert_eq!(said.out().lines().count(), 1, "{said}");
}

#[test]
fn a_prompt_asks_for_a_new_passphrase_twice() {
    let pair = Pair::start();
    let mut terminal = pair.terminal(&["key", "slot", "add", "--passphrase"]);
    terminal.shows("passphrase", 1);
    terminal.type_hidden("typed");
    terminal.shows("again", 1);
    terminal.type_hidden("mistyped");
    let (code, screen) = terminal.end();
    assert_ne!(code, 0, "{screen}");
    assert_eq!(pair.slots().len(), 1);

    let mut terminal = pair.terminal(&["key", "slot", "add", "--passphrase"]);
    terminal.shows("passphrase", 1);
    terminal.type_hidden("typed");
    terminal.shows("again", 1);
    terminal.type_hidden("typed");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("typed"), "echoed: {screen}");
    pair.deploy(&["key", "slot", "remove", "1"]).ok();
    pair.seal();
    pair.unseal("typed").ok();
}
