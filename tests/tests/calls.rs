//! The control socket: `deploy call` with the short names, and any varlink client with the long ones.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::command::{run, through};
use tests::manifest::Asked;
use tests::{Finished, Pair, Varlink};

const VALUE: &str = "a-value-nobody-may-see";

#[track_caller]
fn call(pair: &Pair, method: &str, parameters: &str) -> Value {
    pair.deploy(&["call", method, parameters]).ok().json()
}

fn try_call(pair: &Pair, method: &str, parameters: &str) -> Finished {
    pair.deploy(&["call", method, parameters])
}

/// A pair with the secret of the issue, made by its call.
fn pair() -> Pair {
    let pair = Pair::start();
    let made = call(
        &pair,
        "secret.create",
        r#"{"name":"db.password","data":{"username":"admin","password":"s3cret"},"allowed_workloads":["api-server"]}"#,
    );
    assert_eq!((&made["name"], &made["version"]), (&json!("db.password"), &json!(1)));
    pair
}

#[test]
fn the_calls_of_secrets_work_as_they_were_designed() {
    let pair = pair();
    let got = call(&pair, "secret.get", r#"{"name":"db.password"}"#);
    assert_eq!(got["data"], json!({"username": "admin", "password": "s3cret"}));
    assert_eq!(got["version"], json!(1));

    let listed = call(&pair, "secret.list", r#"{"prefix":"db."}"#);
    let listed = listed["secrets"].as_array().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["name"], json!("db.password"));
    assert_eq!(listed[0]["version"], json!(1));
    assert!(listed[0]["created"].as_u64().unwrap() > 1_700_000_000);
    let other = call(&pair, "secret.list", r#"{"prefix":"app."}"#);
    assert_eq!(other["secrets"], json!([]));

    let rotated = call(
        &pair,
        "secret.rotate",
        r#"{"name":"db.password","newData":{"username":"admin","password":"second"}}"#,
    );
    assert_eq!(rotated["version"], json!(2));
    let got = call(&pair, "secret.get", r#"{"name":"db.password"}"#);
    assert_eq!(got["data"]["password"], json!("second"));
    let got = call(&pair, "secret.get", r#"{"name":"db.password","version":1,"field":"password"}"#);
    assert_eq!(got["value"], json!("s3cret"));

    let deleted = call(&pair, "secret.delete", r#"{"name":"db.password"}"#);
    assert_eq!(deleted["services"], json!(["api-server"]), "who lost it");
    try_call(&pair, "secret.get", r#"{"name":"db.password"}"#).code(4);
    try_call(&pair, "secret.rotate", r#"{"name":"db.password","newData":{"a":"b"}}"#).code(4);
    pair.leaves_nothing();
}

#[test]
fn the_calls_of_configs_work_as_they_were_designed() {
    let pair = Pair::start();
    let made = call(
        &pair,
        "config.create",
        r#"{"name":"app.settings","data":{"log_level":"info","max_conn":100},"immutable":false}"#,
    );
    assert_eq!(made["version"], json!(1));
    let got = call(&pair, "config.get", r#"{"name":"app.settings"}"#);
    assert_eq!(got["data"], json!({"log_level": "info", "max_conn": "100"}));
    call(&pair, "config.update", r#"{"name":"app.settings","data":{"log_level":"debug"}}"#);
    let got = call(&pair, "config.get", r#"{"name":"app.settings"}"#);
    assert_eq!(got["data"], json!({"log_level": "debug", "max_conn": "100"}));
    call(&pair, "config.create", r#"{"name":"fixed","data":{"a":"b"},"immutable":true}"#);
    try_call(&pair, "config.update", r#"{"name":"fixed","data":{"a":"c"}}"#).code(6);
    let listed = call(&pair, "config.list", "{}");
    let names: Vec<&Value> = listed["configs"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["app.settings", "fixed"]);
    call(&pair, "config.delete", r#"{"name":"app.settings"}"#);
    call(&pair, "config.delete", r#"{"name":"fixed"}"#);
    assert_eq!(call(&pair, "config.list", "{}")["configs"], json!([]));
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

    call(&pair, "secret.create", r#"{"name":"nobodys","value":"a-value-nobody-may-see"}"#);
    let readers = call(&pair, "secret.readers", r#"{"name":"nobodys"}"#);
    assert_eq!(readers["services"], json!([]));
    let grants = call(&pair, "secret.grants", "{}");
    assert_eq!(
        grants["grants"],
        json!([{"service": "api-server", "secret": "db.password"}])
    );
    show("api-server", "nobodys", "/secret/nobodys").code(3).hides(VALUE);
    call(&pair, "secret.create", r#"{"name":"empty","value":"x","allowed_workloads":[]}"#);
    show("api-server", "empty", "/secret/empty").code(3);

    // A list with one that is no name grants to nobody, and makes nothing.
    let bad = r#"{"name":"bad","value":"x","allowed_workloads":["web","../api"]}"#;
    try_call(&pair, "secret.create", bad).code(2);
    try_call(&pair, "secret.get", r#"{"name":"bad"}"#).code(4);
    let grants = call(&pair, "secret.grants", r#"{"service":"web"}"#);
    assert_eq!(grants["grants"], json!([]));
}

#[test]
fn parameters_come_from_standard_input_so_that_no_value_is_an_argument() {
    let pair = Pair::start();
    let text = format!(r#"{{"name":"db_password","value":"{VALUE}"}}"#);
    pair.deploy_with(&["call", "secret.create", "-"], text.as_bytes()).ok().hides(VALUE);
    assert_eq!(pair.deploy(&["secret", "get", "db_password"]).ok().out(), VALUE);
    let base64 = r#"{"name":"bytes","value":"AAH/","encoding":"base64"}"#;
    call(&pair, "secret.create", base64);
    assert_eq!(pair.deploy(&["secret", "get", "bytes"]).ok().stdout, [0, 1, 255]);
    let got = call(&pair, "secret.get", r#"{"name":"bytes","encoding":"base64"}"#);
    assert_eq!(got["value"], json!("AAH/"));
}

#[test]
fn lists_give_names_versions_and_times_and_never_values() {
    let pair = pair();
    let value = format!(r#"{{"name":"single","value":"{VALUE}"}}"#);
    call(&pair, "secret.create", &value);
    let config = format!(r#"{{"name":"app","data":{{"key":"{VALUE}"}}}}"#);
    call(&pair, "config.create", &config);
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
fn any_varlink_client_calls_by_long_names_over_one_connection() {
    let pair = pair();
    let mut client = Varlink::connect(&pair);
    let got = client.call("io.deploy.Secrets.Get", json!({"name": "db.password"}));
    assert_eq!(got.unwrap()["data"]["password"], json!("s3cret"));
    let made = client.call("io.deploy.Configs.Create", json!({"name": "a", "data": {"k": "v"}}));
    assert_eq!(made.unwrap()["version"], json!(1));
    let status = client.call("io.deploy.Daemon.Status", json!({})).unwrap();
    assert_eq!((&status["state"], &status["secrets"]), (&json!("unsealed"), &json!(1)));
    let slots = client.call("io.deploy.Keys.SlotList", json!({})).unwrap();
    assert_eq!(slots["slots"].as_array().unwrap().len(), 1);

    // Several at once are answered in their order; one way, not at all.
    client.send(&json!({"method": "io.deploy.Configs.Get", "parameters": {"name": "a"}}));
    client.send(&json!({"method": "io.deploy.Configs.Delete", "parameters": {"name": "a"}, "oneway": true}));
    client.send(&json!({"method": "io.deploy.Configs.List"}));
    assert_eq!(client.message()["parameters"]["data"], json!({"k": "v"}));
    assert_eq!(client.message()["parameters"]["configs"], json!([]));
}

#[test]
fn a_rotation_tells_a_varlink_client_how_far_it_is() {
    let pair = pair();
    let mut client = Varlink::connect(&pair);
    client.send(&json!({"method": "io.deploy.Keys.Rotate", "parameters": {}, "more": true}));
    let mut told = 0;
    let last = loop {
        let message = client.message();
        assert!(message.get("error").is_none(), "{message}");
        if message["continues"] != json!(true) {
            break message;
        }
        assert_eq!(message["parameters"].get("generation"), None, "not done yet");
        let number = |key: &str| message["parameters"][key].as_u64().unwrap();
        assert!(number("done") <= number("total"));
        told += 1;
    };
    assert!(told > 0, "nothing was told meanwhile");
    assert_eq!(last["parameters"]["generation"], json!(2));
    // Without `more` there is one answer.
    let one = client.call("io.deploy.Keys.Rotate", json!({})).unwrap();
    assert_eq!(one["generation"], json!(3));
}

#[test]
fn errors_on_the_wire_have_names_and_say_what_mends_them() {
    let pair = pair();
    let mut client = Varlink::connect(&pair);
    for (method, parameters, error) in [
        ("io.deploy.Secrets.Get", json!({"name": "nothing"}), "NotFound"),
        ("io.deploy.Secrets.Get", json!({"name": "db.password", "version": 7}), "NotFound"),
        ("io.deploy.Configs.Get", json!({"name": "nothing"}), "NotFound"),
        ("io.deploy.Secrets.Create", json!({"name": "db.password", "value": VALUE}), "Conflict"),
        ("io.deploy.Secrets.Rotate", json!({"name": "db.password", "value": VALUE}), "Conflict"),
        ("io.deploy.Secrets.Create", json!({"name": "../x", "value": VALUE}), "Invalid"),
        ("io.deploy.Secrets.Create", json!({"name": "x"}), "Invalid"),
        ("io.deploy.Secrets.Create", json!({"name": "x", "value": VALUE, "valeu": 1}), "Invalid"),
        ("io.deploy.Keys.SlotRemove", json!({"id": 1}), "Conflict"),
        ("io.deploy.Keys.SlotRemove", json!({"id": 99}), "NotFound"),
    ] {
        let refused = client.call(method, parameters.clone()).unwrap_err();
        assert_eq!(refused.error, format!("io.deploy.Secrets.{error}"), "{method} {parameters}");
        let message = refused.parameters["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains(VALUE), "{message}");
    }
    client.call("io.deploy.Daemon.Seal", json!({})).unwrap();
    let refused = client.call("io.deploy.Secrets.List", json!({})).unwrap_err();
    assert_eq!(refused.error, "io.deploy.Secrets.Sealed");
    assert!(refused.parameters["hint"].as_str().unwrap().contains("deploy unseal"));

    let refused = client.call("io.deploy.Secrets.NoSuch", json!({})).unwrap_err();
    assert_eq!(refused.error, "org.varlink.service.MethodNotFound");
    assert_eq!(refused.parameters["method"], json!("io.deploy.Secrets.NoSuch"));
}

#[test]
fn every_error_is_an_exit_code_and_a_word_in_json() {
    let pair = pair();
    for (words, code, kind) in [
        (&["secret", "get", "nothing"][..], 4, "not_found"),
        (&["call", "secret.create", r#"{"name":"db.password","value":"x"}"#], 6, "conflict"),
        (&["call", "secret.create", r#"{"name":"x"}"#], 2, "usage"),
        (&["run", "/no/such/manifest"], 1, "failed"),
    ] {
        let mut words = words.to_vec();
        words.push("--json");
        let said = pair.deploy(&words).code(code);
        let told: Value = serde_json::from_slice(&said.stderr)
            .unwrap_or_else(|error| panic!("{error}: {said}"));
        assert_eq!(told["error"], json!(kind), "{said}");
        assert!(!told["message"].as_str().unwrap().is_empty());
    }
}

#[test]
fn the_service_describes_itself_and_every_method_of_it() {
    let pair = Pair::start();
    let mut client = Varlink::connect(&pair);
    let info = client.call("org.varlink.service.GetInfo", json!({})).unwrap();
    for key in ["vendor", "product", "version", "url"] {
        assert!(!info[key].as_str().unwrap().is_empty(), "{key}: {info}");
    }
    let interfaces: Vec<&str> = info["interfaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let mut describe = |interface: &str| {
        let asked = json!({"interface": interface});
        client
            .call("org.varlink.service.GetInterfaceDescription", asked)
            .map(|reply| reply["description"].as_str().unwrap().to_owned())
    };
    for interface in &interfaces {
        let text = describe(interface).unwrap();
        let head = format!("interface {interface}");
        assert!(text.lines().any(|line| line == head), "{text}");
    }
    for (long, _) in control::calls::METHODS {
        let (interface, method) = long.rsplit_once('.').unwrap();
        assert!(interfaces.contains(&interface), "{interface} is not told");
        let text = describe(interface).unwrap();
        assert!(text.contains(&format!("\nmethod {method}(")), "{long} is not described");
    }
    let unknown = describe("io.deploy.NoSuch").unwrap_err();
    assert_eq!(unknown.error, "org.varlink.service.InterfaceNotFound");
    assert_eq!(unknown.parameters["interface"], json!("io.deploy.NoSuch"));
}

#[test]
fn members_of_group_deploy_manage_secrets_and_nothing_that_is_roots() {
    let mut pair = Pair::prepare();
    pair.init(&[]).ok();
    let (member, group) = (ClaimedUser::claim(), ClaimedUser::claim());
    // A group of the host, for our two programs alone: nothing of the host changes.
    let all = std::fs::read_to_string("/etc/group").unwrap();
    let groups = pair.file("group", all + &format!("deploy:x:{}:\n", group.uid()));
    let script = format!(
        "exec unshare --mount /bin/sh -c 'mount --bind {} /etc/group && exec \"$@\"' sh \"$@\"",
        groups.display()
    );
    pair.up_by(through(&script, &pair.up_command()));
    let program = pair.for_services("deploy");
    let (uid, gid) = (member.uid().to_string(), group.uid().to_string());
    let as_user = |groups: &[&str], words: &[&str], input: &[u8]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &uid, "--regid", &uid]).args(groups);
        command.arg("--").arg(&program).args(words);
        command.env("DEPLOY_RUN_DIR", pair.run_folder());
        run(command, input)
    };
    let own = ["--groups", gid.as_str()];
    as_user(&own, &["secret", "set", "a", "--file", "-"], b"one").ok();
    assert_eq!(as_user(&own, &["secret", "get", "a"], b"").ok().out(), "one");
    as_user(&own, &["secret", "grant", "web", "a"], b"").ok();
    as_user(&own, &["config", "create", "app", "a=1"], b"").ok();
    for words in [["run", "/dev/null"], ["stop", "web"]] {
        let said = as_user(&own, &words, b"");
        assert!(matches!(said.code, 2 | 3), "root's alone: {said}");
    }
    let said = as_user(&["--clear-groups"], &["secret", "list"], b"");
    said.code(3).hides("\na ");
    assert!(pair.log_text().contains("granted a to web"));
}
