//! What a manifest can ask for: targets, permissions, variables, and all of it in lines too.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use serde_json::json;
use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::{Answer, OwnPlace, Pair};

const VALUE: &str = "a-value-nobody-may-see";

/// A pair with a secret that `web` may read.
fn pair() -> Pair {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    pair
}

fn web() -> Asked {
    Asked::service("web").secrets(&["db_password"])
}

#[test]
fn targets_are_where_the_manifest_says() {
    let pair = pair();
    let asked = web().config(&[("level", "debug")]).with(
        "targets",
        json!({"secret": "/run/secrets", "config": "/run/config"}),
    );
    let mut web = pair.probe(&asked);
    assert_eq!(web.read("/run/secrets/db_password").text(), VALUE);
    assert_eq!(web.read("/run/config/level").text(), "debug");
    for path in ["/secret/db_password", "/config/level"] {
        assert_eq!(web.read(path), Answer::Errno(libc::ENOENT), "{path}");
    }
    let record = web.service().instance().record;
    let told = json!({"secret": "/run/secrets", "config": "/run/config"});
    assert_eq!(record["targets"], told);
    web.end().ok();
}

#[test]
fn folders_that_were_made_for_a_target_go_again() {
    let pair = pair();
    let below = OwnPlace::new("made");
    let (secret, config) = (below.join("a/secret"), below.join("a/b/config"));
    let asked = web()
        .config(&[("level", "debug")])
        .with("targets", json!({"secret": secret, "config": config}));
    let mut first = pair.probe(&asked);
    let mut second = pair.probe(&asked);
    assert_eq!(first.read(&format!("{secret}/db_password")).text(), VALUE);
    first.end().ok();
    assert_eq!(second.read(&format!("{secret}/db_password")).text(), VALUE);
    assert_eq!(second.read(&format!("{config}/level")).text(), "debug");
    assert!(below.path().exists());
    second.end().ok();
    assert!(!below.path().exists(), "with the last who used it");

    let command = asked.command(&["/no/such/program"]);
    pair.run_to_end(&command).code(127);
    assert!(!below.path().exists(), "after a start that failed");
}

#[test]
fn a_folder_that_was_there_stays_with_what_is_in_it() {
    let pair = pair();
    let below = OwnPlace::new("there");
    let folder = below.join("there");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(below.join("there/file"), "mine").unwrap();
    let mut web = pair.probe(&web().with("targets", json!({"secret": folder})));
    assert_eq!(web.list(&folder).names(), ["db_password"]);
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(names.len(), 1, "the host sees its own");
    web.end().ok();
    assert_eq!(std::fs::read(below.join("there/file")).unwrap(), b"mine");
}

#[test]
fn a_target_behind_a_symlink_is_refused_and_nothing_is_mounted() {
    let pair = pair();
    let below = OwnPlace::new("link");
    std::fs::create_dir_all(below.join("real")).unwrap();
    std::os::unix::fs::symlink("real", below.join("link")).unwrap();
    let asked = web()
        .with("targets", json!({"secret": below.join("link/secret")}))
        .command(&["/bin/true"]);
    let said = pair.run_to_end(&asked).code(1);
    let said = said.says(&["link", "targets"]);
    assert!(!Path::new(&below.join("real/secret")).exists(), "{said}");
    let instances = std::fs::read_dir(pair.run_folder().join("instances")).unwrap();
    let left: Vec<_> = instances
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| !name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn targets_that_would_hide_the_kernel_or_each_other_are_refused() {
    let pair = pair();
    for targets in [
        json!({"secret": "/"}),
        json!({"secret": "/proc/secret"}),
        json!({"secret": "/dev"}),
        json!({"secret": "relative"}),
        json!({"secret": "/run/../secret"}),
        json!({"secret": "/run/both", "config": "/run/both"}),
        json!({"secret": "/run/both", "config": "/run/both/config"}),
    ] {
        let asked = web()
            .with("targets", targets.clone())
            .command(&["/bin/true"]);
        let said = pair.run_to_end(&asked);
        assert_eq!(said.code, 2, "{targets}: {said}");
        assert!(said.err().contains(".yaml:"), "the place is named: {said}");
    }
}

#[test]
fn file_mode_and_folder_mode_let_others_in() {
    let pair = pair();
    let with_fields = pair.file("tls.json", r#"{"cert":"c","key":"k"}"#);
    let words = [
        "secret",
        "set",
        "tls",
        "--from-json",
        with_fields.to_str().unwrap(),
    ];
    pair.deploy(&words).ok();
    pair.grant("web", &["tls"]);
    let user = ClaimedUser::claim();
    let asked = Asked::service("web")
        .secrets(&["db_password", "tls"])
        .config(&[("level", "debug")])
        .user(user.uid());
    let mode = |probe: &mut tests::Probe, path: &str| match probe.stat(path) {
        Answer::Attributes { mode, .. } => mode & 0o7777,
        other => panic!("{path}: {other:?}"),
    };
    let paths = [
        "/secret",
        "/secret/tls",
        "/config",
        "/secret/db_password",
        "/secret/tls/key",
        "/config/level",
    ];
    let mut closed = pair.probe(&asked);
    let modes = paths.map(|path| mode(&mut closed, path));
    assert_eq!(modes, [0o500, 0o500, 0o500, 0o400, 0o400, 0o400]);

    let open = asked
        .with("file_mode", json!("0444"))
        .with("folder_mode", json!("0555"));
    let mut open = pair.probe(&open);
    let modes = paths.map(|path| mode(&mut open, path));
    assert_eq!(modes, [0o555, 0o555, 0o555, 0o444, 0o444, 0o444]);

    let stranger = ClaimedUser::claim().uid();
    let read = |probe: &tests::Probe| {
        run(
            probe
                .service()
                .inside(stranger, &["cat", "/secret/db_password"]),
            b"",
        )
    };
    assert_ne!(read(&closed).hides(VALUE).code, 0);
    assert_eq!(read(&open).ok().out(), VALUE);
    for (key, mode) in [
        ("file_mode", "0600"),
        ("folder_mode", "0700"),
        ("file_mode", "4400"),
    ] {
        let asked = web().with(key, json!(mode)).command(&["/bin/true"]);
        pair.run_to_end(&asked)
            .code(2)
            .says(&[".yaml:", "read-only"]);
    }
}

#[test]
fn a_secret_goes_into_a_variable_where_the_manifest_asks_for_it() {
    let pair = pair();
    let user = ClaimedUser::claim();
    pair.set("api_key", "two words\nand a line\n");
    pair.set("binary", b"a\0b");
    pair.grant("web", &["api_key", "binary"]);
    let secrets = json!(["db_password", {"name": "api_key", "env": "API_KEY"}]);
    let asked = Asked::service("web")
        .user(user.uid())
        .with("secrets", secrets);
    let text = "printf '%s|' \"$API_KEY\"; cat /secret/api_key; env | grep -c -e DB_ -e db_";
    let said = pair.run_to_end(&asked.clone().command(&["/bin/sh", "-c", text]));
    assert_eq!(
        said.out(),
        "two words\nand a line\n|two words\nand a line\n0\n",
        "byte for byte, a file besides, and no other: {said}"
    );
    assert_eq!(said.code, 1, "grep finds none");

    // The value is in no command line, while the service runs or before.
    let mut service = pair.run(
        &asked
            .clone()
            .command(&["/bin/sh", "-c", "echo up; read go"]),
    );
    assert_eq!(service.line(), "up");
    let pid = service.instance().pid;
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!String::from_utf8_lossy(&words).contains("two words"));
    service.end();

    let secrets = json!([{"name": "binary", "env": "BINARY"}]);
    let asked = Asked::service("web")
        .with("secrets", secrets)
        .command(&["/bin/true"]);
    let said = pair.run_to_end(&asked);
    assert_ne!(said.code, 0, "part of a value is worse than none: {said}");
    said.says(&["BINARY", "NUL"]);

    for variable in ["PATH", "LD_PRELOAD=x", "1A", "", "DEPLOY_SERVICE"] {
        let secrets = json!([{"name": "api_key", "env": variable}]);
        let asked = Asked::service("web")
            .with("secrets", secrets)
            .command(&["/bin/true"]);
        let said = pair.run_to_end(&asked);
        assert_eq!(said.code, 2, "{variable}: {said}");
    }
}

#[test]
fn the_line_form_says_all_that_yaml_does() {
    let pair = pair();
    let user = ClaimedUser::claim();
    let uid = user.uid();
    pair.set("api_key", "the key");
    pair.grant("web", &["api_key"]);
    let stored = [
        "config",
        "create",
        "app.settings",
        "level=stored",
        "stored=yes",
    ];
    pair.deploy(&stored).ok();
    let text = format!(
        "# a comment\nservice web\nuser {uid}:{uid}\n\nsecret db_password   # another\n\
         secret api_key env=API_KEY\nconfig level=debug\nconfig motd=a = b # not this\n\
         config_from app.settings\nrestart no\ntarget secret /run/secrets\n\
         file_mode 0440\nfolder_mode 0550\non_change signal HUP\n\
         command /bin/sh -c \"id -u; stat -c %a /run/secrets/db_password /run/secrets; \
         cat /run/secrets/db_password; echo; echo \\$API_KEY; \
         cd /config; for key in *; do echo $key=$(cat $key); done\"\n"
    )
    .replace("$key=$(cat $key)", "\\$key=\\$(cat \\$key)");
    let file = pair.file("lines", &text);
    let said = pair.deploy(&["run", file.to_str().unwrap()]).ok();
    assert_eq!(
        said.out(),
        format!("{uid}\n440\n550\n{VALUE}\nthe key\nlevel=debug\nmotd=a = b\nstored=yes\n")
    );
}

#[test]
fn without_a_service_the_file_is_the_service_in_both_forms() {
    let pair = pair();
    for (name, text) in [
        (
            "web.yaml",
            "secrets: [db_password]\ncommand: [printenv, DEPLOY_SERVICE]\n",
        ),
        (
            "web",
            "secret db_password\ncommand printenv DEPLOY_SERVICE\n",
        ),
        (
            "web.service",
            "secret db_password\ncommand printenv DEPLOY_SERVICE\n",
        ),
    ] {
        let file = pair.file(name, text);
        let said = pair.deploy(&["run", file.to_str().unwrap()]).ok();
        assert_eq!(said.out(), "web\n", "{name}");
    }
}

#[test]
fn errors_name_file_line_column_and_the_nearest_right_name() {
    let pair = pair();
    for (name, text, words) in [
        (
            "a.yaml",
            "service: web\nsecrts: [x]\n",
            &["a.yaml:2:1", "secrts", "`secrets`"][..],
        ),
        (
            "b.yaml",
            "service: web\nrestart: on-failur\n",
            &["b.yaml:2:10", "on-failure"],
        ),
        (
            "c",
            "service web\nsecret db_password\nconfg a=b\n",
            &["c:3:1", "`config`"],
        ),
        ("d", "service web\nsecret Db\n", &["d:2:8"]),
        (
            "e.yaml",
            "service: web\ntargets: {secrt: /x}\n",
            &["e.yaml:2:11", "`secret`"],
        ),
    ] {
        let file = pair.file(name, text);
        let said = pair.deploy(&["run", file.to_str().unwrap()]);
        said.code(2).says(words);
    }
}
