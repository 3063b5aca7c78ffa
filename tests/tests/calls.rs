//! `deploy call`, with the short names and the parameters of the design.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use serde_json::{Value, json};
use tests::manifest::Asked;
use tests::{Finished, Pair};

const VALUE: &str = "a-value-nobody-may-see";

fn try_call(pair: &Pair, method: &str, parameters: &str) -> Finished {
    pair.deploy(&["call", method, parameters])
}

/// A pair with the secret of the issue, made by its call.
fn pair() -> Pair {
    let pair = Pair::start();
    let made = pair.call("secret.create",
        r#"{"name":"db.password","data":{"username":"admin","password":"s3cret"},"allowed_workloads":["api-server"]}"#,
    );
    assert_eq!(
        (&made["name"], &made["version"]),
        (&json!("db.password"), &json!(1))
    );
    pair
}

#[test]
fn the_calls_of_secrets_work_as_they_were_designed() {
    let pair = pair();
    let got = pair.call("secret.get", r#"{"name":"db.password"}"#);
    assert_eq!(
        got["data"],
        json!({"username": "admin", "password": "s3cret"})
    );
    assert_eq!(got["version"], json!(1));

    let listed = pair.call("secret.list", r#"{"prefix":"db."}"#);
    let listed = listed["secrets"].as_array().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["name"], json!("db.password"));
    assert_eq!(listed[0]["version"], json!(1));
    assert!(listed[0]["created"].as_u64().unwrap() > 1_700_000_000);
    let other = pair.call("secret.list", r#"{"prefix":"app."}"#);
    assert_eq!(other["secrets"], json!([]));

    let long = pair.call("io.deploy.Secrets.List", "{}");
    assert_eq!(long["secrets"].as_array().unwrap().len(), 1);

    let rotated = pair.call(
        "secret.rotate",
        r#"{"name":"db.password","newData":{"username":"admin","password":"second"}}"#,
    );
    assert_eq!(rotated["version"], json!(2));
    let got = pair.call("secret.get", r#"{"name":"db.password"}"#);
    assert_eq!(got["data"]["password"], json!("second"));
    let got = pair.call(
        "secret.get",
        r#"{"name":"db.password","version":1,"field":"password"}"#,
    );
    assert_eq!(got["value"], json!("s3cret"));

    let deleted = pair.call("secret.delete", r#"{"name":"db.password"}"#);
    assert_eq!(deleted["services"], json!(["api-server"]), "who lost it");
    try_call(&pair, "secret.get", r#"{"name":"db.password"}"#).code(4);
    try_call(
        &pair,
        "secret.rotate",
        r#"{"name":"db.password","newData":{"a":"b"}}"#,
    )
    .code(4);
    pair.leaves_nothing();
}

#[test]
fn the_calls_of_configs_work_as_they_were_designed() {
    let pair = Pair::start();
    let made = pair.call(
        "config.create",
        r#"{"name":"app.settings","data":{"log_level":"info","max_conn":100},"immutable":false}"#,
    );
    assert_eq!(made["version"], json!(1));
    let got = pair.call("config.get", r#"{"name":"app.settings"}"#);
    assert_eq!(got["data"], json!({"log_level": "info", "max_conn": "100"}));
    pair.call(
        "config.update",
        r#"{"name":"app.settings","data":{"log_level":"debug"}}"#,
    );
    let got = pair.call("config.get", r#"{"name":"app.settings"}"#);
    assert_eq!(
        got["data"],
        json!({"log_level": "debug", "max_conn": "100"})
    );
    pair.call(
        "config.create",
        r#"{"name":"fixed","data":{"a":"b"},"immutable":true}"#,
    );
    try_call(
        &pair,
        "config.update",
        r#"{"name":"fixed","data":{"a":"c"}}"#,
    )
    .code(6);
    let listed = pair.call("config.list", "{}");
    let names: Vec<&Value> = listed["configs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["app.settings", "fixed"]);
    pair.call("config.delete", r#"{"name":"app.settings"}"#);
    pair.call("config.delete", r#"{"name":"fixed"}"#);
    assert_eq!(pair.call("config.list", "{}")["configs"], json!([]));
}

#[test]
fn allowed_workloads_are_granted_and_left_out_they_are_nobody() {
    let pair = pair();
    let show = |service: &str, secret: &str, path: &str| {
        let asked = Asked::service(service).secrets(&[secret]);
        pair.run_to_end(&asked.command(&["/bin/cat", path]))
    };
    let path = "/secret/db.password/password";
    assert_eq!(show("api-server", "db.password", path).ok().out(), "s3cret");
    show("web", "db.password", path).code(3).hides("s3cret");

    pair.call(
        "secret.create",
        r#"{"name":"nobodys","value":"a-value-nobody-may-see"}"#,
    );
    let readers = pair.call("secret.readers", r#"{"name":"nobodys"}"#);
    assert_eq!(readers["services"], json!([]));
    let grants = pair.call("secret.grants", "{}");
    assert_eq!(
        grants["grants"],
        json!([{"service": "api-server", "secret": "db.password"}])
    );
    show("api-server", "nobodys", "/secret/nobodys")
        .code(3)
        .hides(VALUE);
    pair.call(
        "secret.create",
        r#"{"name":"empty","value":"x","allowed_workloads":[]}"#,
    );
    show("api-server", "empty", "/secret/empty").code(3);

    // A list with one that is no name grants to nobody, and makes nothing.
    let bad = r#"{"name":"bad","value":"x","allowed_workloads":["web","../api"]}"#;
    try_call(&pair, "secret.create", bad).code(2);
    try_call(&pair, "secret.get", r#"{"name":"bad"}"#).code(4);
    let grants = pair.call("secret.grants", r#"{"service":"web"}"#);
    assert_eq!(grants["grants"], json!([]));
}

#[test]
fn parameters_come_from_standard_input_so_that_no_value_is_an_argument() {
    let pair = Pair::start();
    let text = format!(r#"{{"name":"db_password","value":"{VALUE}"}}"#);
    pair.deploy_with(&["call", "secret.create", "-"], text.as_bytes())
        .ok()
        .hides(VALUE);
    assert_eq!(
        pair.deploy(&["secret", "get", "db_password"]).ok().out(),
        VALUE
    );
    let base64 = r#"{"name":"bytes","value":"AAH/","encoding":"base64"}"#;
    pair.call("secret.create", base64);
    assert_eq!(
        pair.deploy(&["secret", "get", "bytes"]).ok().stdout,
        [0, 1, 255]
    );
    let got = pair.call("secret.get", r#"{"name":"bytes","encoding":"base64"}"#);
    assert_eq!(got["value"], json!("AAH/"));
}

#[test]
fn lists_give_names_versions_and_times_and_never_values() {
    let pair = pair();
    let value = format!(r#"{{"name":"single","value":"{VALUE}"}}"#);
    pair.call("secret.create", &value);
    let config = format!(r#"{{"name":"app","data":{{"key":"{VALUE}"}}}}"#);
    pair.call("config.create", &config);
    for (method, parameters) in [
        ("secret.list", "{}"),
        ("secret.history", r#"{"name":"single"}"#),
        ("secret.history", r#"{"name":"db.password"}"#),
        ("secret.readers", r#"{"name":"db.password"}"#),
        ("secret.grants", "{}"),
        ("config.list", "{}"),
        ("key.slot-list", "{}"),
        ("status", "{}"),
    ] {
        let said = try_call(&pair, method, parameters).ok();
        let said = said.hides(VALUE).hides("s3cret").hides("admin");
        assert!(said.out().len() > 10, "{said}");
    }
    for words in [
        &["secret", "list"][..],
        &["secret", "show", "single"],
        &["secret", "show", "db.password"],
        &["secret", "history", "single"],
        &["config", "list"],
        &["status"],
    ] {
        pair.deploy(words).ok().hides(VALUE).hides("s3cret");
    }
    assert!(!pair.log_text().contains(VALUE) && !pair.log_text().contains("s3cret"));
}

#[test]
fn every_error_is_an_exit_code_and_a_word_in_json() {
    let pair = pair();
    for (words, code, kind) in [
        (&["secret", "get", "nothing"][..], 4, "not_found"),
        (
            &[
                "call",
                "secret.create",
                r#"{"name":"db.password","value":"x"}"#,
            ],
            6,
            "conflict",
        ),
        (&["call", "secret.create", r#"{"name":"x"}"#], 2, "usage"),
        (&["run", "/no/such/manifest"], 1, "failed"),
    ] {
        let mut words = words.to_vec();
        words.push("--json");
        let said = pair.deploy(&words).code(code);
        let told: Value =
            serde_json::from_slice(&said.stderr).unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!(told["error"], json!(kind), "{said}");
        assert!(!told["message"].as_str().unwrap().is_empty());
    }
}
