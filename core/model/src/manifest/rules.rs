//! Rules of single values, asked when a manifest is parsed and again when it comes from another
//! program. Each error is the end of a sentence, and shows no value.

use std::collections::BTreeSet;
use std::path::Path;

use super::{MAX_COUNT, Manifest, Modes, OnChange, Targets};
use crate::text;

/// Signals that a service can be sent on a change: those that a program can catch, and that are
/// not sent by the kernel for faults.
pub(super) const SIGNALS: [&str; 9] = [
    "HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "CONT", "WINCH",
];

/// A mount is made at the start, or not at all.
pub(super) const NOT_BOTH: &str = "a secret with a `target` cannot be optional";

/// The longest wait for a grant or an unseal, in seconds.
const LONGEST_WAIT: u32 = 24 * 60 * 60;

/// Variables that every service has (docs/semantics.md), in the order of the alphabet.
const FIXED: [&str; 8] = [
    "DEPLOY_SERVICE",
    "HOME",
    "LANG",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "USER",
];

pub(super) fn user(user: &str) -> Result<(), &'static str> {
    let sound = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '/' | '"' | '\'');
    if user.is_empty() || user.len() > 256 || user.starts_with('-') || !user.chars().all(sound) {
        return Err("expected a user's name, a number, or UID:GID");
    }
    Ok(())
}

pub(super) fn command(words: &[String]) -> Result<(), &'static str> {
    match words.first() {
        None => Err("expected a program"),
        Some(program) if program.is_empty() => Err("expected a program, found an empty word"),
        // What execve(2) cannot take.
        _ if words.iter().any(|word| word.contains('\0')) => Err("a word holds a NUL"),
        _ if words.len() > MAX_COUNT => Err("more than 4096 words"),
        _ => Ok(()),
    }
}

pub(super) fn env(name: &str) -> Result<(), String> {
    let sound = |(at, c): (usize, char)| {
        c == '_' || c.is_ascii_alphabetic() || at > 0 && c.is_ascii_digit()
    };
    if name.is_empty() || name.len() > 256 || !name.chars().enumerate().all(sound) {
        return Err("expected a variable's name: letters, digits and _, no digit first".into());
    }
    if FIXED.contains(&name) {
        return Err(format!(
            "{name} is a variable that every service has already"
        ));
    }
    Ok(())
}

/// A time to wait, in seconds.
pub(super) fn wait(text: &str) -> Result<u32, &'static str> {
    let time = text.parse::<jiff::SignedDuration>().ok();
    time.filter(|time| time.subsec_nanos() == 0)
        .and_then(|time| u32::try_from(time.as_secs()).ok())
        .filter(|seconds| (1..=LONGEST_WAIT).contains(seconds))
        .ok_or("expected a time from 1s to 24h, such as 30s or 5m")
}

/// The canonical name of a signal: `HUP` for `SIGHUP` too.
pub(super) fn signal(name: &str) -> Result<&'static str, String> {
    let bare = name.strip_prefix("SIG").unwrap_or(name);
    SIGNALS
        .iter()
        .find(|known| **known == bare)
        .copied()
        .ok_or_else(|| {
            let hint = text::did_you_mean(bare.trim_start_matches("sig"), &SIGNALS);
            format!("expected one of {}{hint}", text::list(&SIGNALS))
        })
}

/// Everything that the types of the fields do not say.
pub(super) fn check(manifest: &Manifest) -> Result<(), String> {
    if let Some(name) = &manifest.user {
        user(name).map_err(|error| format!("user: {error}"))?;
    }
    if !manifest.command.is_empty() {
        command(&manifest.command).map_err(|error| format!("command: {error}"))?;
    }
    match &manifest.on_change {
        Some(OnChange::Signal(name)) => {
            if signal(name)? != name {
                return Err("on_change: a signal's name is without SIG".into());
            }
        }
        Some(OnChange::Command(words)) => {
            command(words).map_err(|error| format!("on_change: {error}"))?;
        }
        Some(OnChange::Restart) | None => {}
    }
    let counts = [
        manifest.secrets.len(),
        manifest.config.len(),
        manifest.config_from.len(),
    ];
    if counts.iter().any(|count| *count > MAX_COUNT) {
        return Err(format!(
            "more than {MAX_COUNT} secrets, config keys or configs"
        ));
    }
    let mut names = BTreeSet::new();
    let mut variables = BTreeSet::new();
    let mut placed: Vec<&Path> = Vec::new();
    for secret in &manifest.secrets {
        if !names.insert(&secret.name) {
            return Err(format!("secret {} is asked for twice", secret.name));
        }
        for name in secret.env.iter().chain(&secret.env_file) {
            env(name)?;
            if !variables.insert(name) {
                return Err(format!("variable {name} is asked for twice"));
            }
        }
        if let Some(mode) = secret.mode {
            Modes::new(mode, mode).map_err(|error| format!("mode: {error}"))?;
        }
        if let Some(target) = &secret.target {
            let path = target.to_str().ok_or("target: not UTF-8")?;
            let beside = Targets::parse_one(path)
                .and_then(|path| manifest.targets.check_beside(&path, &placed));
            beside.map_err(|error| format!("target: {error}"))?;
            if secret.optional {
                return Err(NOT_BOTH.into());
            }
            placed.push(target);
        }
        if let Some(owner) = &secret.owner {
            user(owner).map_err(|error| format!("owner: {error}"))?;
        }
    }
    if manifest
        .wait
        .is_some_and(|wait| !(1..=LONGEST_WAIT).contains(&wait))
    {
        return Err("wait: expected 1 to 86400 seconds".into());
    }
    let mut configs = BTreeSet::new();
    match manifest
        .config_from
        .iter()
        .find(|name| !configs.insert(*name))
    {
        Some(name) => Err(format!("config {name} is named twice")),
        None => Ok(()),
    }
}
