//! The tree to a [`Manifest`]: the rules of both forms.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;

use super::error::Fault;
use super::rules;
use super::tree::{Key, Node, What};
use super::{Audit, MAX_COUNT, Manifest, Modes, OnChange, Restart, SecretRequest, Targets};
use crate::{ConfigKey, NameError, SecretName, text};

const KEYS: [&str; 12] = [
    "service",
    "user",
    "command",
    "secrets",
    "config",
    "config_from",
    "on_change",
    "restart",
    "wait",
    "targets",
    "file_mode",
    "folder_mode",
];
const SECRET_KEYS: [&str; 9] = [
    "name", "env", "env_file", "mode", "owner", "optional", "target", "audit", "previous",
];
const BOOLS: [(&str, bool); 2] = [("true", true), ("false", false)];
const AUDITS: [(&str, Audit); 2] = [
    ("every-open", Audit::EveryOpen),
    ("every-read", Audit::EveryRead),
];
const RESTARTS: [(&str, Restart); 3] = [
    ("no", Restart::No),
    ("on-failure", Restart::OnFailure),
    ("always", Restart::Always),
];

/// Reads the whole tree. `stem` is the service where the text names none.
pub(super) fn manifest(root: Node, stem: &str) -> Result<Manifest, Fault> {
    let at = root.at;
    let mut keys = Fields::of(root, &KEYS, "a map of keys, such as `service: web`")?;
    let service = match keys.take("service") {
        Some(node) => name(&node)?,
        None => stem.parse().map_err(|error: NameError| Fault {
            at,
            words: format!("no `service`, and the file's name does not give one: {error}"),
        })?,
    };
    let user = keys.take("user").map(user).transpose()?;
    let command = keys
        .take("command")
        .map(command)
        .transpose()?
        .unwrap_or_default();
    let secrets = keys
        .take("secrets")
        .map(secrets)
        .transpose()?
        .unwrap_or_default();
    let (places, secrets): (Vec<usize>, Vec<SecretRequest>) = secrets.into_iter().unzip();
    let config = keys
        .take("config")
        .map(config)
        .transpose()?
        .unwrap_or_default();
    let config_from = match keys.take("config_from") {
        Some(node) => distinct(list(node, "a list of stored configs")?, "config")?,
        None => Vec::new(),
    };
    let on_change = keys.take("on_change").map(on_change).transpose()?;
    let restart = keys
        .take("restart")
        .map(|node| one_of(&node, &RESTARTS))
        .transpose()?
        .unwrap_or_default();
    let wait = keys.take("wait").map(wait).transpose()?;
    let targets = keys
        .take("targets")
        .map(targets)
        .transpose()?
        .unwrap_or_default();
    let mut placed: Vec<&Path> = Vec::new();
    for (at, secret) in places.iter().zip(&secrets) {
        if let Some(target) = &secret.target {
            let beside = targets.check_beside(target, &placed);
            beside.map_err(|error| fault(*at, error))?;
            placed.push(target);
        }
    }
    let default = Modes::default();
    let file = keys
        .take("file_mode")
        .map(mode)
        .transpose()?
        .unwrap_or(default.file);
    let folder = keys
        .take("folder_mode")
        .map(mode)
        .transpose()?
        .unwrap_or(default.folder);
    let modes = Modes::new(file, folder).map_err(|error| fault(at, error))?;
    Ok(Manifest {
        service,
        user,
        command,
        secrets,
        config,
        config_from,
        on_change,
        restart,
        wait,
        targets,
        modes,
    })
}

fn fault(at: usize, words: impl ToString) -> Fault {
    Fault {
        at,
        words: words.to_string(),
    }
}

/// A map whose keys are known, each there once.
struct Fields(Vec<(Key, Node)>);

impl Fields {
    fn of(node: Node, known: &[&str], expected: &str) -> Result<Fields, Fault> {
        let entries = map(node, expected)?;
        for (key, _) in &entries {
            if !known.contains(&key.text.as_str()) {
                let shown = text::shown_keyword(&key.text);
                let words = text::nearest(&key.text, known.iter().copied()).map_or_else(
                    || {
                        format!(
                            "unknown key `{shown}`; expected one of {}",
                            text::list(known)
                        )
                    },
                    |word| format!("unknown key `{shown}`; did you mean `{word}`?"),
                );
                return Err(fault(key.at, words));
            }
        }
        Ok(Fields(entries))
    }

    fn take(&mut self, name: &str) -> Option<Node> {
        let index = self.0.iter().position(|(key, _)| key.text == name)?;
        Some(self.0.swap_remove(index).1)
    }
}

/// Entries in their order, no key twice.
fn map(node: Node, expected: &str) -> Result<Vec<(Key, Node)>, Fault> {
    let entries = match node.what {
        What::Map(entries) => entries,
        What::Null(_) => Vec::new(),
        What::Text(_) | What::List(_) => {
            return Err(fault(node.at, format!("expected {expected}")));
        }
    };
    let mut seen = BTreeSet::new();
    for (key, _) in &entries {
        if !seen.insert(&key.text) {
            let shown = text::shown_keyword(&key.text);
            return Err(fault(
                key.at,
                format!("`{shown}` is here for the second time"),
            ));
        }
    }
    Ok(entries)
}

fn list(node: Node, expected: &str) -> Result<Vec<Node>, Fault> {
    let nodes = match node.what {
        What::List(nodes) => nodes,
        What::Null(_) => Vec::new(),
        What::Text(_) | What::Map(_) => return Err(fault(node.at, format!("expected {expected}"))),
    };
    match nodes.get(MAX_COUNT) {
        Some(node) => Err(fault(node.at, format!("more than {MAX_COUNT}"))),
        None => Ok(nodes),
    }
}

fn scalar<'n>(node: &'n Node, expected: &str) -> Result<&'n str, Fault> {
    match &node.what {
        What::Text(text) => Ok(text),
        _ => Err(fault(node.at, format!("expected {expected}"))),
    }
}

fn name<T: FromStr<Err = NameError>>(node: &Node) -> Result<T, Fault> {
    // `null` is a name like any other, and a name that is not there is not.
    let text = match &node.what {
        What::Null(text) if !text.is_empty() => text,
        _ => scalar(node, "a name")?,
    };
    text.parse().map_err(|error| fault(node.at, error))
}

/// Names, none twice.
fn distinct<T>(nodes: Vec<Node>, what: &str) -> Result<Vec<T>, Fault>
where
    T: FromStr<Err = NameError> + Ord + Clone + std::fmt::Display,
{
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for node in nodes {
        let one: T = name(&node)?;
        if !seen.insert(one.clone()) {
            return Err(fault(
                node.at,
                format!("{what} {one} is here for the second time"),
            ));
        }
        names.push(one);
    }
    Ok(names)
}

fn user(node: Node) -> Result<String, Fault> {
    let text = scalar(&node, "a user's name, a number, or UID:GID")?;
    rules::user(text).map_err(|error| fault(node.at, error))?;
    Ok(text.to_owned())
}

fn command(node: Node) -> Result<Vec<String>, Fault> {
    let at = node.at;
    let mut words = Vec::new();
    for node in list(node, "a list of words, such as `[nginx, -g, daemon off;]`")? {
        match node.what {
            What::Text(text) | What::Null(text) => words.push(text),
            _ => return Err(fault(node.at, "expected a word")),
        }
    }
    rules::command(&words).map_err(|error| fault(at, error))?;
    Ok(words)
}

/// Each with its place.
fn secrets(node: Node) -> Result<Vec<(usize, SecretRequest)>, Fault> {
    let mut names = BTreeSet::new();
    let mut variables = BTreeSet::new();
    let mut secrets = Vec::new();
    for node in list(node, "a list of secrets, such as `[db_password]`")? {
        let (place, secret) = secret(node)?;
        if !names.insert(secret.name.clone()) {
            let words = format!("secret {} is here for the second time", secret.name);
            return Err(fault(place, words));
        }
        for variable in secret.env.iter().chain(&secret.env_file) {
            if !variables.insert(variable.clone()) {
                let words = format!("another secret is to be in the variable {variable} already");
                return Err(fault(place, words));
            }
        }
        secrets.push((place, secret));
    }
    Ok(secrets)
}

fn secret(node: Node) -> Result<(usize, SecretRequest), Fault> {
    let at = node.at;
    if !matches!(node.what, What::Map(_)) {
        let secret = SecretRequest::plain(name(&node)?);
        return Ok((at, secret));
    }
    let expected = "a secret's name, or a map with its `name`";
    let mut keys = Fields::of(node, &SECRET_KEYS, expected)?;
    let name: SecretName = match keys.take("name") {
        Some(node) => name(&node)?,
        None => return Err(fault(at, "a secret without a `name`")),
    };
    let mut secret = SecretRequest::plain(name);
    secret.env = keys.take("env").map(variable).transpose()?;
    secret.env_file = keys.take("env_file").map(variable).transpose()?;
    secret.mode = keys.take("mode").map(mode).transpose()?;
    secret.owner = keys.take("owner").map(user).transpose()?;
    if let Some(node) = keys.take("optional") {
        secret.optional = one_of(&node, &BOOLS)?;
    }
    if let Some(node) = keys.take("target") {
        let path = scalar(&node, "a path")?;
        let path = Targets::parse_one(path).map_err(|error| fault(node.at, error))?;
        if secret.optional {
            return Err(fault(node.at, rules::NOT_BOTH));
        }
        secret.target = Some(path);
    }
    if let Some(node) = keys.take("audit") {
        secret.audit = one_of(&node, &AUDITS)?;
    }
    if let Some(node) = keys.take("previous") {
        secret.previous = one_of(&node, &BOOLS)?;
    }
    Ok((at, secret))
}

fn variable(node: Node) -> Result<String, Fault> {
    let name = scalar(&node, "a variable's name")?;
    rules::env(name).map_err(|error| fault(node.at, error))?;
    Ok(name.to_owned())
}

fn wait(node: Node) -> Result<u32, Fault> {
    let text = scalar(&node, "a time, such as 30s")?;
    rules::wait(text).map_err(|error| fault(node.at, error))
}

/// A word out of a few.
fn one_of<T: Copy>(node: &Node, words: &[(&str, T)]) -> Result<T, Fault> {
    let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    let expected = format!("one of {}", text::list(&names));
    let given = scalar(node, &expected)?;
    let found = words.iter().find(|(word, _)| *word == given);
    found.map(|(_, meant)| *meant).ok_or_else(|| {
        let hint = text::did_you_mean(given, &names);
        fault(node.at, format!("expected {expected}{hint}"))
    })
}

fn config(node: Node) -> Result<BTreeMap<ConfigKey, String>, Fault> {
    let mut config = BTreeMap::new();
    for (key, node) in map(node, "a map of settings, such as `{log_level: debug}`")? {
        // The line form's `=`, within YAML: what follows it is a value, and is not shown.
        if key.text.contains('=') {
            return Err(fault(
                key.at,
                "expected `KEY: VALUE`, and found a `=` before the `:`",
            ));
        }
        let name: ConfigKey = key
            .text
            .parse()
            .map_err(|error: NameError| fault(key.at, error))?;
        match node.what {
            What::Text(text) | What::Null(text) => config.insert(name, text),
            _ => {
                let words = format!("expected one value for `{name}`, neither a list nor a map");
                return Err(fault(node.at, words));
            }
        };
        if config.len() > MAX_COUNT {
            return Err(fault(key.at, format!("more than {MAX_COUNT}")));
        }
    }
    Ok(config)
}

fn on_change(node: Node) -> Result<OnChange, Fault> {
    let expected = "`{signal: NAME}`, `{command: [WORDS]}` or `restart`";
    let at = node.at;
    if let What::Text(text) = &node.what {
        return match text.as_str() {
            "restart" => Ok(OnChange::Restart),
            _ => Err(fault(at, format!("expected {expected}"))),
        };
    }
    let mut keys = Fields::of(node, &["signal", "command"], expected)?;
    match (keys.take("signal"), keys.take("command")) {
        (Some(node), None) => {
            let name = scalar(&node, "a signal's name")?;
            let name = rules::signal(name).map_err(|error| fault(node.at, error))?;
            Ok(OnChange::Signal(name.to_owned()))
        }
        (None, Some(node)) => command(node).map(OnChange::Command),
        _ => Err(fault(at, format!("expected one of {expected}"))),
    }
}

fn targets(node: Node) -> Result<Targets, Fault> {
    let at = node.at;
    let expected = "a map, such as `{secret: /run/secrets}`";
    let mut keys = Fields::of(node, &["secret", "config"], expected)?;
    let mut one = |name: &str, default: &str| match keys.take(name) {
        Some(node) => {
            let path = scalar(&node, "a path")?;
            Targets::parse_one(path).map_err(|error| fault(node.at, error))?;
            Ok(path.to_owned())
        }
        None => Ok(default.to_owned()),
    };
    let (secret, config) = (one("secret", "/secret")?, one("config", "/config")?);
    Targets::new(&secret, &config).map_err(|error| fault(at, error))
}

fn mode(node: Node) -> Result<u16, Fault> {
    let text = scalar(&node, "permissions, such as \"0440\"")?;
    Modes::parse_one(text).map_err(|error| fault(node.at, error))
}
