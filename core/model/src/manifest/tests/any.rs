//! Any manifest, and any bytes.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::super::rules::{self, SIGNALS};
use super::super::{Manifest, Modes, OnChange, Restart, SecretRequest, Targets};
use super::{WHOLE, WHOLE_LINES, parse};
use crate::Audit;

/// Text of a config or a word: anything but NUL.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        any::<String>().prop_map(|text| text.replace('\0', "")),
        Just("1.10".to_owned()),
        Just("~".to_owned()),
        Just(String::new()),
    ]
}

/// A line of text, as the line form has no other.
fn any_line() -> impl Strategy<Value = String> {
    any_text().prop_map(|text| text.replace(|c: char| c.is_control(), ""))
}

fn any_words(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<String>> {
    ("[a-z]{1,8}", vec(text, 0..4)).prop_map(|(program, mut words)| {
        words.insert(0, program);
        words
    })
}

/// A variable for the value, one for the path, and an owner.
fn any_keys() -> impl Strategy<Value = [Option<String>; 3]> {
    let word = || option::of("[A-Z]{2}_[A-Z0-9_]{0,4}");
    [word(), word(), word()]
}

prop_compose! {
    fn any_manifest()(
        service in "[a-z0-9][a-z0-9_-]{0,8}(\\.[a-z]{1,3})?",
        user in option::of(prop_oneof!["[a-z]{1,8}", "[0-9]{1,5}", "[0-9]{1,5}:[0-9]{1,5}"]),
        command in prop_oneof![Just(vec![]), any_words(any_line()).boxed()],
        secrets in btree_map("[a-z0-9]{1,6}", any_keys(), 0..5),
        config in btree_map("[A-Za-z0-9]{1,6}", any_line(), 0..5),
        config_from in btree_set("[a-z0-9]{1,6}", 0..3),
        on_change in option::of(prop_oneof![
            Just(OnChange::Restart),
            (0..SIGNALS.len()).prop_map(|n| OnChange::Signal(SIGNALS[n].into())),
            any_words(any_line()).prop_map(OnChange::Command),
        ]),
        restart in prop_oneof![Just(Restart::No), Just(Restart::OnFailure), Just(Restart::Always)],
        targets in prop_oneof![
            Just(Targets::default()),
            Just(Targets::new("/run/secrets", "/etc/a b").unwrap()),
        ],
        wait in option::of(1_u32..=86_400),
        file in 0_u16..8,
        folder in 0_u16..8,
    ) -> Manifest {
        let mut variables = BTreeSet::new();
        Manifest {
            service: service.parse().unwrap(),
            user,
            command,
            secrets: secrets
                .into_iter()
                .map(|(name, [env, env_file, owner])| SecretRequest {
                    // Of the name: any of the four.
                    audit: if name.len() % 2 == 0 { Audit::EveryRead } else { Audit::EveryOpen },
                    previous: name.len() % 3 == 0,
                    optional: name.len() % 4 == 0,
                    target: (name.len() % 4 == 1).then(|| format!("/etc/of/{name}").into()),
                    mode: (name.len() % 5 == 0).then_some(0o440),
                    name: name.parse().unwrap(),
                    env: env.filter(|env| variables.insert(env.clone())),
                    env_file: env_file.filter(|env| variables.insert(env.clone())),
                    owner: owner.map(|owner| owner.to_lowercase()),
                })
                .collect(),
            config: config.into_iter().map(|(k, v)| (k.parse().unwrap(), v)).collect(),
            config_from: config_from.into_iter().map(|name| name.parse().unwrap()).collect(),
            on_change,
            restart,
            wait,
            targets,
            modes: Modes::new((file & 5) << 3 | 0o400, (folder & 5) | 0o500).unwrap(),
        }
    }
}

/// As somebody would write it who lets a program write YAML.
fn to_yaml(m: &Manifest) -> String {
    let mut doc = serde_json::json!({
        "service": m.service, "config": m.config,
        "config_from": m.config_from, "restart": m.restart, "targets": m.targets,
        "secrets": m.secrets.iter().map(secret_to_yaml).collect::<Vec<_>>(),
        "file_mode": format!("{:04o}", m.modes.file),
        "folder_mode": format!("{:04o}", m.modes.folder),
    });
    if let Some(wait) = m.wait {
        doc["wait"] = format!("{wait}s").into();
    }
    if let Some(user) = &m.user {
        doc["user"] = user.clone().into();
    }
    if !m.command.is_empty() {
        doc["command"] = m.command.clone().into();
    }
    if let Some(on_change) = &m.on_change {
        doc["on_change"] = serde_json::to_value(on_change).unwrap();
    }
    serde_yaml::to_string(&doc).unwrap()
}

fn secret_to_yaml(secret: &SecretRequest) -> serde_json::Value {
    let mut doc = serde_json::to_value(secret).unwrap();
    if let Some(mode) = secret.mode {
        doc["mode"] = format!("{mode:04o}").into();
    }
    doc
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn to_lines(m: &Manifest) -> String {
    let words = |words: &[String]| {
        words
            .iter()
            .map(|w| quoted(w))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut lines = vec![format!("service {}", m.service)];
    lines.extend(m.user.iter().map(|user| format!("user {user}")));
    if !m.command.is_empty() {
        lines.push(format!("command {}", words(&m.command)));
    }
    for secret in &m.secrets {
        let env = secret
            .env
            .iter()
            .map(|env| format!(" env={env}"))
            .collect::<String>();
        let audit = match secret.audit {
            Audit::EveryOpen => "",
            Audit::EveryRead => " audit=every-read",
        };
        let previous = if secret.previous {
            " previous=true"
        } else {
            ""
        };
        let mut line = format!("secret {}{env}{previous}{audit}", secret.name);
        line.extend(
            secret
                .env_file
                .iter()
                .map(|name| format!(" env_file={name}")),
        );
        line.extend(secret.owner.iter().map(|owner| format!(" owner={owner}")));
        line.extend(secret.mode.map(|mode| format!(" mode={mode:04o}")));
        line.extend(
            secret
                .target
                .iter()
                .map(|path| format!(" target={}", path.display())),
        );
        if secret.optional {
            line.push_str(" optional=true");
        }
        lines.push(line);
    }
    lines.extend(
        m.config
            .iter()
            .map(|(key, value)| format!("config {key}={}", quoted(value))),
    );
    lines.extend(
        m.config_from
            .iter()
            .map(|name| format!("config_from {name}")),
    );
    lines.extend(m.on_change.iter().map(|change| match change {
        OnChange::Restart => "on_change restart".into(),
        OnChange::Signal(name) => format!("on_change signal {name}"),
        OnChange::Command(list) => format!("on_change command {}", words(list)),
    }));
    let restart = serde_json::to_value(m.restart).unwrap();
    lines.push(format!("restart {}", restart.as_str().unwrap()));
    lines.push(format!(
        "target secret {}",
        quoted(m.targets.secret.to_str().unwrap())
    ));
    lines.push(format!(
        "target config {}",
        quoted(m.targets.config.to_str().unwrap())
    ));
    lines.extend(m.wait.map(|wait| format!("wait {wait}s")));
    lines.push(format!("file_mode {:04o}", m.modes.file));
    lines.push(format!("folder_mode {:04o}", m.modes.folder));
    lines.join("\n")
}

proptest! {
    #[test]
    fn any_manifest_comes_back_from_both_forms_and_from_json(manifest in any_manifest()) {
        let yaml = to_yaml(&manifest);
        prop_assert_eq!(&parse(&yaml).unwrap(), &manifest, "{}", yaml);
        let lines = to_lines(&manifest);
        prop_assert_eq!(&parse(&lines).unwrap(), &manifest, "{}", lines);
        let json = serde_json::to_string(&manifest).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Manifest>(&json).unwrap(), &manifest);
        // JSON is YAML: the values of config in any way of escaping.
        prop_assert_eq!(&parse(&json_of_config(&manifest)).unwrap().config, &manifest.config);
    }

    #[test]
    fn any_text_in_config_comes_back_from_yaml(value in any_text()) {
        let text = serde_json::json!({"config": {"a": value}}).to_string();
        if let Ok(manifest) = parse(&text) {
            prop_assert_eq!(manifest.config.get("a").unwrap(), &value);
        } else {
            // What YAML has no place for, JSON's escapes for characters beyond 16 bits among it.
            prop_assert!(value.chars().any(|c| !(' '..='~').contains(&c)), "{}", text);
        }
    }

    #[test]
    fn any_bytes_are_a_manifest_or_an_error_of_bounded_length(bytes in vec(any::<u8>(), 0..300)) {
        check_any(&bytes);
    }

    #[test]
    fn any_text_of_yamls_own_characters_too(text in "[a-z:\\-{}\\[\\],&*!|>'\"%@`?#~ \n\t]{0,120}") {
        check_any(text.as_bytes());
    }

    #[test]
    fn a_manifest_with_any_change_too(at in 0..WHOLE.len(), by in any::<u8>(), cut in any::<bool>()) {
        for whole in [WHOLE, WHOLE_LINES] {
            let mut bytes = whole.as_bytes().to_vec();
            let at = at.min(bytes.len() - 1);
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] = by;
            }
            check_any(&bytes);
        }
    }
}

fn json_of_config(manifest: &Manifest) -> String {
    serde_yaml::to_string(&serde_json::json!({"config": manifest.config})).unwrap()
}

fn check_any(bytes: &[u8]) {
    match Manifest::parse(bytes, Path::new("web.yaml")) {
        Ok(manifest) => {
            rules::check(&manifest).unwrap();
            let json = serde_json::to_string(&manifest).unwrap();
            assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
        }
        Err(error) => {
            let words = error.to_string();
            assert!(
                words.len() < 1000 && !words.chars().any(char::is_control),
                "{words:?}"
            );
            let place = error.place();
            assert!(
                place.is_none_or(|(line, column)| line >= 1 && column >= 1),
                "{words}"
            );
        }
    }
}
