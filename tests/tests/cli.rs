//! `deploy` as an operator types it: where values come from and go, words, colours, exit codes.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Command;

use serde_json::{Value, json};
use tests::{Pair, Terminal, wait};

const VALUE: &str = "a-value-nobody-may-see";

fn get(pair: &Pair, name: &str) -> Vec<u8> {
    pair.deploy(&["secret", "get", name]).ok().stdout
}

#[test]
fn a_value_comes_from_a_file_standard_input_or_chance_byte_for_byte() {
    let pair = Pair::start();
    let bytes = b"line\n\0\xff no end";
    let file = pair.file("value", bytes);
    pair.deploy(&["secret", "set", "a", "--file", file.to_str().unwrap()])
        .ok();
    assert_eq!(get(&pair, "a"), bytes);
    pair.deploy_with(&["secret", "set", "b", "--file", "-"], bytes)
        .ok();
    assert_eq!(get(&pair, "b"), bytes);

    let made = pair.deploy(&["secret", "set", "c", "--generate"]).ok();
    let first = get(&pair, "c");
    assert_eq!(first.len(), 32);
    assert!(first.iter().all(u8::is_ascii_alphanumeric));
    made.hides(std::str::from_utf8(&first).unwrap());
    pair.deploy(&["secret", "rotate", "c", "--generate", "64"])
        .ok();
    let second = get(&pair, "c");
    assert_eq!(second.len(), 64);
    assert_ne!(second[..32], first[..]);
    for length in ["0", "4097", "-1", "x"] {
        pair.deploy(&["secret", "set", "c", "--generate", length])
            .code(2);
    }
    for two in [["--generate", "--file"], ["--from-json", "--file"]] {
        pair.deploy(&["secret", "set", "c", two[0], two[1], "-"])
            .code(2);
    }
    assert_eq!(get(&pair, "c"), second);
}

#[test]
fn fields_come_from_json_or_env_files_and_mistakes_show_no_value() {
    let pair = Pair::start();
    let json = r#"{"username":"admin","password":"a \"b\"\n","number":7}"#;
    pair.deploy_with(
        &["secret", "set", "db", "--from-json", "-"],
        json.as_bytes(),
    )
    .ok();
    let got = pair.deploy(&["secret", "get", "db", "--json"]).ok().json();
    assert_eq!(got["data"]["password"], json!("a \"b\"\n"));
    for (text, place) in [
        (format!("{{\"a\":\"{VALUE}\""), "standard input"),
        (format!("[\"{VALUE}\"]"), "standard input"),
        (format!("{{\"a\":{{\"b\":\"{VALUE}\"}}}}"), "standard input"),
        (
            format!("{{\"a\":\"{VALUE}\",\"a\":\"{VALUE}\"}}"),
            "standard input",
        ),
        (format!("{{\"../a\":\"{VALUE}\"}}"), "standard input"),
    ] {
        let said = pair.deploy_with(
            &["secret", "set", "new", "--from-json", "-"],
            text.as_bytes(),
        );
        assert!(matches!(said.code, 1 | 2), "{said}");
        said.hides(VALUE).says(&[place]);
    }
    let env = format!("a={VALUE}\nb '{VALUE}\n");
    pair.deploy_with(&["secret", "set", "new", "--from-env", "-"], env.as_bytes())
        .code(1)
        .hides(VALUE)
        .says(&["standard input:2"]);
    pair.deploy(&["secret", "get", "new"]).code(4);
}

#[test]
fn a_value_is_never_an_argument_and_the_mistake_does_not_show_it() {
    let pair = Pair::start();
    for verb in ["set", "rotate"] {
        pair.deploy(&["secret", verb, "db_password", VALUE])
            .code(2)
            .hides(VALUE)
            .says(&["--file"]);
    }
    // Without a terminal nobody can be asked: it says how else, and does not hang.
    pair.deploy(&["secret", "set", "db_password"])
        .code(2)
        .says(&["--file", "--generate"]);
    pair.deploy(&["unseal"]).ok();
    pair.deploy(&["secret", "get", "db_password"]).code(4);
}

#[test]
fn get_shows_a_value_on_a_terminal_only_when_asked_to() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    let (code, screen) = pair.terminal(&["secret", "get", "db_password"]).end();
    assert_eq!(code, 2, "{screen}");
    assert!(
        screen.contains("--show") && !screen.contains(VALUE),
        "{screen}"
    );
    let (code, screen) = pair
        .terminal(&["secret", "get", "db_password", "--show"])
        .end();
    assert_eq!(code, 0, "{screen}");
    // So that the shell's prompt is on a line of its own.
    assert_eq!(screen, format!("{VALUE}\r\n"));
    let (code, screen) = pair
        .terminal(&["secret", "get", "db_password", "--json"])
        .end();
    assert!(code == 2 && !screen.contains(VALUE), "{screen}");
    assert_eq!(
        get(&pair, "db_password"),
        VALUE.as_bytes(),
        "nothing is added in a pipe"
    );
}

#[test]
fn ctrl_c_at_a_prompt_sets_nothing_and_gives_the_echo_back() {
    let pair = Pair::start();
    let mut shell = Command::new("/bin/sh");
    let deploy = pair.deploy_command(&["secret", "set", "db_password"]);
    shell
        .args([
            "-c",
            "\"$@\"; echo \"code-$?\"; stty -a | grep -o -- '-*\\becho\\b'",
            "sh",
        ])
        .arg(deploy.get_program())
        .args(deploy.get_args())
        .env("DEPLOY_RUN_DIR", pair.run_folder());
    let mut terminal = Terminal::start(shell);
    terminal.shows("db_password", 1);
    terminal.type_hidden(VALUE);
    terminal.shows("again", 1);
    terminal.press(0x03);
    terminal.shows("code-130", 1);
    let (_, screen) = terminal.end();
    assert!(screen.trim_end().ends_with("\necho"), "{screen}");
    assert!(!screen.contains(VALUE), "{screen}");
    pair.deploy(&["secret", "get", "db_password"]).code(4);
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let pair = Pair::start();
    let escape = '\u{1b}';
    let on_terminal = |no_color: Option<&str>| {
        let mut command = pair.deploy_command(&["secret", "get", "nothing", "--show"]);
        command.env_remove("NO_COLOR");
        if let Some(value) = no_color {
            command.env("NO_COLOR", value);
        }
        Terminal::start(command).end().1
    };
    assert!(on_terminal(None).contains(escape));
    assert!(!on_terminal(Some("1")).contains(escape));
    assert!(
        on_terminal(Some("")).contains(escape),
        "no-color.org: only when not empty"
    );
    for words in [
        &["secret", "get", "nothing"][..],
        &["no-such-verb"],
        &["--help"],
        &["status"],
    ] {
        let said = pair.deploy(words);
        assert!(
            !said.err().contains(escape) && !said.out().contains(escape),
            "{said}"
        );
    }
}

#[test]
fn quiet_confirms_nothing_and_json_everything() {
    let pair = Pair::start();
    for (words, key) in [
        (&["secret", "set", "a", "--generate"][..], "version"),
        (&["secret", "rotate", "a", "--generate"], "version"),
        (&["secret", "grant", "web", "a"], ""),
        (&["secret", "revoke", "web", "a"], "revoked"),
        (&["secret", "rollback", "a", "1"], "version"),
        (&["secret", "list"], "secrets"),
        (&["secret", "show", "a"], "services"),
        (&["secret", "readers", "a"], "services"),
        (&["config", "create", "c", "k=v"], "version"),
        (&["config", "set", "c", "k=w"], "version"),
        (&["key", "rotate"], "generation"),
        (&["key", "slot", "list"], "slots"),
        (&["seal"], ""),
        (&["unseal"], "generation"),
        (&["status"], "state"),
        (&["config", "delete", "c", "--yes"], ""),
        (&["secret", "delete", "a", "--yes"], "services"),
    ] {
        let mut json = words.to_vec();
        json.push("--json");
        let said = pair.deploy(&json).ok();
        let told = said.json();
        assert!(told.is_object(), "{said}");
        assert!(key.is_empty() || !told[key].is_null(), "{key}: {said}");
        assert_eq!(said.err(), "");
    }
    for words in [
        &["secret", "set", "a", "--generate", "--quiet"][..],
        &["-q", "secret", "grant", "web", "a"],
        &["key", "rotate", "--quiet"],
        &["secret", "delete", "a", "--yes", "--quiet"],
    ] {
        let said = pair.deploy(words).ok();
        assert_eq!(
            (said.out(), said.err()),
            (String::new(), String::new()),
            "{said}"
        );
    }
}

#[test]
fn errors_say_the_nearest_right_name_and_what_mends_them() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    pair.deploy(&["config", "create", "app.settings", "a=1"])
        .ok();
    for (words, code, hint) in [
        (
            &["secret", "get", "db_pasword"][..],
            4,
            "did you mean `db_password`",
        ),
        (
            &["secret", "show", "db_pasword"],
            4,
            "did you mean `db_password`",
        ),
        (
            &["secret", "grant", "web", "db_pasword"],
            4,
            "did you mean `db_password`",
        ),
        (
            &["secret", "revoke", "web", "db_pasword"],
            4,
            "did you mean `db_password`",
        ),
        (
            &["secret", "revoke", "wbe", "db_password"],
            4,
            "did you mean `web`",
        ),
        (
            &["config", "get", "app.setings"],
            4,
            "did you mean `app.settings`",
        ),
        (&["call", "secret.lst"], 2, "did you mean `secret.list`"),
        (&["secret", "lst"], 2, "list"),
        (
            &["secret", "get", "nothing-like-it-at-all"],
            4,
            "deploy secret list",
        ),
    ] {
        pair.deploy(words).code(code).says(&[hint]).hides(VALUE);
    }
    // A revoke that took some and not others is no success, and has taken what it could.
    pair.deploy(&["secret", "revoke", "web", "db_password", "other"])
        .code(4)
        .says(&["other"]);
    let readers = pair
        .deploy(&["secret", "readers", "db_password", "--json"])
        .ok()
        .json();
    assert_eq!(readers["services"], json!([]));
}

#[test]
fn status_and_show_tell_an_operator_how_things_are() {
    let pair = Pair::start();
    pair.set("db_password", VALUE);
    pair.grant("web", &["db_password"]);
    let web = pair.run(
        &tests::manifest::Asked::service("web")
            .secrets(&["db_password"])
            .command(&["sleep", "infinity"]),
    );
    let number = web.instance().number;
    let told = pair.deploy(&["status", "--json"]).ok().json();
    for (key, expected) in [
        ("state", json!("unsealed")),
        ("generation", json!(1)),
        ("cipher", json!("aes-256-gcm")),
        ("secrets", json!(1)),
        ("services", json!(1)),
        ("instances", json!(1)),
        ("injector", json!(true)),
        ("warnings", json!([])),
    ] {
        assert_eq!(told[key], expected, "{key}: {told}");
    }
    assert_eq!(told["records"]["writable"], json!(true));
    let shown = pair
        .deploy(&["secret", "show", "db_password", "--json"])
        .ok()
        .hides(VALUE)
        .json();
    let instances = &shown["services"][0]["instances"];
    assert_eq!(instances[0]["instance"], json!(number));
    assert_eq!(instances.as_array().unwrap().len(), 1);
    assert_eq!(shown["versions"], json!(1));
    let text = pair
        .deploy(&["secret", "show", "db_password"])
        .ok()
        .hides(VALUE)
        .out();
    assert!(text.contains("web, in instance"), "{text}");
    pair.deploy(&["stop", "web"]).ok();
    wait::until("the instance to be gone", || {
        let told: Value = pair.deploy(&["status", "--json"]).ok().json();
        (told["instances"] == json!(0)).then_some(())
    });
}

#[test]
fn every_verb_helps_with_an_example_and_shells_and_man_pages_are_served() {
    let pair = Pair::prepare();
    for words in [
        &["--help"][..],
        &["init", "--help"],
        &["run", "--help"],
        &["secret", "set", "--help"],
        &["config", "create", "--help"],
        &["key", "slot", "add", "--help"],
        &["call", "--help"],
    ] {
        let said = pair.deploy(words).ok();
        assert!(
            said.out().contains("Example:\n") && said.out().contains("deploy "),
            "{said}"
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        let said = pair.deploy(&["completion", shell]).ok();
        assert!(said.out().contains("rollback"), "{shell}");
    }
    let said = pair.deploy(&["--version"]).ok();
    assert!(said.out().starts_with("deploy "), "{said}");
}

#[test]
fn folders_are_named_by_flags_too_so_that_pairs_run_side_by_side() {
    let (one, other) = (Pair::start(), Pair::start());
    one.set("a", "of one");
    other.set("a", "of the other");
    let folder = other.run_folder();
    let words = ["secret", "get", "a", "--run-dir", folder.to_str().unwrap()];
    assert_eq!(
        one.deploy(&words).ok().out(),
        "of the other",
        "the flag wins"
    );
    assert_eq!(get(&one, "a"), b"of one");
    drop(other);
    assert_eq!(get(&one, "a"), b"of one");
    one.deploy(&words).code(1).says(&["deploy-inject up"]);
    one.leaves_nothing();
}
