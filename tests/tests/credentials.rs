//! systemd's own convention: `LoadCredential=NAME:/run/deploy/credentials.sock`, asked as systemd asks;
//! and `$CREDENTIALS_DIRECTORY`. The real one asks in tests/guest/credentials.rs.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::Permissions;
use std::io::Read;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::{Value, json};
use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::{Pair, wait};

const VALUE: &str = "a-value-nobody-may-see";
/// More than systemd takes for all credentials of a unit: it refuses the unit then.
const TOO_MUCH: usize = 1024 * 1024;

fn socket(pair: &Pair) -> PathBuf {
    pair.run_folder().join("credentials.sock")
}

/// Connects from an abstract name, or from none.
fn connect_as(pair: &Pair, name: Option<&[u8]>) -> UnixStream {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let stream = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    if let Some(name) = name {
        let address = SocketAddrUnix::new_abstract_name(name).unwrap();
        rustix::net::bind(&stream, &address).unwrap();
    }
    let path = SocketAddrUnix::new(socket(pair)).unwrap();
    rustix::net::connect(&stream, &path).unwrap();
    let stream = UnixStream::from(stream);
    stream.set_read_timeout(Some(wait::LONG)).unwrap();
    stream
}

/// Connects as systemd does for a unit.
fn connect(pair: &Pair, unit: &str, credential: &str) -> UnixStream {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let random = u64::from(std::process::id()) << 32 | NUMBER.fetch_add(1, Ordering::Relaxed);
    let stream = connect_as(
        pair,
        Some(format!("{random:x}/unit/{unit}/{credential}").as_bytes()),
    );
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    stream
}

/// All that comes.
fn read(mut stream: UnixStream) -> Vec<u8> {
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    got
}

#[track_caller]
fn given(pair: &Pair, unit: &str, credential: &str) -> String {
    let got = read(connect(pair, unit, credential));
    assert!(got.len() < TOO_MUCH, "{credential} of {unit} is refused");
    String::from_utf8(got).unwrap()
}

/// What systemd refuses, and has no value in it.
#[track_caller]
fn is_refused(got: &[u8]) {
    assert!(got.len() > TOO_MUCH, "{} bytes", got.len());
    assert!(got.iter().all(|byte| *byte == 0), "not only zeros");
}

/// Refused, with these words in the log, which are new there.
#[track_caller]
fn refused(pair: &Pair, unit: &str, credential: &str, words: &[&str]) {
    let before = pair.log_text().len();
    is_refused(&read(connect(pair, unit, credential)));
    let log = pair.log_text().split_off(before);
    let line = log.lines().find(|line| line.contains("refused"));
    let line = line.unwrap_or_else(|| panic!("no refusal in {log}"));
    for word in words.iter().chain(&[unit, credential]) {
        assert!(line.contains(word), "no {word:?} in {line}");
    }
    assert!(!log.contains(VALUE));
}

/// Opens in the audit log.
fn opens(pair: &Pair) -> Vec<Value> {
    let said = pair.deploy(&["audit", "query", "--kind", "open"]).ok();
    let lines = said.hides(VALUE).out();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn grant(pair: &Pair, words: &[&str]) {
    pair.deploy(&[&["secret", "grant"], words].concat()).ok();
}

#[test]
fn a_unit_gets_a_copy_of_what_is_granted_to_it_and_that_is_audited() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.set_fields("tls", r#"{"cert.pem":"the cert","key.pem":"the key"}"#, &[]);
    grant(
        &pair,
        &["web", "db_password", "tls", "--unit", "web@1.service"],
    );
    let mode = socket(&pair).metadata().unwrap();
    assert_eq!((mode.mode() & 0o777, mode.uid()), (0o600, 0));
    assert_eq!(given(&pair, "web@1.service", "db_password"), VALUE);
    assert_eq!(given(&pair, "web@1.service", "tls.key.pem"), "the key");
    pair.deploy_with(&["secret", "rotate", "db_password", "--file", "-"], b"next")
        .ok();
    assert_eq!(given(&pair, "web@1.service", "db_password"), "next");
    let opens = opens(&pair);
    let expected = [
        ("db_password", None, 1),
        ("tls", Some("key.pem"), 1),
        ("db_password", None, 2),
    ];
    assert_eq!(opens.len(), expected.len(), "{opens:?}");
    for (open, (secret, field, version)) in opens.iter().zip(expected) {
        for (key, value) in [
            ("service", json!("web")),
            ("secret", json!(secret)),
            ("field", json!(field)),
            ("version", json!(version)),
            ("verdict", json!("allowed")),
            ("uid", json!(0)),
            ("pid", json!(std::process::id())),
        ] {
            assert_eq!(
                open.get(key).unwrap_or(&Value::Null),
                &value,
                "{key}: {open}"
            );
        }
        let why = open["why"].as_str().unwrap();
        assert!(why.contains("LoadCredential= of web@1.service"), "{open}");
    }
    pair.leaves_nothing();
}

#[test]
fn two_names_with_dots_mean_the_longest_secret_that_is_granted_to_the_unit() {
    let pair = Pair::start();
    pair.set_fields("a", r#"{"b.c":"field b.c of a"}"#, &[]);
    pair.set_fields("a.b", r#"{"c":"field c of a.b"}"#, &[]);
    grant(&pair, &["web", "a", "--unit", "web.service"]);
    grant(&pair, &["web", "a.b", "--unit", "other.service"]);
    assert_eq!(given(&pair, "web.service", "a.b.c"), "field b.c of a");
    assert_eq!(given(&pair, "other.service", "a.b.c"), "field c of a.b");
    grant(&pair, &["db", "a.b", "--unit", "web.service"]);
    assert_eq!(given(&pair, "web.service", "a.b.c"), "field c of a.b");
}

#[test]
fn without_a_grant_that_is_pinned_to_the_unit_nothing_is_given_and_the_log_says_the_command() {
    let pair = Pair::start_sealed("a passphrase");
    assert_eq!(pair.unseal("a passphrase").code, 0);
    for name in ["pinned", "plain", "user", "short", "taken"] {
        pair.set(name, VALUE);
    }
    pair.set_fields("tls", &format!(r#"{{"key":"{VALUE}"}}"#), &[]);
    let unit = ["--unit", "web.service"];
    for secret in ["pinned", "tls", "taken"] {
        grant(&pair, &[&["web", secret][..], &unit].concat());
    }
    grant(&pair, &["web", "plain"]);
    grant(
        &pair,
        &[&["web", "user", "--user", "root"][..], &unit].concat(),
    );
    grant(
        &pair,
        &[&["web", "short", "--ttl", "1s"][..], &unit].concat(),
    );
    assert_eq!(given(&pair, "web.service", "pinned"), VALUE);
    assert_eq!(given(&pair, "web.service", "taken"), VALUE);
    pair.revoke("web", "taken");

    let command =
        |secret: &str, unit: &str| format!("deploy secret grant SERVICE {secret} --unit {unit}");
    refused(
        &pair,
        "other.service",
        "pinned",
        &[&command("pinned", "other.service")],
    );
    for secret in ["plain", "user", "taken", "no_such", "UPPER"] {
        refused(
            &pair,
            "web.service",
            secret,
            &[&command(secret, "web.service")],
        );
    }
    let words = ["SERVICE no_such.key --unit web.service; if that is SECRET.FIELD, of SECRET"];
    refused(&pair, "web.service", "no_such.key", &words);
    wait::until("the grant to end", || {
        let got = read(connect(&pair, "web.service", "short"));
        (got.len() > TOO_MUCH).then_some(())
    });
    // Kept, once it has ended, or swept: both say how to give it again.
    refused(
        &pair,
        "web.service",
        "short",
        &["deploy secret grant", "short --unit web.service"],
    );
    refused(&pair, "web.service", "tls", &["tls.FIELD"]);
    refused(
        &pair,
        "web.service",
        "tls.cert",
        &["no such field", "deploy secret list tls"],
    );
    refused(&pair, "web.service", "pinned.x", &["no such field"]);
    pair.seal();
    refused(&pair, "web.service", "pinned", &["sealed", "deploy unseal"]);
    assert_eq!(pair.unseal("a passphrase").code, 0);
    assert_eq!(given(&pair, "web.service", "pinned"), VALUE);

    let opens = opens(&pair);
    let denied = |secret: &str, verdict: &str, words: &str| {
        let is = |open: &&Value| {
            let why = open["why"].as_str().unwrap_or_default();
            open["secret"] == secret && open["verdict"] == verdict && why.contains(words)
        };
        assert!(opens.iter().any(|open| is(&open)), "{secret}: {opens:?}");
    };
    denied(
        "pinned",
        "denied",
        "not granted, LoadCredential= of other.service",
    );
    denied(
        "plain",
        "denied",
        "not granted, LoadCredential= of web.service",
    );
    denied(
        "no_such",
        "denied",
        "not granted, LoadCredential= of web.service",
    );
    denied(
        "tls",
        "denied",
        "no such field, LoadCredential= of web.service",
    );
    denied("pinned", "failed", "sealed, LoadCredential= of web.service");
}

#[test]
fn a_name_that_is_not_systemd_s_gets_nothing() {
    let pair = Pair::start();
    pair.set("db", VALUE);
    grant(&pair, &["web", "db", "--unit", "web.service"]);
    let own = std::process::id();
    for name in [
        format!("{own:x}/user/web.service/db"),
        format!("{own:x}/unit/web.service/db/"),
        format!("{own:x}/unit/web.service/db\n"),
        format!("{own:x}/unit/web.service"),
        format!("x{own:x}/unit/web.service/db"),
        format!("\0{own:x}/unit/web.service/db"),
    ] {
        let stream = connect_as(&pair, Some(name.as_bytes()));
        is_refused(&read(stream));
    }
    is_refused(&read(connect_as(&pair, None)));
    assert_eq!(opens(&pair), Vec::<Value>::new());
    assert_eq!(given(&pair, "web.service", "db"), VALUE);
}

/// Asks as another user; prints how much came.
const STRANGER: &str = "
import socket, sys
stream = socket.socket(socket.AF_UNIX)
stream.bind('\\0%x/unit/web.service/db' % (int(sys.argv[2]) + 0x77770000))
try: stream.connect(sys.argv[1])
except PermissionError: sys.exit('may not connect')
got = b''
while True:
    part = stream.recv(1 << 20)
    if not part: break
    got += part
print(len(got))
";

#[test]
fn of_another_user_nothing_is_believed_even_if_the_socket_is_open_to_him() {
    let pair = Pair::start();
    pair.set("db", VALUE);
    grant(&pair, &["web", "db", "--unit", "web.service"]);
    let user = ClaimedUser::claim();
    let uid = user.uid().to_string();
    let ask = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]);
        command.args(["/usr/bin/python3", "-c", STRANGER]);
        command.arg(socket(&pair)).arg(&uid);
        run(command, b"")
    };
    ask().code(1).says(&["may not connect"]).hides(VALUE);
    std::fs::set_permissions(socket(&pair), Permissions::from_mode(0o666)).unwrap();
    assert_eq!(ask().ok().hides(VALUE).out(), "0\n");
    let said = pair.deploy(&["audit", "query", "--kind", "change"]).ok();
    let said = said.hides(VALUE).out();
    let line = said
        .lines()
        .find(|line| line.contains("credentials socket"));
    let line: Value = serde_json::from_str(line.unwrap()).unwrap();
    assert_eq!(line["outcome"], "denied");
    assert_eq!(
        (&line["uid"], &line["why"]),
        (&json!(user.uid()), &json!("not root"))
    );
    assert_eq!(opens(&pair), Vec::<Value>::new());
    assert_eq!(given(&pair, "web.service", "db"), VALUE);
}

#[test]
fn a_secretsd_that_is_killed_on_the_way_gives_no_half_of_a_value() {
    let pair = Pair::start();
    // More than a socket takes at once, so that the rest is still to come.
    let large = "v".repeat(900_000);
    pair.set("large", &large);
    grant(&pair, &["web", "large", "--unit", "web.service"]);
    let stream = connect(&pair, "web.service", "large");
    wait::until("the answer to begin", || {
        pair.log_text().contains("gets version 1").then_some(())
    });
    pair.kill(Pair::secretsd);
    let got = read(stream);
    assert!(got.len() > TOO_MUCH, "cut after {} bytes", got.len());
    // The socket is the keeper's: who asks meanwhile waits for the next one.
    assert_eq!(given(&pair, "web.service", "large"), large);
    pair.leaves_nothing();
}

#[test]
fn who_reads_nothing_holds_up_nobody() {
    let pair = Pair::start();
    pair.set("large", "v".repeat(900_000));
    pair.set("db", VALUE);
    grant(&pair, &["web", "large", "db", "--unit", "web.service"]);
    // More than are answered at once.
    let silent: Vec<_> = (0..12)
        .map(|_| connect(&pair, "web.service", "large"))
        .collect();
    let start = Instant::now();
    assert_eq!(given(&pair, "web.service", "db"), VALUE);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    for stream in silent {
        // Also who was let go for it is not left with a part of it.
        let got = read(stream);
        assert!(
            got.len() == 900_000 || got.len() > TOO_MUCH,
            "{}",
            got.len()
        );
    }
}

#[test]
fn a_service_finds_its_secrets_in_credentials_directory_too() {
    let pair = Pair::start();
    pair.set("db", VALUE);
    pair.grant("web", &["db"]);
    let show = |asked: Asked, script: &str| pair.run_to_end(&asked.command(&["sh", "-c", script]));
    let web = || Asked::service("web").secrets(&["db"]);
    let cat = "cat \"$CREDENTIALS_DIRECTORY/db\"";
    assert_eq!(show(web(), cat).ok().out(), VALUE);
    let elsewhere = pair.folder().join("mine");
    let moved = web().with("targets", json!({ "secret": elsewhere }));
    let said = show(
        moved,
        "echo $CREDENTIALS_DIRECTORY; cat $CREDENTIALS_DIRECTORY/db",
    )
    .ok();
    assert_eq!(said.out(), format!("{}\n{VALUE}", elsewhere.display()));
    // Where the manifest has another use for the name, and where there is nothing to find.
    let own = Asked::service("web").with(
        "secrets",
        json!([{ "name": "db", "env_file": "CREDENTIALS_DIRECTORY" }]),
    );
    assert_eq!(show(own, "cat $CREDENTIALS_DIRECTORY").ok().out(), VALUE);
    let none = show(Asked::service("web"), "echo ${CREDENTIALS_DIRECTORY-unset}");
    assert_eq!(none.ok().out(), "unset\n");
}
