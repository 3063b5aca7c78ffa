//! What is refused, where, and in which words.

use super::{parse, refused};

/// Text, and how its error begins.
const REFUSED: &[(&str, &str)] = &[
    (
        "service: web\nsecrts: [a]\n",
        "web.yaml:2:1: unknown key `secrts`; did you mean `secrets`?",
    ),
    (
        "service: web\nxyzzy: 1\n",
        "web.yaml:2:1: unknown key `xyzzy`; expected one of `service`, ",
    ),
    (
        "service: web\nservice: api\n",
        "web.yaml:2:1: `service` is here for the second time",
    ),
    (
        "service: ../web\n",
        "web.yaml:1:10: `../web` is not a service name: ",
    ),
    ("service:\n", "web.yaml:1:9: expected a name"),
    (
        "service: web\nsecrets:\n  - \"..\"\n",
        "web.yaml:3:5: `..` is not a secret name: ",
    ),
    (
        "service: web\nsecrets: 7\n",
        "web.yaml:2:10: expected a list of secrets",
    ),
    (
        "secrets: [a, b, a]\n",
        "web.yaml:1:17: secret a is here for the second time",
    ),
    (
        "secrets:\n- name: a\n  nam: b\n",
        "web.yaml:3:3: unknown key `nam`; did you mean `name`?",
    ),
    (
        "secrets:\n- env: A\n",
        "web.yaml:2:3: a secret without a `name`",
    ),
    (
        "secrets:\n- {name: a, env: 1A}\n",
        "web.yaml:2:18: expected a variable's name",
    ),
    (
        "secrets:\n- {name: a, env: PATH}\n",
        "web.yaml:2:18: PATH is a variable that every service",
    ),
    (
        "secrets:\n- {name: a, env: X}\n- {name: b, env: X}\n",
        "web.yaml:3:3: another secret is to",
    ),
    (
        "secrets:\n- {name: a, audit: every-rea}\n",
        "web.yaml:2:20: expected one of `every-open`, `every-read`; did you mean `every-read`?",
    ),
    (
        "secrets:\n- {name: a, previous: yes}\n",
        "web.yaml:2:23: expected one of `true`, `false`",
    ),
    (
        "secrets:\n- {name: a, env: X}\n- {name: b, env_file: X}\n",
        "web.yaml:3:3: another secret is to",
    ),
    (
        "secrets:\n- {name: a, env_file: HOME}\n",
        "web.yaml:2:23: HOME is a variable that every service",
    ),
    (
        "secrets:\n- {name: a, env_fil: X}\n",
        "web.yaml:2:13: unknown key `env_fil`; did you mean `env_file`?",
    ),
    (
        "secrets:\n- {name: a, mode: 0640}\n",
        "web.yaml:2:19: a view is read-only",
    ),
    (
        "secrets:\n- {name: a, mode: r--}\n",
        "web.yaml:2:19: expected permissions as an octal number",
    ),
    (
        "secrets:\n- {name: a, owner: a b}\n",
        "web.yaml:2:20: expected a user's name",
    ),
    (
        "secrets:\n- {name: a, optional: maybe}\n",
        "web.yaml:2:23: expected one of `true`, `false`",
    ),
    (
        "secrets:\n- {name: a, target: b}\n",
        "web.yaml:2:21: expected an absolute path",
    ),
    (
        "secrets:\n- {name: a, target: /secret/a}\n",
        "web.yaml:2:3: no target may be another one's",
    ),
    (
        "secrets:\n- {name: a, target: /x}\n- {name: b, target: /x/b}\n",
        "web.yaml:3:3: no target may be another one's",
    ),
    (
        "targets: {config: /x}\nsecrets:\n- {name: a, target: /x}\n",
        "web.yaml:3:3: no target may be another one's",
    ),
    (
        "secrets:\n- {name: a, optional: true, target: /x}\n",
        "web.yaml:2:37: a secret with a `target` cannot be optional",
    ),
    (
        "service web\nsecret a target=x\n",
        "web.yaml:2:17: expected an absolute path",
    ),
    ("wait: 30\n", "web.yaml:1:7: expected a time from 1s to 24h"),
    ("wait: 0s\n", "web.yaml:1:7: expected a time from 1s to 24h"),
    (
        "wait: -5s\n",
        "web.yaml:1:7: expected a time from 1s to 24h",
    ),
    (
        "wait: 1500ms\n",
        "web.yaml:1:7: expected a time from 1s to 24h",
    ),
    (
        "wait: 25h\n",
        "web.yaml:1:7: expected a time from 1s to 24h",
    ),
    ("wait: [1s]\n", "web.yaml:1:7: expected a time, such as 30s"),
    ("service web\nwait soon\n", "web.yaml:2:6: expected a time"),
    (
        "service web\nsecret a mode=0640\n",
        "web.yaml:2:15: a view is read-only",
    ),
    (
        "service web\nsecret a owner=\n",
        "web.yaml:2:16: expected a user's name",
    ),
    (
        "service web\nsecret a optional=1\n",
        "web.yaml:2:19: expected one of `true`, `false`",
    ),
    ("secrets:\n- [a]\n", "web.yaml:2:3: expected a name"),
    (
        "config:\n  a: 1\n  b: 2\n  a: 3\n",
        "web.yaml:4:3: `a` is here for the second time",
    ),
    (
        "config: {a: [b]}\n",
        "web.yaml:1:13: expected one value for `a`, neither a list nor a map",
    ),
    ("config: [a]\n", "web.yaml:1:9: expected a map of settings"),
    (
        "config: {a/b: 1}\n",
        "web.yaml:1:10: `a/b` is not a config key: ",
    ),
    ("config: {[a]: 1}\n", "web.yaml:1:10: a key is plain text"),
    (
        "config_from: [a, a]\n",
        "web.yaml:1:18: config a is here for the second time",
    ),
    (
        "command: nginx\n",
        "web.yaml:1:10: expected a list of words",
    ),
    ("command: []\n", "web.yaml:1:10: expected a program"),
    ("command: [\"a\\0\"]\n", "web.yaml:1:10: a word holds a NUL"),
    ("user: [a]\n", "web.yaml:1:7: expected a user's name"),
    ("user: a b\n", "web.yaml:1:7: expected a user's name"),
    (
        "restart: on-failur\n",
        "web.yaml:1:10: expected one of `no`, `on-failure`, `always`; did you mean `on-failure`?",
    ),
    (
        "on_change: {signal: KILL}\n",
        "web.yaml:1:21: expected one of `HUP`, ",
    ),
    (
        "on_change: {signal: sighup}\n",
        "web.yaml:1:21: expected one of `HUP`, `INT`, `QUIT`, `USR1`, `USR2`, `ALRM`, `TERM`, `CONT`, `WINCH`; did you mean `HUP`?",
    ),
    (
        "on_change: {signal: HUP, command: [a]}\n",
        "web.yaml:1:12: expected one of `{signal",
    ),
    ("on_change: reload\n", "web.yaml:1:12: expected `{signal"),
    (
        "targets: {secret: secret}\n",
        "web.yaml:1:19: expected an absolute path",
    ),
    (
        "targets: {secret: /proc/x}\n",
        "web.yaml:1:19: a view cannot be at",
    ),
    (
        "targets: {config: /secret/a}\n",
        "web.yaml:1:10: the secret and the config target",
    ),
    ("file_mode: 0640\n", "web.yaml:1:12: a view is read-only"),
    (
        "file_mode: r--\n",
        "web.yaml:1:12: expected permissions as an octal number",
    ),
    (
        "service: [\n",
        "web.yaml:2:1: not YAML: did not find expected node content",
    ),
    ("service: web\n\tx: 1\n", "web.yaml:2:1: not YAML: "),
    ("service: *a\n", "web.yaml:1:10: not YAML: unknown anchor"),
    ("- web\n", "web.yaml:1:1: expected a map of keys"),
    ("service: !x web\n", "web.yaml:1:10: a manifest has no tags"),
    (
        "service: !!int web\n",
        "web.yaml:1:10: a value does not fit its tag",
    ),
    ("config: &a {b: *a}\n", "web.yaml:1:9: "),
    (
        "service: web\n---\nservice: api\n",
        "web.yaml: more than one document",
    ),
    ("", "web.yaml: the manifest is empty"),
    ("# nothing\n\n", "web.yaml: the manifest is empty"),
    ("---\n", "web.yaml: the manifest is empty"),
    ("service: web\n\0\n", "web.yaml:2:1: a NUL byte"),
    ("a: b", "web.yaml:1:1: unknown key `a`"),
    // the line form
    (
        "service web\nsecrt a\n",
        "web.yaml:2:1: unknown word `secrt`; did you mean `secret`?",
    ),
    (
        "service web\n  hunter2\n",
        "web.yaml:2:3: unknown word `hunter2`; expected one of `service`, ",
    ),
    (
        "service web\nservice api\n",
        "web.yaml:2:1: `service` is here for the second time",
    ),
    (
        "service web api\n",
        "web.yaml:1:13: expected `service VALUE`",
    ),
    ("service\n", "web.yaml:1:8: expected `service VALUE`"),
    (
        "secret a\nsecret ../b\n",
        "web.yaml:2:8: `../b` is not a secret name",
    ),
    (
        "secret a\nsecret b\nsecret a\n",
        "web.yaml:3:8: secret a is here for the second time",
    ),
    ("secret\n", "web.yaml:1:1: expected `secret NAME`"),
    ("secret a b\n", "web.yaml:1:10: expected `secret NAME`"),
    (
        "secret a env=1\n",
        "web.yaml:1:14: expected a variable's name",
    ),
    ("config a\n", "web.yaml:1:8: expected `config KEY=VALUE`"),
    (
        "config a=1\nconfig a=2\n",
        "web.yaml:2:8: `a` is here for the second time",
    ),
    ("config ä=1\n", "web.yaml:1:8: `ä` is not a config key"),
    (
        "config a='b' c\n",
        "web.yaml:1:10: expected one quoted value",
    ),
    ("command 'a\n", "web.yaml:1:9: this quote is not closed"),
    ("command \"\\x\"\n", "web.yaml:1:11: within \"...\""),
    ("command\n", "web.yaml:1:1: expected a program"),
    (
        "command a\ncommand b\n",
        "web.yaml:2:1: `command` is here for the second time",
    ),
    (
        "target secrets /run\n",
        "web.yaml:1:8: unknown key `secrets`; did you mean `secret`?",
    ),
    (
        "target secret\n",
        "web.yaml:1:8: expected `target secret PATH`",
    ),
    (
        "target secret run\n",
        "web.yaml:1:15: expected an absolute path",
    ),
    ("on_change signal\n", "web.yaml:1:11: expected `restart`"),
    ("restart maybe\n", "web.yaml:1:9: expected one of `no`"),
    (
        "service web\nsecret a\u{1b}[31m\n",
        "web.yaml:2:9: a control character",
    ),
];

#[test]
fn each_refusal_has_its_place_and_what_was_expected() {
    for (text, words) in REFUSED {
        let error = refused(text);
        assert!(
            error.starts_with(words),
            "{text:?}\n gives {error}\n and not {words}"
        );
        assert!(!error.chars().any(char::is_control), "{error:?}");
    }
}

#[test]
fn no_value_of_config_is_in_an_error() {
    for text in [
        "config: {a: hunter2, a: hunter2}",
        "config: {a: [hunter2]}",
        "config: hunter2",
        "config: [hunter2]",
        "config: {a: !!int hunter2}",
        "config: {a: !hunter hunter2}",
        "config: {a: hunter2",
        "config: {a: 'hunter2}",
        "config: {a: \"\\hunter2\"}",
        "config:\n  a: hunter2\n b: hunter2",
        "config:\n  password=hunter2\n",
        "config:\n  password=hunter2: 1\n",
        "password=hunter2: 1",
        "secrets:\n- db_password: hunter2",
        "restart: hunter2",
        "on_change: hunter2",
        "file_mode: hunter2",
        "config hunter2",
        "config a hunter2=1",
        "config a='hunter2",
        "config a='hunter2' x",
        "config a=\"hunter2\\x\"",
        "service w\nconfig a=hunter2\nconfig a=hunter2",
        "service w\npassword=hunter2",
        "service w\nrestart hunter2",
    ] {
        let error = refused(text);
        assert!(!error.contains("unter2"), "{text:?}: {error}");
    }
    let manifest = parse("config: {a: hunter2}").unwrap();
    assert!(!format!("{manifest:?}").contains("hunter2"));
}
