//! Where values come from and where they go: byte for byte, and never into an argument, an error or
//! a confirmation.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

mod played;

use std::sync::{Arc, Mutex};

use control::Plain;
use control::calls::{self, Method};
use serde_json::{Value, json};

use played::Played;

/// Keeps what `set` sends.
fn keeping() -> (Played, Arc<Mutex<Vec<Plain>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keeper = Arc::clone(&kept);
    let played = Played::new(move |call| {
        let set: calls::Set = call.parameters()?;
        keeper.lock().unwrap().push(set.plain()?);
        Ok(json!({"name": set.name, "version": 1, "created": 7}))
    });
    (played, kept)
}

fn single(plain: &Plain) -> &[u8] {
    match plain {
        Plain::Single(bytes) => bytes,
        Plain::Fields(_) => panic!("fields"),
    }
}

#[test]
fn a_value_arrives_byte_for_byte_from_a_file_and_from_standard_input() {
    let (played, kept) = keeping();
    let every: Vec<u8> = (0..=255).collect();
    let file = played.file("value", &every);
    let path = file.to_str().unwrap();
    let said = played
        .deploy(&["secret", "set", "a", "--file", path])
        .ends(0, &[]);
    assert_eq!(said.out, "a: version 1\n");
    for value in [&b""[..], b"text\n", &every, &vec![0; 1 << 20]] {
        played
            .deploy_with(&["secret", "set", "a", "--file", "-"], value)
            .ends(0, &[]);
    }
    let kept = kept.lock().unwrap();
    assert_eq!(single(&kept[0]), every);
    assert_eq!(single(&kept[1]), b"");
    assert_eq!(single(&kept[2]), b"text\n");
    assert_eq!(single(&kept[4]).len(), 1 << 20);
}

#[test]
fn what_is_more_than_a_mebibyte_is_not_sent() {
    let (played, kept) = keeping();
    let large = vec![b'x'; (1 << 20) + 1];
    let said = played.deploy_with(&["secret", "set", "a", "--file", "-"], &large);
    said.ends(1, &["standard input", "1 MiB"]);
    let fields = format!("a={}\nb={}\n", "x".repeat(600_000), "x".repeat(600_000));
    played
        .deploy_with(
            &["secret", "set", "a", "--from-env", "-"],
            fields.as_bytes(),
        )
        .ends(1, &[]);
    assert!(kept.lock().unwrap().is_empty());
}

#[test]
fn a_generated_value_is_kept_and_not_shown() {
    let (played, kept) = keeping();
    let one = played
        .deploy(&["secret", "set", "a", "--generate"])
        .ends(0, &[]);
    played
        .deploy(&["secret", "set", "a", "--generate", "64"])
        .ends(0, &[]);
    let kept = kept.lock().unwrap();
    assert_eq!((single(&kept[0]).len(), single(&kept[1]).len()), (32, 64));
    let shown = String::from_utf8(single(&kept[0]).to_vec()).unwrap();
    assert!(!one.out.contains(&shown) && !one.err.contains(&shown));
}

#[test]
fn fields_come_from_files_byte_for_byte_and_each_once() {
    let (played, kept) = keeping();
    let every: Vec<u8> = (0..=255).collect();
    let file = played.file("key", &every);
    let field = |name: &str| format!("{name}={}", file.display());
    let [key, again, bad] = [field("key.pem"), field("key.pem"), field("../key")];
    let set = |words: &[&str], input: &[u8]| {
        let words = [&["secret", "set", "tls"], words].concat();
        played.deploy_with(&words, input)
    };
    set(&["--field", &key, "--field", "cert.pem=-"], b"cert\n").ends(0, &[]);
    for (words, says) in [
        (["--field", &key, "--field", &again], "twice"),
        (["--field", "a=-", "--field", "b=-"], "one field"),
        (["--field", &key, "--field", "b"], "NAME=FILE"),
        (["--field", &key, "--field", &bad], "name"),
        (["--field", &key, "--generate", "20"], "cannot be used with"),
    ] {
        set(&words, b"").ends(2, &[says]);
    }
    set(&["--field", "a=/no/such/file"], b"").ends(1, &["/no/such/file"]);
    let kept = kept.lock().unwrap();
    let [Plain::Fields(fields)] = &kept[..] else {
        panic!("{} values", kept.len())
    };
    let got: Vec<_> = fields
        .iter()
        .map(|(name, bytes)| (name.as_str(), &bytes[..]))
        .collect();
    assert_eq!(got, [("cert.pem", &b"cert\n"[..]), ("key.pem", &every)]);
}

#[test]
fn fields_come_from_json_and_from_lines_and_their_errors_show_nothing() {
    let (played, kept) = keeping();
    let set = |how: &str, text: &str| {
        let file = played.file("fields", text);
        played.deploy(&["secret", "set", "a", how, file.to_str().unwrap()])
    };
    set("--from-json", r#"{"user":"admin","port":5432}"#).ends(0, &[]);
    set("--from-env", "user=admin\nport='5432'\n").ends(0, &[]);
    {
        let kept = kept.lock().unwrap();
        assert!(matches!(&kept[0], Plain::Fields(fields) if &fields["port"][..] == b"5432"));
        assert!(kept[0] == kept[1]);
    }
    for (how, text) in [
        ("--from-json", r#"{"a":"hush", "#),
        ("--from-json", r#"["hush"]"#),
        ("--from-env", "a='hush"),
        ("--from-env", "hush"),
    ] {
        let said = set(how, text).ends(1, &["fields"]);
        assert!(!said.err.contains("hush"), "{said:?}");
    }
    assert_eq!(kept.lock().unwrap().len(), 2);
}

#[test]
fn a_value_on_the_command_line_is_refused_and_not_repeated() {
    let nobody = Played::absent();
    let said = nobody
        .deploy(&["secret", "set", "a", "hush"])
        .ends(2, &["never an argument", "--file"]);
    assert!(!said.err.contains("hush"));
    nobody
        .deploy(&["secret", "set", "a", "--file", "x", "--generate"])
        .ends(2, &[]);
    let said = nobody.deploy(&["secret", "\u{1b}[31m"]).ends(2, &[]);
    assert!(!said.err.contains('\u{1b}'));
}

#[test]
fn without_a_terminal_nothing_waits_for_an_answer() {
    let (played, kept) = keeping();
    played
        .deploy(&["secret", "set", "a"])
        .ends(2, &["terminal", "--file"]);
    played
        .deploy(&["secret", "delete", "a"])
        .ends(2, &["terminal", "--yes"]);
    assert!(kept.lock().unwrap().is_empty());
}

fn got(value: Value) -> Played {
    Played::new(move |call| {
        assert_eq!(call.method, calls::Get::NAME);
        call.parameters::<calls::Get>()?;
        let mut reply = json!({"name": "a", "version": 3, "created": 7});
        reply
            .as_object_mut()
            .unwrap()
            .extend(value.as_object().unwrap().clone());
        Ok(reply)
    })
}

#[test]
fn a_value_goes_into_a_pipe_as_it_is() {
    let played = got(json!({"value": "AP8KAA==", "encoding": "base64"}));
    assert_eq!(
        played.deploy(&["secret", "get", "a"]).ends(0, &[]).bytes,
        b"\0\xff\n\0"
    );
    let said = played
        .deploy(&["secret", "get", "a", "--json"])
        .ends(0, &[]);
    let reply: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(reply["encoding"], "base64", "{said:?}");
    let played = got(json!({"value": "dGV4dA==", "encoding": "base64"}));
    let said = played
        .deploy(&["--json", "secret", "get", "a"])
        .ends(0, &[]);
    let reply: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&reply["value"], &reply["version"]),
        (&json!("text"), &json!(3))
    );
}

#[test]
fn fields_are_named_and_not_mixed_into_one_value() {
    let played =
        got(json!({"data": {"user": "aHVzaA==", "password": "aHVzaA=="}, "encoding": "base64"}));
    let said = played
        .deploy(&["secret", "get", "a"])
        .ends(2, &["password, user", "--field"]);
    assert!(said.out.is_empty() && !said.err.contains("hush"));
    let said = played
        .deploy(&["secret", "get", "a", "--json"])
        .ends(0, &[]);
    let reply: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(reply["data"]["user"], "hush");
}
