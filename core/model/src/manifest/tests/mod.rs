#![allow(clippy::unwrap_used)]
use super::*;
use std::path::Path;

mod any;
mod limits;
mod refusals;

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text.as_bytes(), Path::new("web.yaml"))
}

#[track_caller]
fn refused(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

const WHOLE: &str = "\
service: web
user: www-data
command: [nginx, -g, daemon off;]
secrets:
  - db_password
  - name: tls
    target: /etc/web/tls
  - name: api_key
    env: API_KEY
    audit: every-read
    previous: true
  - name: replica
    env_file: REPLICA_PASSWORD_FILE
    mode: \"0440\"
    owner: postgres
    optional: true
config: {log_level: debug, max_conn: 100}
config_from: [app.settings]
on_change: {signal: HUP}
restart: on-failure
wait: 30s
targets: {secret: /run/secrets}
file_mode: \"0440\"
folder_mode: 0550
";

const WHOLE_LINES: &str = "
# the same, line by line
service web
user www-data
command nginx -g 'daemon off;'
secret db_password
secret tls target=/etc/web/tls    # a certificate and its key
secret api_key env=API_KEY audit=every-read previous=true
secret replica env_file=REPLICA_PASSWORD_FILE mode=0440 owner=postgres optional=true
config log_level=debug
config max_conn=100
config_from app.settings
on_change signal SIGHUP
restart on-failure
wait 30s
target secret /run/secrets
file_mode 0440
folder_mode 0550
";

#[test]
fn both_forms_say_the_same() {
    let manifest = parse(WHOLE).unwrap();
    assert_eq!(parse(WHOLE_LINES).unwrap(), manifest);
    assert_eq!(manifest.service.as_str(), "web");
    assert_eq!(manifest.command, ["nginx", "-g", "daemon off;"]);
    let secrets: Vec<_> = manifest
        .secrets
        .iter()
        .map(|secret| (secret.name.as_str(), secret.env.as_deref()))
        .collect();
    assert_eq!(
        secrets,
        [
            ("db_password", None),
            ("tls", None),
            ("api_key", Some("API_KEY")),
            ("replica", None)
        ]
    );
    let [plain, _, read_by_read, replica] = &manifest.secrets[..] else {
        panic!("{:?}", manifest.secrets);
    };
    assert_eq!((plain.audit, plain.previous), (Audit::EveryOpen, false));
    assert_eq!(
        (read_by_read.audit, read_by_read.previous),
        (Audit::EveryRead, true)
    );
    let placed = manifest.secrets[1].target.as_deref();
    assert_eq!(placed.and_then(Path::to_str), Some("/etc/web/tls"));
    let file = replica.env_file.as_deref();
    assert_eq!(
        (file, replica.optional),
        (Some("REPLICA_PASSWORD_FILE"), true)
    );
    let owner = (replica.owner.as_deref(), replica.owner_ids());
    assert_eq!(
        (replica.mode, owner),
        (Some(0o440), (Some("postgres"), None))
    );
    assert_eq!(manifest.wait, Some(30));
    assert_eq!(manifest.config.get("max_conn").unwrap(), "100");
    assert_eq!(manifest.on_change, Some(OnChange::Signal("HUP".into())));
    assert_eq!(manifest.restart, Restart::OnFailure);
    assert_eq!(
        manifest.targets,
        Targets::new("/run/secrets", "/config").unwrap()
    );
    assert_eq!(
        manifest.modes,
        Modes {
            file: 0o440,
            folder: 0o550
        }
    );
}

#[test]
fn the_two_examples_of_the_documents_say_the_same() {
    let page = include_str!("../../../../../docs/manifest.md");
    let block = |kind: &str| {
        let (_, rest) = page.split_once(&format!("```{kind}\n")).unwrap();
        parse(rest.split_once("```").unwrap().0).unwrap()
    };
    assert_eq!(block("yaml"), block("text"));
    assert_eq!(block("yaml"), parse(WHOLE).unwrap());
    let readme = include_str!("../../../../../README.md");
    let (_, rest) = readme.split_once("```yaml\n").unwrap();
    assert_eq!(
        parse(rest.split_once("```").unwrap().0)
            .unwrap()
            .secrets
            .len(),
        2
    );
}

#[test]
fn what_is_left_out_is_the_default_and_the_file_names_the_service() {
    for text in [
        "command: [x]\n",
        "command x\n",
        "{command: [x]}",
        "--- \ncommand: [x]",
    ] {
        let manifest = parse(text).unwrap();
        assert_eq!(manifest.service.as_str(), "web");
        assert_eq!(manifest.restart, Restart::No);
        assert_eq!(manifest.targets, Targets::default());
        assert_eq!(
            manifest.modes,
            Modes {
                file: 0o400,
                folder: 0o500
            }
        );
        assert!(manifest.secrets.is_empty() && manifest.on_change.is_none());
    }
    let error = Manifest::parse(b"command x", Path::new("/etc/My Web.yaml")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/etc/My Web.yaml:1:1: no `service`"),
        "{error}"
    );
}

#[test]
fn scalars_of_config_are_taken_as_they_are_written() {
    let manifest = parse(
        "config:\n  a: 1.10\n  b: yes\n  c: ~\n  d:\n  e: 0x1F\n  f: \"1.10\"\n  g: 1e3\n  \
         h: null\n  i: 007\n  1.10: TRUE\n  j: 'it''s'\n  k: |\n    two\n    lines\n  l: ''\n  \
         m: 123456789012345678901234567890\n  n: &x .5\n  o: *x\n  p: -0\n  q: !!str 1.0\n",
    )
    .unwrap();
    for (key, value) in [
        ("a", "1.10"),
        ("b", "yes"),
        ("c", "~"),
        ("d", ""),
        ("e", "0x1F"),
        ("f", "1.10"),
        ("g", "1e3"),
        ("h", "null"),
        ("i", "007"),
        ("1.10", "TRUE"),
        ("j", "it's"),
        ("k", "two\nlines\n"),
        ("l", ""),
        ("m", "123456789012345678901234567890"),
        ("n", ".5"),
        ("o", ".5"),
        ("p", "-0"),
        ("q", "1.0"),
    ] {
        assert_eq!(
            manifest.config.get(key).map(String::as_str),
            Some(value),
            "{key}"
        );
    }
    let lines = parse("service w\nconfig a=1.10\nconfig b= x  y # z\nconfig c=\"x # \\n\"\nconfig d=a#b\nconfig e=\nconfig f=#fff\nconfig g= ' g'  # x\n")
        .unwrap();
    for (key, value) in [
        ("a", "1.10"),
        ("b", "x  y"),
        ("c", "x # \n"),
        ("d", "a#b"),
        ("e", ""),
        ("f", "#fff"),
        ("g", " g"),
    ] {
        assert_eq!(
            lines.config.get(key).map(String::as_str),
            Some(value),
            "{key}"
        );
    }
}

#[test]
fn a_name_that_looks_like_a_number_stays_as_it_is() {
    let manifest = parse("service: 1.10\nuser: 0010\nsecrets: [1.10, 0x1f, null]\n").unwrap();
    assert_eq!(manifest.service.as_str(), "1.10");
    assert_eq!(manifest.user.unwrap(), "0010");
    let names: Vec<_> = manifest
        .secrets
        .iter()
        .map(|secret| secret.name.as_str())
        .collect();
    assert_eq!(names, ["1.10", "0x1f", "null"]);
}

#[test]
fn bytes_that_are_no_text_are_refused_where_they_are() {
    let refused = |bytes: &[u8]| Manifest::parse(bytes, Path::new("web.yaml")).unwrap_err();
    assert_eq!(refused(b"service: \xff\n").place(), Some((1, 10)));
    assert_eq!(
        refused("service: w\n# \u{e4}\0".as_bytes()).place(),
        Some((2, 4))
    );
    let utf16: Vec<u8> = "service: web"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    refused(&utf16);
}

#[test]
fn files_of_other_systems_are_read() {
    for text in [
        "\u{feff}service: api\r\ncommand: [x]\r\n",
        "\u{feff}service api\r\ncommand x\r\n",
    ] {
        let manifest = parse(text).unwrap();
        assert_eq!(manifest.service.as_str(), "api");
        assert_eq!(manifest.command, ["x"]);
    }
}

#[test]
fn the_name_of_the_file_does_nothing_to_a_terminal() {
    let error = Manifest::parse(b"x: y", Path::new("/tmp/a\u{1b}[31m.yaml")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/tmp/a\\u{1b}[31m.yaml:1:1: "),
        "{error}"
    );
}

#[test]
fn a_manifest_of_another_program_is_checked_again() {
    let good = serde_json::to_value(parse(WHOLE).unwrap()).unwrap();
    let read = |value: serde_json::Value| serde_json::from_value::<Manifest>(value);
    assert_eq!(read(good.clone()).unwrap(), parse(WHOLE).unwrap());
    for (key, value) in [
        ("service", serde_json::json!("../web")),
        ("user", serde_json::json!("a b")),
        ("command", serde_json::json!(["a\0"])),
        ("secrets", serde_json::json!([{"name": "a"}, {"name": "a"}])),
        (
            "secrets",
            serde_json::json!([{"name": "a", "env": "X"}, {"name": "b", "env": "X"}]),
        ),
        ("secrets", serde_json::json!([{"name": "a", "more": 1}])),
        ("config", serde_json::json!({"a/b": "1"})),
        ("config_from", serde_json::json!(["a", "a"])),
        ("on_change", serde_json::json!({"signal": "KILL"})),
        ("on_change", serde_json::json!({"signal": "SIGHUP"})),
        ("on_change", serde_json::json!({"command": []})),
        (
            "targets",
            serde_json::json!({"secret": "/a", "config": "/a/b"}),
        ),
        ("modes", serde_json::json!({"file": 0o600, "folder": 0o500})),
        ("restart", serde_json::json!("sometimes")),
        ("unknown", serde_json::json!(1)),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        assert!(read(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn a_standard_tag_that_fits_changes_nothing() {
    let manifest = parse("config: {a: !!binary aGk=, b: !!str 1.10}").unwrap();
    assert_eq!(manifest.config.get("a").unwrap(), "aGk=");
    assert_eq!(manifest.config.get("b").unwrap(), "1.10");
}
