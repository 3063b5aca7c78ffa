//! Backups of a running store, and what restoring one brings back.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod files;
mod restoring;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::Pair;
use tests::command::Finished;

const VALUE: &str = "a-value-nobody-may-see";
const PASSPHRASE: &str = "a-passphrase-nobody-may-see";

/// Of the vectors of docs/format.md: a key pair of age.
fn key(what: &str) -> String {
    let text = include_str!("../../../core/store/tests/vectors/backup.json");
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
        let mut told = pair.call("secret.grants", &json!({"service": service}).to_string());
        // Less with each second.
        for grant in told["grants"].as_array_mut().unwrap() {
            grant.as_object_mut().unwrap().remove("left");
        }
        all.push(told);
    }
    let status = pair.status();
    all.push(json!([
        status["store"],
        status["generation"],
        status["cipher"]
    ]));
    all
}
