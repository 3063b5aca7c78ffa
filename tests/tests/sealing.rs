//! Sealed and unsealed: by a prompt, after a crash, under services that run, and by nobody else.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use serde_json::json;
use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::{Answer, Pair};

const VALUE: &str = "a-value-nobody-may-see";

#[test]
fn a_store_with_a_passphrase_is_sealed_at_its_start_and_unsealed_at_a_prompt() {
    let pair = Pair::start_sealed("right passphrase");
    let told = pair.status();
    assert_eq!(told["state"], json!("sealed"));
    assert_eq!(
        told["slots"][0]["kind"],
        json!("passphrase"),
        "also while sealed"
    );
    assert_eq!(told.get("generation"), None);
    let text = pair.deploy(&["status"]).ok().out();
    assert!(
        text.contains("sealed") && text.contains("deploy unseal"),
        "{text}"
    );
    pair.deploy(&["secret", "list"])
        .code(5)
        .says(&["deploy unseal"]);

    let mut terminal = pair.terminal(&["unseal"]);
    terminal.type_hidden("right passphrase");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("right passphrase"), "echoed: {screen}");
    let told = pair.status();
    assert_eq!(
        (&told["state"], &told["generation"]),
        (&json!("unsealed"), &json!(1))
    );
    let text = pair.deploy(&["status"]).ok().out();
    assert!(text.contains("unsealed, key generation 1"), "{text}");
    pair.set("db_password", VALUE);

    // A rotation asks nobody for anything.
    pair.deploy(&["key", "rotate"]).ok();
    pair.seal();
    pair.unseal("right passphrase").ok();
    assert_eq!(pair.status()["generation"], json!(2));
    assert_eq!(
        pair.deploy(&["secret", "get", "db_password"]).ok().out(),
        VALUE
    );
    pair.leaves_nothing();
}

#[test]
fn after_a_crash_an_unsealed_store_is_unsealed_again_until_seal_ends_that() {
    let pair = Pair::start_sealed("right");
    pair.unseal("right").ok();
    let user = ClaimedUser::claim();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    let asked = Asked::service("web")
        .user(user.uid())
        .secrets(&["db_password"]);
    let mut web = pair.probe(&asked);
    for _ in 0..2 {
        pair.kill_secretsd();
        assert!(!pair.is_sealed());
        assert_eq!(web.read("/secret/db_password").text(), VALUE);
    }
    // The keyring follows the root key into its next generation.
    pair.deploy(&["key", "rotate"]).ok();
    pair.kill_secretsd();
    assert!(!pair.is_sealed());
    assert_eq!(pair.status()["generation"], json!(2));
    assert_eq!(web.read("/secret/db_password").text(), VALUE);

    pair.seal();
    pair.kill_secretsd();
    assert!(pair.is_sealed());
    assert_eq!(web.read("/secret/db_password"), Answer::Errno(libc::ENOKEY));
    pair.unseal("right").ok();
    assert_eq!(web.read("/secret/db_password").text(), VALUE);
    web.end().ok();
    pair.leaves_nothing();
}

#[test]
fn a_store_that_was_sealed_while_a_service_ran_shows_it_all_again_after_unseal() {
    let pair = Pair::start_sealed("right");
    pair.unseal("right").ok();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    pair.deploy(&["config", "create", "app", "stored=1"]).ok();
    let asked = Asked::service("web")
        .secrets(&["db_password"])
        .with("config_from", json!(["app"]))
        .config(&[("own", "2")]);
    let mut web = pair.probe(&asked);
    let paths = ["/secret/db_password", "/config/stored", "/config/own"];
    let held = paths.map(|path| web.open(path).descriptor());
    for descriptor in held {
        web.pread(descriptor).text();
    }
    pair.seal();
    for path in paths {
        assert_eq!(web.read(path), Answer::Errno(libc::ENOKEY), "{path}");
    }
    for (descriptor, path) in held.into_iter().zip(paths) {
        let answer = web.pread(descriptor);
        assert_eq!(answer, Answer::Errno(libc::ENOKEY), "{path}, open before");
    }
    pair.run_to_end(&asked.clone().command(&["/bin/true"]))
        .code(5);
    pair.unseal("right").ok();
    assert_eq!(paths.map(|path| web.read(path).text()), [VALUE, "1", "2"]);
}

#[test]
fn a_wrong_passphrase_is_told_and_takes_as_long_as_a_right_one() {
    // Parameters that make the stretching longer than all the rest.
    let pair = Pair::start_sealed("first");
    pair.unseal("first").ok();
    pair.add_passphrase("slow", &["--argon2-memory", "256", "--argon2-passes", "4"])
        .ok();
    pair.deploy(&["key", "slot", "remove", "1"]).ok();
    pair.seal();
    let timed = |passphrase: &str, code: i32| -> Duration {
        let start = Instant::now();
        let said = pair.unseal(passphrase).code(code);
        let took = start.elapsed();
        if code == 0 {
            pair.seal();
        } else {
            said.says(&["wrong"]);
        }
        took
    };
    // In turn, so that a busy moment is one of both.
    let (mut right, mut wrong) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        right = right.min(timed("slow", 0));
        wrong = wrong.min(timed("slower", 3));
    }
    assert!(wrong * 2 > right, "wrong {wrong:?}, right {right:?}");
    assert!(pair.is_sealed());
    let words = ["unseal", "--passphrase-file", "-"];
    pair.deploy_with(&words, b"\n").code(1).says(&["empty"]);
    assert!(pair.is_sealed());
}

#[test]
fn a_seal_and_a_restart_leave_no_key_with_the_kernel() {
    let mut pair = Pair::start_sealed("right");
    pair.unseal("right").ok();
    pair.set("db_password", VALUE);
    pair.seal();
    assert_eq!(pair.down(), 0);
    pair.up();
    assert!(pair.is_sealed());
    pair.unseal("right").ok();
    assert_eq!(
        pair.deploy(&["secret", "get", "db_password"]).ok().out(),
        VALUE
    );
    // Whoever sees the disk and our words sees neither passphrase nor value.
    for text in ["right", VALUE] {
        let mut grep = std::process::Command::new("grep");
        grep.args(["-rlaw", text]).arg(pair.state());
        assert_eq!(run(grep, b"").out(), "");
    }
    assert!(!pair.log_text().contains(VALUE));
}
