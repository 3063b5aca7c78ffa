//! The control socket as any varlink client sees it, and who may be one.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::json;
use tests::claim::ClaimedUser;
use tests::command::{run, through};
use tests::manifest::Asked;
use tests::{Pair, Varlink};

const VALUE: &str = "a-value-nobody-may-see";

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
fn any_varlink_client_calls_by_long_names_over_one_connection() {
    let pair = pair();
    let mut client = Varlink::connect(&pair);
    let got = client.call("io.deploy.Secrets.Get", json!({"name": "db.password"}));
    assert_eq!(got.unwrap()["data"]["password"], json!("s3cret"));
    let made = client.call(
        "io.deploy.Configs.Create",
        json!({"name": "a", "data": {"k": "v"}}),
    );
    assert_eq!(made.unwrap()["version"], json!(1));
    let status = client.call("io.deploy.Daemon.Status", json!({})).unwrap();
    assert_eq!(
        (&status["state"], &status["secrets"]),
        (&json!("unsealed"), &json!(1))
    );
    let slots = client.call("io.deploy.Keys.SlotList", json!({})).unwrap();
    assert_eq!(slots["slots"].as_array().unwrap().len(), 1);

    // Several at once are answered in their order; one way, not at all.
    client.send(&json!({"method": "io.deploy.Configs.Get", "parameters": {"name": "a"}}));
    client.send(
        &json!({"method": "io.deploy.Configs.Delete", "parameters": {"name": "a"}, "oneway": true}),
    );
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
        assert_eq!(
            message["parameters"].get("generation"),
            None,
            "not done yet"
        );
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
        (
            "io.deploy.Secrets.Get",
            json!({"name": "nothing"}),
            "NotFound",
        ),
        (
            "io.deploy.Secrets.Get",
            json!({"name": "db.password", "version": 7}),
            "NotFound",
        ),
        (
            "io.deploy.Configs.Get",
            json!({"name": "nothing"}),
            "NotFound",
        ),
        (
            "io.deploy.Secrets.Create",
            json!({"name": "db.password", "value": VALUE}),
            "Conflict",
        ),
        (
            "io.deploy.Secrets.Rotate",
            json!({"name": "db.password", "value": VALUE}),
            "Conflict",
        ),
        (
            "io.deploy.Secrets.Create",
            json!({"name": "../x", "value": VALUE}),
            "Invalid",
        ),
        ("io.deploy.Secrets.Create", json!({"name": "x"}), "Invalid"),
        (
            "io.deploy.Secrets.Create",
            json!({"name": "x", "value": VALUE, "valeu": 1}),
            "Invalid",
        ),
        ("io.deploy.Keys.SlotRemove", json!({"id": 1}), "Conflict"),
        ("io.deploy.Keys.SlotRemove", json!({"id": 99}), "NotFound"),
    ] {
        let refused = client.call(method, parameters.clone()).unwrap_err();
        assert_eq!(
            refused.error,
            format!("io.deploy.Secrets.{error}"),
            "{method} {parameters}"
        );
        let message = refused.parameters["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains(VALUE), "{message}");
    }
    client.call("io.deploy.Daemon.Seal", json!({})).unwrap();
    let refused = client
        .call("io.deploy.Secrets.List", json!({}))
        .unwrap_err();
    assert_eq!(refused.error, "io.deploy.Secrets.Sealed");
    assert!(
        refused.parameters["hint"]
            .as_str()
            .unwrap()
            .contains("deploy unseal")
    );

    let refused = client
        .call("io.deploy.Secrets.NoSuch", json!({}))
        .unwrap_err();
    assert_eq!(refused.error, "org.varlink.service.MethodNotFound");
    assert_eq!(
        refused.parameters["method"],
        json!("io.deploy.Secrets.NoSuch")
    );
}

#[test]
fn the_service_describes_itself_and_every_method_of_it() {
    let pair = Pair::start();
    let mut client = Varlink::connect(&pair);
    let info = client
        .call("org.varlink.service.GetInfo", json!({}))
        .unwrap();
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
        assert!(
            text.contains(&format!("\nmethod {method}(")),
            "{long} is not described"
        );
    }
    let unknown = describe("io.deploy.NoSuch").unwrap_err();
    assert_eq!(unknown.error, "org.varlink.service.InterfaceNotFound");
    assert_eq!(unknown.parameters["interface"], json!("io.deploy.NoSuch"));
}

#[test]
fn a_stranger_is_refused_before_he_has_sent_a_byte() {
    let pair = pair();
    let control = pair.run_folder().join("control.sock");
    // Permissions out of the way: credentials are the fence.
    std::fs::set_permissions(&control, std::fs::Permissions::from_mode(0o666)).unwrap();
    let script = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX)\n\
        s.settimeout(30)\n\
        s.connect(sys.argv[1])\n\
        got = b''\n\
        while (part := s.recv(4096)): got += part\n\
        sys.stdout.buffer.write(got)\n";
    let stranger = ClaimedUser::claim().uid().to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &stranger, "--regid", &stranger])
        .args(["--clear-groups", "--", "/usr/bin/python3", "-c", script])
        .arg(&control);
    let said = run(command, b"").ok();
    let told = said.stdout.strip_suffix(b"\0").unwrap();
    let told: serde_json::Value = serde_json::from_slice(told).unwrap();
    assert_eq!(told["error"], json!("io.deploy.Secrets.Denied"));
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
        command
            .args(["--reuid", &uid, "--regid", &uid])
            .args(groups);
        command.arg("--").arg(&program).args(words);
        command.env("DEPLOY_RUN_DIR", pair.run_folder());
        run(command, input)
    };
    let own = ["--groups", gid.as_str()];
    as_user(&own, &["secret", "set", "a", "--file", "-"], b"one").ok();
    assert_eq!(
        as_user(&own, &["secret", "get", "a"], b"").ok().out(),
        "one"
    );
    as_user(&own, &["secret", "grant", "web", "a"], b"").ok();
    as_user(&own, &["config", "create", "app", "a=1"], b"").ok();
    let manifest = pair.manifest(&Asked::service("web").command(&["true"]));
    let manifest = manifest.to_str().unwrap();
    for words in [
        &["run", manifest][..],
        &["reload", manifest],
        &["stop", "web"],
        &["ps"],
    ] {
        as_user(&own, words, b"").code(3).says(&["root"]);
    }
    let said = as_user(&["--clear-groups"], &["secret", "list"], b"");
    said.code(3).hides("\na ");
    assert!(pair.log_text().contains("granted a to web"));
}
