//! `deploy plan` says what `deploy run` then does, and `deploy import` makes what both take.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::programs::build_folder;
use tests::{Finished, OwnPlace, Pair};

const VALUE: &str = "a-value-nobody-may-see";

fn plan(pair: &Pair, asked: &Asked) -> Finished {
    let file = pair.manifest(asked);
    pair.deploy(&["plan", file.to_str().unwrap(), "--json"])
}

#[test]
fn a_plan_and_a_start_agree() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("db_password", VALUE);
    pair.set("db_password", VALUE);
    pair.set_fields("tls", r#"{"cert.pem":"c","key.pem":"k"}"#, &[])
        .ok();
    pair.grant("web", &["db_password", "tls"]);
    pair.deploy(&["config", "create", "app", "level=debug"])
        .ok();
    let asked = Asked::service("web")
        .user(user.uid())
        .with("config_from", json!(["app"]))
        .config(&[("own", "1")])
        .secrets(&["db_password", "tls"])
        .command(&["/bin/true"]);
    let good = plan(&pair, &asked).ok().hides(VALUE);
    let told = good.json();
    assert_eq!(
        (&told["starts"], &told["uid"]),
        (&json!(true), &json!(user.uid()))
    );
    assert_eq!(told["secrets"][0]["version"], json!(2));
    let paths = json!(["/secret/tls/cert.pem", "/secret/tls/key.pem"]);
    assert_eq!(told["secrets"][1]["paths"], paths);
    let from: Vec<_> = told["config"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["from"])
        .collect();
    assert_eq!(from, [&json!("app"), &json!("manifest")]);
    pair.run_to_end(&asked).ok();
    let file = pair.manifest(&asked);
    let text = pair.deploy(&["plan", file.to_str().unwrap()]).ok().out();
    assert!(text.starts_with("web would start as "), "{text}");
    let row = |line: &&str| {
        line.split_whitespace().collect::<Vec<_>>()
            == ["db_password", "granted", "2", "/secret/db_password"]
    };
    assert!(text.lines().any(|line| row(&line)), "{text}");

    let below = OwnPlace::new("plan");
    std::fs::create_dir_all(below.join("real")).unwrap();
    std::os::unix::fs::symlink("real", below.join("link")).unwrap();
    let secrets = |secrets: Value| asked.clone().with("secrets", secrets);
    for (asked, code, words) in [
        (
            secrets(json!(["db_password", "none"])),
            3,
            "deploy secret set none",
        ),
        (
            asked
                .clone()
                .user(user.uid() + 1)
                .with("user", json!("no-such-user-here")),
            1,
            "no-such-user-here",
        ),
        (
            asked.clone().with("config_from", json!(["gone"])),
            1,
            "gone",
        ),
        (
            asked
                .clone()
                .with("targets", json!({"secret": below.join("link/x")})),
            1,
            "a symlink",
        ),
        (
            secrets(json!([{"name": "tls", "env": "TLS"}])),
            1,
            "has fields",
        ),
        (asked.clone().command(&["/no/such"]), 127, "/no/such"),
    ] {
        let planned = plan(&pair, &asked);
        let as_planned = if code == 127 { 1 } else { code };
        let planned = planned.code(as_planned);
        assert!(planned.out().contains(words), "{planned}");
        assert_eq!(planned.json()["starts"], json!(false));
        pair.run_to_end(&asked).code(code);
    }
    // Each command that it names, typed, mends it.
    pair.revoke("web", "tls");
    let planned = plan(&pair, &asked).code(3).json();
    let mend = planned["problems"][0]["mend"].as_str().unwrap();
    assert_eq!(mend, "deploy secret grant web tls");
    let words: Vec<&str> = mend.split(' ').skip(1).collect();
    pair.deploy(&words).ok();
    plan(&pair, &asked).ok();
    // Pins.
    pair.deploy(&["secret", "grant", "web", "tls", "--user", "root"])
        .ok();
    let planned = plan(&pair, &asked).code(3);
    assert!(planned.out().contains("pinned to user root"), "{planned}");
    pair.run_to_end(&asked).code(3);
    let pin = ["--user", &user.uid().to_string(), "--ttl", "1h"];
    pair.deploy(&[&["secret", "grant", "web", "tls"], &pin[..]].concat())
        .ok();
    let planned = plan(&pair, &asked).ok().json();
    assert!(planned["secrets"][1]["until"].is_u64(), "{planned}");
}

#[test]
fn a_plan_of_a_sealed_store_says_so() {
    let pair = Pair::start_sealed("let me in");
    let asked = Asked::service("web")
        .secrets(&["a"])
        .command(&["/bin/true"]);
    let planned = plan(&pair, &asked).code(5).json();
    assert_eq!(planned["problems"][0]["mend"], json!("deploy unseal"));
    pair.run_to_end(&asked).code(5);
}

/// Types the commands of an import into a shell, with our own `deploy`, and starts what it made.
fn use_it(pair: &Pair, imported: &Finished, place: &Path) -> String {
    let imported = imported.json();
    let commands = imported["commands"].as_array().unwrap();
    for command in commands {
        let mut shell = Command::new("/bin/sh");
        let path = format!("{}:/usr/bin:/bin", build_folder().display());
        shell
            .args(["-ec", command.as_str().unwrap()])
            .env("PATH", path)
            .env("DEPLOY_RUN_DIR", pair.run_folder())
            .env("FROM_HERE", "from the environment")
            .current_dir(place);
        run(shell, b"").ok();
    }
    let file = pair.file("imported.yaml", imported["manifest"].as_str().unwrap());
    pair.deploy(&["plan", file.to_str().unwrap()]).ok();
    pair.deploy(&["run", file.to_str().unwrap()]).ok().out()
}

#[test]
fn an_env_file_becomes_a_service_with_the_same_variables() {
    let pair = Pair::start();
    let file = pair.file("web.env", format!("A='{VALUE}'\nB=\"two\\nlines\"\n"));
    let place = file.parent().unwrap().to_owned();
    let words = ["import", "env", "web.env", "--json"];
    let imported = pair.deploy(&words).ok().hides(VALUE);
    let mut changed = imported.json();
    let manifest = changed["manifest"].as_str().unwrap();
    changed["manifest"] =
        format!("{manifest}command: [/bin/sh, -c, 'printf %s \"$A/$B\"']\n").into();
    let changed = Finished {
        stdout: changed.to_string().into_bytes(),
        ..imported
    };
    assert_eq!(
        use_it(&pair, &changed, &place),
        format!("{VALUE}/two\nlines")
    );
    // As text it is a manifest as a whole.
    let text = pair.deploy(&["import", "env", "web.env"]).ok().out();
    let file = pair.file("text.yaml", &text);
    pair.deploy(&["plan", file.to_str().unwrap()]).ok();
    pair.file("bad.env", "A=1\nhush\n");
    pair.deploy(&["import", "env", "bad.env"])
        .code(2)
        .says(&["bad.env:2: "])
        .hides("hush");
    pair.deploy(&["import", "env", "none.env"])
        .code(1)
        .says(&["none.env"]);
    pair.deploy(&["import", "env", "web.env", "--value", "C"])
        .code(4);
}

#[test]
fn a_unit_becomes_a_service_with_the_same_files() {
    let pair = Pair::start();
    let file = pair.file("value", VALUE);
    let unit = format!(
        "[Service]\nExecStart=/bin/cat ${{CREDENTIALS_DIRECTORY}}/db %d/inline\n\
         LoadCredential=db:{}\nSetCredential=inline:in\\x20line\n",
        file.display()
    );
    let unit = pair.file("web.service", unit);
    let imported = pair
        .deploy(&["import", "systemd", unit.to_str().unwrap(), "--json"])
        .ok();
    let place = file.parent().unwrap().to_owned();
    assert_eq!(use_it(&pair, &imported, &place), format!("{VALUE}in line"));
}

#[test]
fn a_compose_file_becomes_a_service_with_the_same_files() {
    let pair = Pair::start();
    let value = pair.file("value.txt", VALUE);
    let compose = "services:\n  db:\n    image: x\n    entrypoint: [/bin/sh, -c]\n    \
         command: ['cat $$PASSWORD_FILE /run/secrets/from_env']\n    \
         environment: {PASSWORD_FILE: /run/secrets/password}\n    secrets: [password, from_env]\n\
         secrets:\n  password: {file: ./value.txt}\n  from_env: {environment: FROM_HERE}\n";
    pair.file("compose.yaml", compose);
    let imported = pair
        .deploy(&["import", "compose", "compose.yaml", "--json"])
        .ok();
    let place = value.parent().unwrap().to_owned();
    let said = use_it(&pair, &imported, &place);
    assert_eq!(said, format!("{VALUE}from the environment"));
}
