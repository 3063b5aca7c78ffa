//! Secrets with fields: folders of files, whose versions are never mixed.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::json;
use tests::claim::ClaimedUser;
use tests::manifest::Asked;
use tests::{Answer, Pair, Probe};

fn web(pair: &Pair, secrets: &[&str]) -> Probe {
    let user = ClaimedUser::claim();
    pair.grant("web", secrets);
    pair.probe(&Asked::service("web").user(user.uid()).secrets(secrets))
}

#[test]
fn fields_are_files_of_a_folder() {
    let pair = Pair::start();
    pair.set_fields(
        "tls",
        r#"{"cert.pem":"the cert","key.pem":"the key","empty":""}"#,
        &[],
    )
    .ok();
    let mut web = web(&pair, &["tls"]);
    assert_eq!(web.list("/secret").names(), ["tls"]);
    assert_eq!(
        web.list("/secret/tls").names(),
        ["cert.pem", "empty", "key.pem"]
    );
    assert_eq!(web.read("/secret/tls/key.pem").text(), "the key");
    assert_eq!(web.read("/secret/tls/empty").text(), "");
    assert_eq!(web.read("/secret/tls"), Answer::Errno(libc::EISDIR));
    assert_eq!(web.read("/secret/tls/none"), Answer::Errno(libc::ENOENT));

    assert_eq!(
        pair.get("tls", &["--field", "cert.pem"]).ok().out(),
        "the cert"
    );
    pair.get("tls", &["--field", "none"]).code(4);
    let said = pair.get("tls", &[]).code(2).says(&["cert.pem", "--field"]);
    assert_eq!(said.hides("the cert").out(), "");
    let all = pair.get("tls", &["--json"]).ok().json();
    assert_eq!(
        all["data"],
        json!({"cert.pem": "the cert", "key.pem": "the key", "empty": ""})
    );

    // A version is its fields: what is left out is gone, and what is new is there. (A process that
    // has read the certificate before gets the key of the same version: so another one looks.)
    let held = web.open("/secret/tls/key.pem").descriptor();
    let mut other = pair.probe(&Asked::service("web").secrets(&["tls"]));
    assert_eq!(
        other.list("/secret/tls").names(),
        ["cert.pem", "empty", "key.pem"]
    );
    let file = pair.file("tls.env", "cert.pem='next cert'\nchain=\"a\\nb\"\n");
    let words = [
        "secret",
        "rotate",
        "tls",
        "--from-env",
        file.to_str().unwrap(),
    ];
    pair.deploy(&words).ok();
    for probe in [&mut web, &mut other] {
        assert_eq!(probe.list("/secret/tls").names(), ["cert.pem", "chain"]);
        assert_eq!(probe.read("/secret/tls/chain").text(), "a\nb");
    }
    assert_eq!(other.read("/secret/tls/cert.pem").text(), "next cert");
    assert_eq!(
        other.read("/secret/tls/key.pem"),
        Answer::Errno(libc::ENOENT)
    );
    assert_eq!(
        web.pread(held).text(),
        "the key",
        "what is open stays whole"
    );
    pair.revoke("web", "tls");
    web.pread(held).is_revoked();
    assert_eq!(web.list("/secret").names(), Vec::<String>::new());
    assert_eq!(web.read("/secret/tls/chain"), Answer::Errno(libc::ENOENT));
}

#[test]
fn one_process_gets_the_fields_of_one_version_while_it_changes() {
    let pair = Pair::start();
    let fields = |number: u32| format!(r#"{{"cert":"cert {number}","key":"key {number}"}}"#);
    pair.set_fields("tls", &fields(0), &[]).ok();
    let mut web = web(&pair, &["tls"]);
    for number in 1..=20 {
        let cert = web.read("/secret/tls/cert").text();
        pair.set_fields("tls", &fields(number), &[]).ok();
        let key = web.read("/secret/tls/key").text();
        assert_eq!(
            cert.strip_prefix("cert "),
            key.strip_prefix("key "),
            "{cert}, {key}"
        );
        assert_eq!(
            web.read("/secret/tls/cert").text(),
            format!("cert {number}")
        );
        assert_eq!(web.read("/secret/tls/key").text(), format!("key {number}"));
    }
}

#[test]
fn one_value_and_fields_change_into_each_other_only_by_reshape() {
    let pair = Pair::start();
    pair.set_with("db", b"single", &[]).ok();
    let mut web = web(&pair, &["db"]);
    assert_eq!(web.read("/secret/db").text(), "single");
    let fields = r#"{"username":"admin","password":"pw"}"#;
    pair.set_fields("db", fields, &[])
        .code(6)
        .says(&["--reshape"]);
    let words = ["secret", "rotate", "db", "--from-json", "-"];
    pair.deploy_with(&words, fields.as_bytes())
        .code(6)
        .says(&["--reshape"]);
    assert_eq!(web.read("/secret/db").text(), "single");
    assert_eq!(pair.versions("db"), [1]);

    pair.set_fields("db", fields, &["--reshape"]).ok();
    assert_eq!(web.list("/secret/db").names(), ["password", "username"]);
    assert_eq!(web.read("/secret/db/username").text(), "admin");
    pair.set_with("db", b"single", &[])
        .code(6)
        .says(&["--reshape"]);
    pair.deploy(&["secret", "rollback", "db", "1"])
        .code(6)
        .says(&["--reshape"]);
    pair.set_with("db", b"single again", &["--reshape"]).ok();
    assert_eq!(web.read("/secret/db").text(), "single again");
    assert_eq!(
        web.read("/secret/db/username"),
        Answer::Errno(libc::ENOTDIR)
    );
    pair.set_fields("db", "{}", &["--reshape"]).code(1);
    assert_eq!(pair.versions("db"), [1, 2, 3]);
}
