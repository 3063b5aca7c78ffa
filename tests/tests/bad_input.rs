//! Section "Bad input": each is refused in words that say what, why and what mends it, with the
//! right exit code; nothing is half done, and no value is shown.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::{Answer, Finished, Pair};

const VALUE: &str = "a-value-nobody-may-see";
const MIB: usize = 1 << 20;

/// Nothing of a panic, and some words.
#[track_caller]
fn clear(said: Finished) -> Finished {
    assert!(!said.err().trim().is_empty(), "no word of why: {said}");
    assert!(!said.err().contains("panicked"), "{said}");
    said.hides(VALUE)
}

fn names(pair: &Pair) -> String {
    pair.deploy(&["secret", "list", "--json"]).ok().out()
}

#[test]
fn names_that_are_none_are_refused_everywhere() {
    let pair = Pair::start();
    pair.set("right", VALUE);
    let before = names(&pair);
    let long = "x".repeat(254);
    let bad = [
        "",
        ".",
        "..",
        "../right",
        "a..b",
        "a/b",
        "/a",
        "-a",
        "_a",
        ".a",
        "A",
        "ä",
        "a b",
        "a\nb",
        "a\tb",
        "a\u{1b}[31m",
        "*",
        &long,
    ];
    for name in bad {
        // `--`: a name may begin with a hyphen, and must then still be seen as one.
        for words in [
            vec!["secret", "set", "--file", "-", "--", name],
            vec!["secret", "get", "--", name],
            vec!["secret", "history", "--", name],
            vec!["secret", "grant", "--", "web", name],
            vec!["secret", "grant", "--", name, "right"],
            vec!["config", "get", "--", name],
        ] {
            let said = clear(pair.deploy_with(&words, VALUE.as_bytes()));
            assert_eq!(said.code, 2, "{said}");
            assert!(
                !said.err().contains('\u{1b}') && !said.err().contains("a\nb"),
                "control characters are echoed: {said}"
            );
            assert!(said.err().len() < 2000, "{said}");
        }
    }
    let not_utf8 = std::ffi::OsStr::from_bytes(b"a\xffb");
    let mut command = pair.deploy_command(&["secret", "get"]);
    command.arg(not_utf8);
    let said = clear(run(command, b""));
    assert_eq!(said.code, 2, "{said}");
    assert_eq!(names(&pair), before);

    let most = "x".repeat(253);
    pair.set(&most, VALUE);
    assert_eq!(pair.deploy(&["secret", "get", &most]).ok().out(), VALUE);
}

#[test]
fn unknown_names_are_exit_code_4() {
    let pair = Pair::start();
    for words in [
        &["secret", "get", "nothing"][..],
        &["secret", "rotate", "nothing", "--generate"],
        &["secret", "delete", "nothing", "--yes"],
        &["secret", "history", "nothing"],
        &["secret", "rollback", "nothing", "1"],
        &["secret", "grant", "web", "nothing"],
        &["config", "get", "nothing"],
        &["config", "delete", "nothing", "--yes"],
    ] {
        let said = clear(pair.deploy(words));
        assert_eq!(said.code, 4, "{said}");
        assert!(said.err().contains("nothing"), "{said}");
    }
}

#[test]
fn unknown_words_are_exit_code_2() {
    let pair = Pair::prepare();
    for words in [
        &["no-such-verb"][..],
        &["secret", "no-such-verb"],
        &["secret", "get"],
        &["secret", "set", "name", VALUE],
        &["secret", "set", "name", "--no-such-flag"],
        &["run"],
        &["call", "no.such.method", "{}"],
    ] {
        let said = pair.deploy(words);
        assert_eq!(said.code, 2, "{said}");
        assert!(!said.err().trim().is_empty(), "{said}");
    }
}

#[test]
fn an_empty_value_is_a_value() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("empty", "");
    assert_eq!(pair.deploy(&["secret", "get", "empty"]).ok().stdout, b"");
    pair.deploy(&["secret", "get", "absent"]).code(4);
    pair.grant("web", &["empty"]);
    let mut web = pair.probe(&Asked::service("web").user(user.uid()).secrets(&["empty"]));
    assert_eq!(web.read("/secret/empty"), Answer::Bytes(vec![]));
    assert_eq!(web.read("/secret/absent"), Answer::Errno(libc::ENOENT));
    web.end().ok();
}

#[test]
fn a_value_of_any_bytes_comes_back_as_it_was() {
    let pair = Pair::start();
    let every: Vec<u8> = (0..=255).collect();
    pair.set("bytes", &every);
    assert_eq!(pair.deploy(&["secret", "get", "bytes"]).ok().stdout, every);
    let call = pair.deploy(&["call", "secret.get", r#"{"name":"bytes"}"#]);
    assert_ne!(
        call.code, 0,
        "bytes that are no text, in JSON as text: {call}"
    );
    assert!(call.err().contains("base64"), "what mends it: {call}");
}

#[test]
fn one_mebibyte_is_the_most() {
    let pair = Pair::start();
    let most = vec![b'x'; MIB];
    pair.set("large", &most);
    assert_eq!(pair.deploy(&["secret", "get", "large"]).ok().stdout, most);
    let more = vec![b'y'; MIB + 1];
    let said = clear(pair.deploy_with(&["secret", "set", "large", "--file", "-"], &more));
    assert_eq!(said.code, 1, "{said}");
    assert!(said.err().len() < 2000);
    assert_eq!(
        pair.deploy(&["secret", "get", "large"]).ok().stdout,
        most,
        "the version before is the newest still"
    );
    // Endless input is cut off and not taken into memory whole.
    let file = std::fs::File::open("/dev/zero").unwrap();
    let mut endless = pair.deploy_command(&["secret", "set", "large", "--file", "-"]);
    let output = endless.stdin(file).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn value_files_that_cannot_be_read() {
    let pair = Pair::start();
    let folder = pair.folder().to_str().unwrap().to_owned();
    let absent = format!("{folder}/absent");
    for file in [folder.as_str(), absent.as_str()] {
        let said = clear(pair.deploy(&["secret", "set", "name", "--file", file]));
        assert_eq!(said.code, 1, "{said}");
        assert!(said.err().contains(file), "the file is named: {said}");
    }
    let said = clear(pair.deploy(&["secret", "set", "name", "--from-json", &absent]));
    assert_eq!(said.code, 1, "{said}");
    let bad = pair.file("bad.json", format!("{{\"password\": \"{VALUE}\", "));
    let said = pair.deploy(&[
        "secret",
        "set",
        "name",
        "--from-json",
        bad.to_str().unwrap(),
    ]);
    assert_ne!(clear(said).code, 0);
    pair.deploy(&["secret", "get", "name"]).code(4);
}

#[test]
fn create_of_a_name_that_is_there_is_a_conflict() {
    let pair = Pair::start();
    let create = |value: &str| {
        let call = format!(r#"{{"name":"db.password","value":"{value}"}}"#);
        pair.deploy(&["call", "secret.create", &call])
    };
    create(VALUE).ok();
    let said = clear(create("another"));
    assert_eq!(said.code, 6, "{said}");
    assert_eq!(
        pair.deploy(&["secret", "get", "db.password"]).ok().out(),
        VALUE
    );
}

#[test]
fn calls_that_are_no_calls() {
    let pair = Pair::start();
    for (method, text) in [
        ("secret.create", "{"),
        ("secret.create", "[]"),
        ("secret.create", "{}"),
        ("secret.create", r#"{"name":"a","value":"1","unknown":2}"#),
        ("secret.create", r#"{"name":"../a","value":"1"}"#),
        (
            "secret.create",
            r#"{"name":"a","value":"1","data":{"b":"2"}}"#,
        ),
        (
            "secret.create",
            r#"{"name":"a","value":"%%","encoding":"base64"}"#,
        ),
        ("secret.get", r#"{"name":7}"#),
        ("config.create", r#"{"name":"a","data":[]}"#),
    ] {
        let said = clear(pair.deploy(&["call", method, text]));
        assert!(matches!(said.code, 1 | 2), "{said}");
    }
    let deep = format!("{}{}", "[".repeat(60_000), "]".repeat(60_000));
    let said = clear(pair.deploy(&["call", "secret.create", &deep]));
    assert!(matches!(said.code, 1 | 2), "{}", said.code);
    pair.deploy(&["status"]).ok();
    pair.deploy(&["secret", "get", "a"]).code(4);
}

#[test]
fn frames_on_the_control_socket_that_are_none() {
    use std::io::{Read as _, Write as _};
    let pair = Pair::start();
    let socket = pair.run_folder().join("control.sock");
    let huge = vec![b'x'; 8 * MIB];
    for frame in [
        &b"\0"[..],
        b"\0\0\0\0",
        b"not json\0",
        b"{\"method\":7}\0",
        b"{\"method\":\"io.deploy.Secrets.NoSuch\",\"parameters\":{}}\0",
        b"\xff\xfe\0",
        b"{\"method\":\"io.deploy.Secrets.List\",\"parameters\":",
        &huge,
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(2)))
            .unwrap();
        let _ = stream.write_all(frame);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = [0; 512];
        let _ = stream.read(&mut answer);
        pair.deploy(&["status"]).ok();
    }
    assert!(!pair.log_text().contains("panicked"), "{}", pair.log_text());
}

#[test]
fn manifests_that_are_none() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\n\
        c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
        e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
        g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nservice: web\nsecrets: *g\n";
    let large = format!("# {}\nservice: web\n", "x".repeat(100_000));
    for (text, words) in [
        (
            "service: web\nsecrts: [a]\n",
            &["web.yaml:2", "secrets"][..],
        ),
        ("service: web\nservice: api\n", &["web.yaml:2", "service"]),
        ("service: ../web\n", &["web.yaml:1"]),
        ("service: web\nsecrets:\n  - \"..\"\n", &["web.yaml:3"]),
        ("service: web\nsecrets: 7\n", &["web.yaml:2"]),
        ("service: [\n", &["web.yaml"]),
        ("", &["web.yaml"]),
        ("service web\nsecrt a\n", &["web.yaml:2", "secret"]),
        ("service: web\n\0\n", &["web.yaml"]),
        (bomb, &["web.yaml"]),
        (&large, &["web.yaml"]),
    ] {
        let file = pair.file("web.yaml", text);
        let said = clear(pair.deploy(&["run", file.to_str().unwrap()]));
        assert!(matches!(said.code, 1 | 2), "{text:.40}: {said}");
        said.says(words);
    }
    let file = pair.file("web.yaml", b"service: \xff\n");
    assert!(matches!(
        clear(pair.deploy(&["run", file.to_str().unwrap()])).code,
        1 | 2
    ));
    let folder = pair.folder().to_str().unwrap().to_owned();
    let absent = format!("{folder}/absent.yaml");
    for file in [folder, absent] {
        let said = clear(pair.deploy(&["run", &file]));
        assert_eq!(said.code, 1, "{said}");
        assert!(said.err().contains(&file), "{said}");
    }
}

#[test]
fn a_user_or_a_program_that_is_not_there() {
    let pair = Pair::start();
    let said = clear(
        pair.run_to_end(
            &Asked::service("web")
                .with("user", serde_json::json!("no-such-user"))
                .command(&["/bin/true"]),
        ),
    );
    assert_ne!(said.code, 0);
    said.says(&["no-such-user"]);
    let said = clear(pair.run_to_end(&Asked::service("web").command(&["/no/such/program"])));
    assert_eq!(said.code, 127, "{said}");
    let file = pair.file("not-executable", "");
    let said = clear(pair.run_to_end(&Asked::service("web").command(&[file.to_str().unwrap()])));
    assert_eq!(said.code, 126, "{said}");
    let said = clear(pair.run_to_end(&Asked::service("web")));
    assert!(matches!(said.code, 1 | 2), "no command at all: {said}");
    pair.leaves_nothing();
}

#[test]
fn exit_codes_and_signals_of_the_service_come_through() {
    let pair = Pair::start();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143)] {
        let said = pair.run_to_end(&Asked::service("web").command(&["/bin/sh", "-c", script]));
        assert_eq!(said.code, code, "{said}");
    }
}

#[test]
fn without_a_daemon_it_says_so() {
    let pair = Pair::prepare();
    for words in [&["status"][..], &["secret", "list"], &["seal"]] {
        let said = clear(pair.deploy(words));
        assert_eq!(said.code, 1, "{said}");
        assert!(
            said.err().contains("deploy-inject up"),
            "what mends it: {said}"
        );
    }
}

#[test]
fn a_sealed_daemon_is_exit_code_5() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    pair.deploy(&["seal"]).ok();
    for words in [
        &["secret", "get", "db_password"][..],
        &["secret", "list"],
        &["secret", "set", "new", "--generate"],
        &["key", "rotate"],
    ] {
        let said = clear(pair.deploy(words));
        assert_eq!(said.code, 5, "{said}");
        assert!(said.err().contains("deploy unseal"), "{said}");
    }
    let web = Asked::service("web")
        .user(user.uid())
        .secrets(&["db_password"])
        .command(&["/bin/true"]);
    assert_eq!(clear(pair.run_to_end(&web)).code, 5);
    pair.deploy(&["status"]).ok();
    pair.deploy(&["unseal"]).ok();
    pair.deploy(&["secret", "get", "new"]).code(4);
}

#[test]
fn a_second_pair_on_the_same_folders_is_refused() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    let said = clear(run(pair.up_command(), b""));
    assert_ne!(said.code, 0, "{said}");
    // Another run folder, the same store: secretsd itself refuses it.
    let elsewhere = pair.folder().join("other");
    std::fs::create_dir(&elsewhere).unwrap();
    let uid = pair.uid().to_string();
    let mut second = Command::new("setpriv");
    second
        .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"])
        .arg(pair.for_services("secretsd"))
        .arg("serve")
        .arg("--state-dir")
        .arg(pair.state())
        .arg("--run-dir")
        .arg(&elsewhere);
    let said = clear(run(second, b""));
    assert_ne!(said.code, 0, "{said}");
    assert_eq!(
        pair.deploy(&["secret", "get", "db_password"]).ok().out(),
        VALUE
    );
}

#[test]
fn init_never_overwrites_a_store() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    let said = clear(pair.init(&[]));
    assert_ne!(said.code, 0, "{said}");
    assert_eq!(
        pair.deploy(&["secret", "get", "db_password"]).ok().out(),
        VALUE
    );

    let other = Pair::prepare();
    std::fs::create_dir(other.state()).unwrap();
    std::fs::write(other.state().join("mine"), "not a store").unwrap();
    assert_ne!(clear(other.init(&[])).code, 0);
    assert!(other.state().join("mine").exists());
}

#[test]
fn a_full_disk_loses_nothing() {
    let mut pair = Pair::prepare();
    std::fs::create_dir(pair.state()).unwrap();
    // A disk of its own, removed with the pair's other mounts.
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o"])
        .arg(format!("size=64m,mode=700,uid={0},gid={0}", pair.uid()))
        .args(["tmpfs"])
        .arg(pair.state());
    run(mount, b"").ok();
    pair.init(&[]).ok();
    pair.up();
    pair.set("first", VALUE);
    let value = vec![b'x'; MIB];
    let mut kept = Vec::new();
    let refused = (0..200).find_map(|number| {
        let name = format!("large-{number}");
        let said = pair.deploy_with(&["secret", "set", &name, "--file", "-"], &value);
        if said.code == 0 {
            kept.push(name);
            None
        } else {
            Some(clear(said))
        }
    });
    let refused = refused.expect("64 MiB hold less than 200 MiB");
    assert_eq!(refused.code, 1, "{refused}");
    assert!(!kept.is_empty());
    let check = |pair: &Pair| {
        assert_eq!(pair.deploy(&["secret", "get", "first"]).ok().out(), VALUE);
        for name in &kept {
            let got = pair.deploy(&["secret", "get", name]).ok();
            assert!(got.stdout == value, "{name} is not as acknowledged");
        }
    };
    check(&pair);
    assert_eq!(pair.down(), 0, "{}", pair.log_text());
    pair.up();
    check(&pair);
    pair.leaves_nothing();
}

#[test]
fn a_passphrase_that_is_wrong_says_so() {
    let mut pair = Pair::prepare();
    let mut terminal = tests::Terminal::start(pair.init_command(&["--passphrase"]));
    terminal.type_hidden("right passphrase");
    terminal.shows("\n", 1);
    terminal.type_hidden("right passphrase");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    pair.up();
    pair.deploy(&["secret", "list"]).code(5);
    let mut terminal = pair.terminal(&["unseal"]);
    terminal.type_hidden("wrong passphrase");
    let (code, screen) = terminal.end();
    assert_eq!(code, 3, "{screen}");
    assert!(screen.to_lowercase().contains("wrong"), "{screen}");
    assert!(!screen.contains("wrong passphrase\r"), "echoed: {screen}");
    let mut terminal = pair.terminal(&["unseal"]);
    terminal.type_hidden("right passphrase");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    pair.deploy(&["secret", "list"]).ok();
}

#[test]
fn no_value_is_in_a_log_or_a_command_line() {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    let mut web = pair.probe(
        &Asked::service("web")
            .user(user.uid())
            .secrets(&["db_password"]),
    );
    assert_eq!(web.read("/secret/db_password").text(), VALUE);
    pair.revoke("web", "db_password");
    let _ = web.read("/secret/db_password");
    pair.deploy(&["status"]).ok().hides(VALUE);
    pair.deploy(&["secret", "list"]).ok().hides(VALUE);
    pair.deploy(&["secret", "history", "db_password"])
        .ok()
        .hides(VALUE);
    web.end().ok();
    assert!(!pair.log_text().contains(VALUE), "a value is in the log");
    let mut grep = Command::new("grep");
    grep.args(["-rla", VALUE]).arg(pair.state());
    assert_eq!(
        run(grep, b"").out(),
        "",
        "a value lies in the store in clear"
    );
    let mut grep = Command::new("grep");
    // The audit log names what was opened, in clear: it is written while the store is sealed.
    grep.args(["-rla", "--exclude-dir=audit", "db_password"])
        .arg(pair.state());
    assert_eq!(
        run(grep, b"").out(),
        "",
        "a name lies in the store in clear"
    );
}
