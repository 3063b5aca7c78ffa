//! A manifest that comes to be, with the commands and notes that belong to it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use model::{Manifest, SecretName};
use serde::Serialize;
use zeroize::Zeroizing;

use super::Refused;
use super::words::shell_quoted;
use crate::failure::Failure;

/// What an importer finds.
#[derive(Default)]
pub struct Draft {
    pub service: String,
    pub user: Option<String>,
    pub command: Vec<String>,
    pub secrets: Vec<Asked>,
    pub restart: Option<&'static str>,
    /// A signal.
    pub on_change: Option<String>,
    /// Where secrets have been so far.
    pub secret_target: Option<String>,
    /// What could not be carried over, and what is to be known.
    pub notes: Vec<String>,
    /// Values that are in the file itself, by their names there.
    pub values: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

/// A secret, and where its value comes from.
#[derive(Default)]
pub struct Asked {
    pub name: String,
    pub env: Option<String>,
    pub env_file: Option<String>,
    pub mode: Option<String>,
    pub owner: Option<String>,
    pub from: From,
}

/// Where a value is.
#[derive(Default)]
pub enum From {
    /// Nobody knows: it is asked for.
    #[default]
    Prompt,
    File(String),
    /// What another command prints.
    Piped(String),
}

/// What is printed.
#[derive(Debug, Serialize)]
pub struct Imported {
    pub service: String,
    pub manifest: String,
    pub commands: Vec<String>,
    pub notes: Vec<String>,
}

impl Draft {
    /// Takes a secret in, under a name that a secret can have.
    pub fn add(&mut self, theirs: &str, mut asked: Asked) -> Result<(), Refused> {
        let name = secret_name(theirs).ok_or_else(|| {
            format!(": no secret can have the name `{theirs}`, nor one like it; rename it there")
        })?;
        if self.secrets.iter().any(|other| other.name == name) {
            return Err(format!(
                ": two names become the secret {name}; rename one of them"
            ));
        }
        if name != theirs && asked.env.is_none() {
            self.notes.push(format!(
                "{theirs} becomes the secret {name}, and its file has that name too"
            ));
        }
        asked.name = name;
        self.secrets.push(asked);
        Ok(())
    }

    /// The secret that `theirs` became.
    pub fn find(&mut self, theirs: &str) -> Option<&mut Asked> {
        let name = secret_name(theirs)?;
        self.secrets.iter_mut().find(|one| one.name == name)
    }

    /// The manifest's text, checked as `deploy run` does it.
    pub fn finish(&self) -> Result<Imported> {
        let manifest = self.manifest();
        Manifest::parse(manifest.as_bytes(), Path::new("the imported manifest")).map_err(
            |error| {
                Failure::failed(format!("what was found makes no manifest: {error}"))
                    .hint("name the service with --service, or change the file")
            },
        )?;
        let mut commands: Vec<String> = self.secrets.iter().map(Asked::command).collect();
        if !self.secrets.is_empty() {
            let names: Vec<&str> = self.secrets.iter().map(|one| one.name.as_str()).collect();
            let (service, names) = (&self.service, names.join(" "));
            commands.push(format!("deploy secret grant {service} {names}"));
        }
        Ok(Imported {
            service: self.service.clone(),
            manifest,
            commands,
            notes: self.notes.clone(),
        })
    }

    fn manifest(&self) -> String {
        let mut text = format!("service: {}\n", scalar(&self.service));
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = writeln!(text, "{key}: {value}");
            }
        };
        line("user", self.user.as_deref().map(scalar));
        let words: Vec<String> = self.command.iter().map(|word| scalar(word)).collect();
        line(
            "command",
            Some(format!("[{}]", words.join(", "))).filter(|_| !words.is_empty()),
        );
        if !self.secrets.is_empty() {
            line("secrets", Some(String::new()));
        }
        for one in &self.secrets {
            let _ = writeln!(text, "  - name: {}", scalar(&one.name));
            let keys = [
                ("env", &one.env),
                ("env_file", &one.env_file),
                ("mode", &one.mode),
                ("owner", &one.owner),
            ];
            for (key, value) in keys {
                if let Some(value) = value {
                    let _ = writeln!(text, "    {key}: {}", scalar(value));
                }
            }
        }
        let mut line = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = writeln!(text, "{key}: {value}");
            }
        };
        let signal = self.on_change.as_ref();
        line(
            "on_change",
            signal.map(|name| format!("{{signal: {name}}}")),
        );
        line("restart", self.restart.map(scalar));
        let target = self.secret_target.as_deref();
        line(
            "targets",
            target.map(|path| format!("{{secret: {}}}", scalar(path))),
        );
        text.replace(": \n", ":\n")
    }
}

impl Asked {
    /// How the value gets in: never as an argument.
    fn command(&self) -> String {
        let name = &self.name;
        match &self.from {
            From::Prompt => format!("deploy secret set {name}"),
            From::File(path) => format!("deploy secret set {name} --file {}", shell_quoted(path)),
            From::Piped(command) => format!("{command} | deploy secret set {name} --file -"),
        }
    }
}

impl Imported {
    /// A manifest as a whole; all else is comments.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for note in &self.notes {
            let _ = writeln!(text, "# Note: {}", note.replace(['\n', '\r'], " "));
        }
        for command in &self.commands {
            let _ = writeln!(text, "# {}", command.replace(['\n', '\r'], " "));
        }
        text.push_str(&self.manifest);
        text
    }
}

/// The nearest name that a secret can have; `None`: there is none.
fn secret_name(theirs: &str) -> Option<String> {
    let sound = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
    let name: String = theirs
        .to_ascii_lowercase()
        .chars()
        .map(|c| if sound(c) { c } else { '_' })
        .collect();
    let name = name.trim_start_matches(['_', '.', '-']).to_owned();
    name.parse::<SecretName>().is_ok().then_some(name)
}

/// Text as YAML has it: bare where nobody can misread it, else as JSON, which YAML takes too.
fn scalar(text: &str) -> String {
    let bare =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@');
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let is_word = matches!(
        text.to_ascii_lowercase().as_str(),
        "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    match begins && text.chars().all(bare) && !is_word {
        true => text.to_owned(),
        false => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn whatever_words_there_are_the_manifest_says_them_again() {
        let command = [
            "/bin/app",
            "-g",
            "daemon off;",
            "no",
            "# x",
            "a: b",
            "é\n",
            "\"'",
        ];
        let mut draft = Draft {
            service: "web".into(),
            user: Some("33:33".into()),
            command: command.map(str::to_owned).into(),
            restart: Some("no"),
            on_change: Some("HUP".into()),
            secret_target: Some("/run/my secrets".into()),
            ..Draft::default()
        };
        let asked = Asked {
            env_file: Some("DB_FILE".into()),
            mode: Some("0440".into()),
            ..Asked::default()
        };
        draft.add("DB Password", asked).unwrap();
        let imported = draft.finish().unwrap();
        let text = imported.text();
        let read = Manifest::parse(text.as_bytes(), "x.yaml".as_ref()).unwrap();
        assert_eq!(read.command, command);
        assert_eq!(read.user.as_deref(), Some("33:33"));
        assert_eq!(read.secrets[0].name.as_str(), "db_password");
        assert_eq!(read.secrets[0].mode, Some(0o440));
        assert_eq!(read.targets.secret.to_str(), Some("/run/my secrets"));
        assert!(text.contains("# Note: DB Password becomes"), "{text}");
        assert!(draft.add("db-password", Asked::default()).is_ok());
        assert!(draft.add("DB_password", Asked::default()).is_err());
        assert!(draft.add("___", Asked::default()).is_err());
    }
}
