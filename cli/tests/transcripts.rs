//! What `deploy` says and sends, told by its transcripts: without a daemon, and with one that the
//! test plays.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod played;

use std::process::{Command, Stdio};

use control::ControlError;
use control::calls::{self, Method};
use serde_json::{Value, json};

use played::Played;

fn secret(name: &str) -> Value {
    json!({"name": name, "shape": "single", "version": 2, "created": 1_764_028_799,
        "fields": [], "keep": 10, "versions": 2})
}

#[test]
fn without_a_daemon_every_verb_names_what_starts_it() {
    let nobody = Played::absent();
    for words in [
        &["status"][..],
        &["seal"],
        &["unseal"],
        &["secret", "list"],
        &["secret", "get", "a"],
        &["secret", "set", "a"],
        &["secret", "rotate", "a", "--generate"],
        &["secret", "grant", "web", "a"],
        &["secret", "show", "a"],
        &["config", "list"],
        &["config", "set", "a", "b=c"],
        &["key", "rotate"],
        &["key", "slot", "list"],
        &["call", "status"],
    ] {
        let said = nobody
            .deploy(words)
            .ends(1, &["control.sock", "deploy-inject up"]);
        assert_eq!(said.out, "");
    }
}

#[test]
fn an_unknown_name_is_told_with_the_nearest_that_there_is() {
    let played = Played::new(|call| match call.method.as_str() {
        calls::List::NAME => Ok(json!({"secrets": [secret("db_password"), secret("api_key")]})),
        calls::ConfigList::NAME => Ok(json!({"configs": []})),
        _ => Err(ControlError::not_found("there is no such name")),
    });
    for words in [
        &["secret", "get", "db_pasword"][..],
        &["secret", "rotate", "db_pasword", "--generate"],
        &["secret", "history", "db_pasword"],
        &["secret", "rollback", "db_pasword", "1"],
        &["secret", "readers", "db_pasword"],
        &["secret", "show", "db_pasword"],
        &["secret", "delete", "db_pasword", "--yes"],
        &["secret", "grant", "web", "api_key", "db_pasword"],
    ] {
        played
            .deploy(words)
            .ends(4, &["did you mean `db_password`?"]);
    }
    played
        .deploy(&["config", "get", "x"])
        .ends(4, &["deploy config list"]);
}

#[test]
fn each_refusal_has_its_exit_code_and_what_mends_it() {
    let refusals = [
        (ControlError::failed("no room"), 1),
        (ControlError::invalid("no"), 2),
        (ControlError::denied("no", "be root"), 3),
        (ControlError::sealed(), 5),
        (ControlError::conflict("there"), 6),
    ];
    for (refusal, code) in refusals {
        let sent = refusal.clone();
        let played = Played::new(move |_| Err(sent.clone()));
        let said = played
            .deploy(&["secret", "list"])
            .ends(code, &[&refusal.message]);
        if let Some(hint) = &refusal.hint {
            assert!(said.err.contains(hint), "{said:?}");
        }
        let said = played.deploy(&["secret", "list", "--json"]).ends(code, &[]);
        let error: Value = serde_json::from_str(&said.err).unwrap();
        assert_eq!(error["message"], refusal.message);
    }
}

#[test]
fn a_revoke_of_what_was_not_granted_is_no_success() {
    let played = Played::new(|call| match call.method.as_str() {
        calls::Revoke::NAME => Ok(json!({"revoked": ["a"], "not_granted": ["db_pasword"]})),
        calls::Grants::NAME => Ok(json!({"grants": [{"service": "web", "secret": "db_password"}]})),
        _ => Err(ControlError::failed("another call")),
    });
    let said = played.deploy(&["secret", "revoke", "web", "a", "db_pasword"]);
    let said = said.ends(
        4,
        &[
            "web was not granted db_pasword",
            "did you mean `db_password`?",
        ],
    );
    assert_eq!(said.out, "web can read a no more\n");
}

#[test]
fn lists_are_tables_for_people_and_json_for_programs() {
    let played = Played::new(|_| Ok(json!({"secrets": [secret("a"), secret("longer")]})));
    let said = played.deploy(&["secret", "list"]).ends(0, &[]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("NAME    VERSION  CREATED"), "{said:?}");
    assert!(
        lines[1].starts_with("a       2        2025-11-24T23:59:59Z"),
        "{said:?}"
    );
    let said = played.deploy(&["secret", "list", "--json"]).ends(0, &[]);
    assert_eq!(said.out.lines().count(), 1);
    let listed: calls::Listed = serde_json::from_str(&said.out).unwrap();
    assert_eq!(listed.secrets.len(), 2);
}

#[test]
fn quiet_leaves_out_confirmations_and_nothing_else() {
    let played = Played::new(|_| Ok(json!({"name": "a", "version": 1, "created": 7})));
    let rollback = ["secret", "rollback", "a", "1"];
    let said = played.deploy(&rollback).ends(0, &[]);
    assert_eq!(said.out, "a: version 1\n");
    let said = played
        .deploy(&[&rollback[..], &["--quiet"]].concat())
        .ends(0, &[]);
    assert_eq!(said.out, "");
    let said = played
        .deploy(&[&["-q", "--json"], &rollback[..]].concat())
        .ends(0, &[]);
    assert!(said.out.contains("\"version\":1"));
    Played::absent()
        .deploy(&["-q", "status"])
        .ends(1, &["deploy-inject up"]);
}

#[test]
fn calls_take_short_names_long_names_and_standard_input() {
    let played = Played::new(|call| {
        let list: calls::List = call.parameters()?;
        assert_eq!(call.method, "io.deploy.Secrets.List");
        Ok(json!({"secrets": [], "was": list.prefix.unwrap_or_default()}))
    });
    let parameters = r#"{"prefix":"db."}"#;
    for words in [
        &["call", "secret.list", parameters][..],
        &["call", "io.deploy.Secrets.List", parameters],
        &["call", "secret.list", "-"],
    ] {
        let said = played
            .deploy_with(words, parameters.as_bytes())
            .ends(0, &[]);
        assert_eq!(said.out, "{\"secrets\":[],\"was\":\"db.\"}\n");
    }
    played
        .deploy(&["call", "secret.list", "{"])
        .ends(2, &["JSON"]);
    played
        .deploy(&["call", "secret.lst"])
        .ends(2, &["did you mean `secret.list`?"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_panic() {
    let many: Vec<Value> = (0..5000).map(|n| secret(&format!("secret-{n}"))).collect();
    let played = Played::new(move |_| Ok(json!({"secrets": many})));
    let mut child = Command::new(env!("CARGO_BIN_EXE_deploy"))
        .args(["secret", "list"])
        .env("DEPLOY_RUN_DIR", played.run_dir())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_key_file_unseals_without_a_question_and_a_passphrase_comes_from_standard_input() {
    let slot = |kind: &str| json!({"id": 0, "kind": kind, "label": "", "recipient": "age1"});
    let status = move |kind: &str| {
        json!({"version": "1", "state": "sealed", "store": "x", "cipher": "aes256-gcm",
            "secrets": 0, "configs": 0, "services": 0, "instances": 0, "inodes": 0,
            "retained_versions": 0, "slots": [slot(kind)], "injector": true, "warnings": []})
    };
    for (kind, passphrase) in [("file", None), ("passphrase", Some("pass word"))] {
        let played = Played::new(move |call| match call.method.as_str() {
            calls::Status::NAME => Ok(status(kind)),
            _ => {
                let unseal: calls::Unseal = call.parameters()?;
                let got = unseal.passphrase.as_ref().map(control::SecretText::expose);
                assert_eq!(got, passphrase);
                Ok(json!({"generation": 4, "warnings": []}))
            }
        });
        let words = ["unseal", "--passphrase-file", "-"];
        let words = if passphrase.is_some() {
            &words[..]
        } else {
            &words[..1]
        };
        let said = played.deploy_with(words, b"pass word\n").ends(0, &[]);
        assert_eq!(said.out, "unsealed, key generation 4\n");
        played.deploy(&["status"]).ends(0, &[]);
    }
}

#[test]
fn a_config_is_printed_as_lines_and_a_key_of_it_as_it_is() {
    let played = Played::new(|_| {
        Ok(
            json!({"name": "app", "immutable": false, "version": 1, "changed": 7,
            "data": {"level": "debug", "motd": "a\nb"}}),
        )
    });
    let said = played.deploy(&["config", "get", "app"]).ends(0, &[]);
    assert_eq!(said.out, "level=debug\nmotd=\"a\\nb\"\n");
    let said = played
        .deploy(&["config", "get", "app", "motd"])
        .ends(0, &[]);
    assert_eq!(said.out, "a\nb");
    played
        .deploy(&["config", "get", "app", "lvel"])
        .ends(4, &["did you mean `level`?"]);
}

#[test]
fn a_manifest_that_is_none_is_told_with_its_place() {
    let nobody = Played::absent();
    let file = nobody.file("web.yaml", "service: web\nsecrts: [a]\n");
    for verb in ["run", "reload"] {
        let said = nobody.deploy(&[verb, file.to_str().unwrap()]);
        said.ends(2, &["web.yaml:2:1", "did you mean `secrets`?"]);
        nobody
            .deploy(&[verb, "/nowhere.yaml"])
            .ends(1, &["/nowhere.yaml"]);
        let folder = nobody.run_dir().to_str().unwrap();
        nobody.deploy(&[verb, folder]).ends(1, &[folder]);
    }
}

#[test]
fn completions_and_man_pages_come_without_a_daemon() {
    let nobody = Played::absent();
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            nobody
                .deploy(&["completion", shell])
                .ends(0, &[])
                .out
                .contains("rollback")
        );
    }
    assert!(nobody.deploy(&["man"]).ends(0, &[]).out.starts_with(".ie"));
    let dir = nobody.run_dir().join("man");
    std::fs::create_dir(&dir).unwrap();
    nobody
        .deploy(&["man", "--dir", dir.to_str().unwrap()])
        .ends(0, &[]);
    assert!(dir.join("deploy-secret-set.1").exists());
}
