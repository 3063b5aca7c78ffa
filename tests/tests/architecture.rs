//! The dependency table of DESIGN.md, and where `unsafe` may be.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::command::run;
use tests::programs::workspace;

/// Who may use whom, of our own crates. `records` is the lower half of DESIGN.md's store.
const TABLE: [(&str, &[&str]); 12] = [
    ("model", &[]),
    ("sys", &[]),
    ("records", &["sys"]),
    ("store", &["model", "sys", "records"]),
    ("audit", &["model", "sys"]),
    ("control", &["model", "sys"]),
    ("fuse-fs", &["model", "store", "sys"]),
    (
        "daemon",
        &[
            "model", "sys", "records", "store", "audit", "control", "fuse-fs",
        ],
    ),
    ("injector", &["model", "control", "sys"]),
    ("cli", &["model", "control", "injector"]),
    (
        "tests",
        &[
            "model", "sys", "records", "store", "audit", "control", "fuse-fs", "injector",
        ],
    ),
    // What each parser must keep, for the tests and for cargo-fuzz; nobody else links it.
    (
        "parsers",
        &["model", "records", "store", "audit", "control", "fuse-fs"],
    ),
];

/// Crates that can encrypt, derive a key, or hold records.
const KEYS_AND_STORES: [&str; 12] = [
    "store",
    "records",
    "sled",
    "redb",
    "aes-gcm",
    "aes",
    "chacha20poly1305",
    "chacha20",
    "argon2",
    "hkdf",
    "age",
    "age-core",
];

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(arguments).current_dir(workspace());
    run(command, b"").ok().out()
}

/// Each member's dependencies as its Cargo.toml names them, without those for tests.
fn members() -> BTreeMap<String, BTreeSet<String>> {
    let text = cargo(&[
        "metadata",
        "--no-deps",
        "--offline",
        "--locked",
        "--format-version=1",
    ]);
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().unwrap() {
        let uses = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["kind"].as_str() != Some("dev"))
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect();
        found.insert(package["name"].as_str().unwrap().to_owned(), uses);
    }
    found
}

/// All crates that end up in a package's programs.
fn linked_into(package: &str) -> BTreeSet<String> {
    let text = cargo(&[
        "tree",
        "--package",
        package,
        "--edges=normal",
        "--prefix=none",
        "--format={lib}|{p}",
        "--offline",
        "--locked",
    ]);
    text.lines()
        .filter_map(|line| line.split_once('|')?.1.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_crate_uses_only_those_that_the_table_allows() {
    let members = members();
    let known: BTreeSet<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    let there: BTreeSet<&str> = members.keys().map(String::as_str).collect();
    assert_eq!(there, known, "a member without a row in the table");
    for (name, allowed) in TABLE {
        let ours: BTreeSet<&str> = members[name]
            .iter()
            .map(String::as_str)
            .filter(|used| known.contains(used))
            .collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert!(
            ours.is_subset(&allowed),
            "{name} uses {:?}",
            ours.difference(&allowed).collect::<Vec<_>>()
        );
    }
}

#[test]
fn deploy_and_deploy_inject_link_neither_the_store_nor_a_cipher() {
    for package in ["cli", "injector"] {
        let linked = linked_into(package);
        assert!(linked.contains("control"), "{package}: {linked:?}");
        let forbidden: Vec<_> = KEYS_AND_STORES
            .iter()
            .filter(|name| linked.contains(**name))
            .collect();
        assert!(forbidden.is_empty(), "{package} links {forbidden:?}");
        assert!(!linked.contains("audit"), "{package} links the audit log");
    }
}

#[test]
fn only_fuse_fs_and_the_tests_name_fuser() {
    let naming: Vec<String> = members()
        .into_iter()
        .filter(|(_, uses)| uses.contains("fuser"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(naming, ["fuse-fs", "tests"]);
}

#[test]
fn only_store_and_records_know_sled_and_ciphers() {
    for (name, uses) in members() {
        let known: Vec<_> = uses
            .iter()
            .filter(|used| KEYS_AND_STORES[2..].contains(&used.as_str()))
            .collect();
        let expected = match name.as_str() {
            "store" | "records" => true,
            // The bench's yardsticks.
            "tests" => known == ["redb", "sled"],
            // Encrypts any text to a backup's recipient, as anybody can.
            "parsers" => known == ["age"],
            _ => known.is_empty(),
        };
        assert!(expected, "{name} names {known:?}");
    }
}

/// All Rust sources of our crates.
fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![workspace()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn unsafe_is_in_core_sys_alone() {
    let sys = workspace().join("core/sys");
    for file in sources() {
        if file.starts_with(&sys) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            // Comments and texts may name it; every other part is outside of quotes.
            let code = line.split("//").next().unwrap_or("");
            let mut words = code
                .split('"')
                .step_by(2)
                .flat_map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_'));
            assert!(
                words.all(|word| word != "unsafe"),
                "{}:{}: {line}",
                file.display(),
                number + 1
            );
        }
    }
}

#[test]
fn every_other_crate_forbids_unsafe_at_its_head() {
    let sys = workspace().join("core/sys");
    for file in sources() {
        let is_head = ["src/lib.rs", "src/main.rs"]
            .iter()
            .any(|head| file.ends_with(head))
            || file.parent().is_some_and(|folder| {
                folder.ends_with("src/bin") || folder == Path::new(&workspace()).join("tests/tests")
            });
        if !is_head || file.starts_with(&sys) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.contains("#![forbid(unsafe_code)]"),
            "{} lacks the attribute at its head",
            file.display()
        );
    }
}
