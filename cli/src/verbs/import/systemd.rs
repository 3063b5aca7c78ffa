//! From a systemd unit, or from what `systemctl cat` prints of one with its drop-ins.

use std::path::Path;

use zeroize::Zeroizing;

use super::draft::{Asked, Draft, From};
use super::words::{shell_quoted, split};
use super::{Refused, at};

/// Where a service of ours has its secrets, in place of $CREDENTIALS_DIRECTORY.
const SECRETS: &str = "/secret";

pub fn draft(text: &str, file: &Path, service: &str) -> Result<Draft, Refused> {
    // `web@.service` and `web@1.service` are one manifest.
    let service = service.split('@').next().unwrap_or(service);
    let mut draft = Draft {
        service: service.to_ascii_lowercase(),
        ..Draft::default()
    };
    let mut unit = Unit {
        file,
        draft: &mut draft,
        commands: 0,
        left: Vec::new(),
        environment: Vec::new(),
    };
    let mut is_service = false;
    let mut any = false;
    for (number, line) in lines(text) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.strip_suffix(']');
            is_service =
                section.ok_or_else(|| at(number, "a section without its `]`"))? == "Service";
            any |= is_service;
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(at(number, "expected KEY=VALUE"));
        };
        if is_service {
            unit.take(key.trim(), value.trim())
                .map_err(|why| at(number, why))?;
        }
    }
    if !any {
        return Err(": there is no [Service] section".into());
    }
    unit.finish();
    Ok(draft)
}

/// Lines with the number of their first, comments left out, continuations put together.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut all: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with(['#', ';']) || (line.is_empty() && !goes_on) {
            continue;
        }
        let (line, more) = match line.strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        match all.last_mut() {
            Some((_, last)) if goes_on => {
                last.push(' ');
                last.push_str(line);
            }
            _ => all.push((number + 1, line.to_owned())),
        }
        goes_on = more;
    }
    all
}

struct Unit<'a> {
    file: &'a Path,
    draft: &'a mut Draft,
    commands: usize,
    /// Keys that are not carried over.
    left: Vec<String>,
    /// Variables that lead to a credential.
    environment: Vec<(String, String)>,
}

impl Unit<'_> {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "LoadCredential" | "LoadCredentialEncrypted" if value.is_empty() => {
                self.draft
                    .secrets
                    .retain(|one| matches!(one.from, From::Piped(_)));
                Ok(())
            }
            "LoadCredential" => self.load(value, false),
            "LoadCredentialEncrypted" => self.load(value, true),
            "SetCredential" => self.set(value, false),
            "SetCredentialEncrypted" => self.set(value, true),
            "ExecStart" => self.exec_start(value),
            "ExecReload" => {
                match signal_of(value) {
                    Some(signal) => self.draft.on_change = Some(signal),
                    None => self.leave(key),
                }
                Ok(())
            }
            "Environment" => self.environment(value),
            "User" if !value.contains('%') => {
                self.draft.user = Some(value.to_owned()).filter(|user| !user.is_empty());
                Ok(())
            }
            "Restart" => {
                self.draft.restart = match value {
                    "no" | "" => None,
                    "on-failure" => Some("on-failure"),
                    "always" => Some("always"),
                    _ => {
                        self.draft.notes.push(format!(
                            "Restart={value} became on-failure, the nearest that there is"
                        ));
                        Some("on-failure")
                    }
                };
                Ok(())
            }
            "Type" if matches!(value, "simple" | "exec") => Ok(()),
            _ => {
                self.leave(key);
                Ok(())
            }
        }
    }

    fn leave(&mut self, key: &str) {
        // Never with its value: that may be a secret.
        if !self.left.iter().any(|known| known == key) {
            self.left.push(key.to_owned());
        }
    }

    /// `ID:PATH`, `ID:NAME` or `ID`.
    fn load(&mut self, value: &str, encrypted: bool) -> Result<(), String> {
        let (id, path) = value.split_once(':').unwrap_or((value, ""));
        let id = self.id(id)?;
        if path.contains('%') {
            return Err(format!(
                "the path of {id} has a specifier (%); write it out"
            ));
        }
        let from = match (path.starts_with('/'), encrypted) {
            (true, true) => {
                let (id, path) = (shell_quoted(&id), shell_quoted(path));
                From::Piped(format!("systemd-creds decrypt --name={id} {path} -"))
            }
            (true, false) => {
                if path.contains("/run/") && path.ends_with(".sock") {
                    self.draft.notes.push(format!(
                        "{id} comes from a socket: what answers there keeps its value"
                    ));
                    From::Prompt
                } else {
                    From::File(path.to_owned())
                }
            }
            (false, _) => {
                self.draft.notes.push(format!(
                    "{id} comes from systemd's credential store (/etc/credstore and the like, or \
                     handed to the machine): find it there"
                ));
                From::Prompt
            }
        };
        self.add(&id, from)
    }

    /// `ID:VALUE`: the value is in the unit.
    fn set(&mut self, value: &str, encrypted: bool) -> Result<(), String> {
        let (id, value) = value.split_once(':').ok_or("expected ID:VALUE")?;
        let id = self.id(id)?;
        let value = match encrypted {
            true => value.split_whitespace().collect::<String>().into_bytes(),
            false => {
                unescape(value).ok_or("expected an escape such as \\n or \\x0a behind a \\")?
            }
        };
        self.draft.values.insert(id.clone(), Zeroizing::new(value));
        let file = shell_quoted(&self.file.display().to_string());
        let word = shell_quoted(&id);
        let mut from = format!("deploy import systemd {file} --value {word}");
        if encrypted {
            from.push_str(&format!(" | systemd-creds decrypt --name={word} - -"));
        } else {
            self.draft.notes.push(format!(
                "the value of {id} is in the unit, where everybody can read it: rotate it"
            ));
        }
        self.add(&id, From::Piped(from))
    }

    fn id(&self, id: &str) -> Result<String, String> {
        match id.contains('%') {
            true => Err("the credential's name has a specifier (%); write it out".into()),
            false => Ok(id.to_owned()),
        }
    }

    fn add(&mut self, id: &str, from: From) -> Result<(), String> {
        let asked = Asked {
            from,
            ..Asked::default()
        };
        let added = self.draft.add(id, asked);
        added.map_err(|why| why.trim_start_matches(": ").to_owned())
    }

    fn exec_start(&mut self, value: &str) -> Result<(), String> {
        if value.is_empty() {
            self.draft.command.clear();
            self.commands = 0;
            return Ok(());
        }
        self.commands += 1;
        if self.commands > 1 {
            return Ok(());
        }
        let plain = value.trim_start_matches(['-', '@', ':', '+', '!', '|']);
        if plain.len() < value.len() {
            let note = "ExecStart= has a prefix (- @ : + !), which is not carried over";
            self.draft.notes.push(note.into());
        }
        let words = split(plain).ok_or("a quote in ExecStart= is not closed")?;
        self.draft.command = words.iter().map(|word| self.expanded(word)).collect();
        Ok(())
    }

    /// What leads to the credentials leads to the view.
    fn expanded(&mut self, word: &str) -> String {
        let word = word
            .replace("${CREDENTIALS_DIRECTORY}", SECRETS)
            .replace("$CREDENTIALS_DIRECTORY", SECRETS)
            .replace("%d", SECRETS);
        let bare = word.replace("%%", "").replace("$$", "");
        if bare.contains(['%', '$']) {
            self.draft.notes.push(
                "the command has a specifier (%) or a variable ($), which `deploy run` does not \
                 expand: write it out"
                    .into(),
            );
        }
        word.replace("%%", "%").replace("$$", "$")
    }

    fn environment(&mut self, value: &str) -> Result<(), String> {
        for word in split(value).ok_or("a quote in Environment= is not closed")? {
            let Some((name, value)) = word.split_once('=') else {
                continue;
            };
            let rest = ["%d/", "${CREDENTIALS_DIRECTORY}/"]
                .iter()
                .find_map(|before| value.strip_prefix(before));
            match rest {
                Some(id) => self.environment.push((name.to_owned(), id.to_owned())),
                None => self.leave("Environment"),
            }
        }
        Ok(())
    }

    fn finish(mut self) {
        for (name, id) in std::mem::take(&mut self.environment) {
            match self.draft.find(&id) {
                Some(secret) if secret.env_file.is_none() => secret.env_file = Some(name),
                _ => self.leave("Environment"),
            }
        }
        if self.commands > 1 {
            self.draft.notes.push(format!(
                "of {} ExecStart= lines the first one alone is carried over",
                self.commands
            ));
        }
        if !self.draft.secrets.is_empty() {
            self.draft.notes.push(
                "$CREDENTIALS_DIRECTORY is not set: the files are below /secret; for another place \
                 see `targets` of the manifest"
                    .into(),
            );
        }
        if !self.left.is_empty() {
            let left = self.left.join(", ");
            self.draft.notes.push(format!("not carried over: {left}"));
        }
    }
}

/// `/bin/kill -HUP $MAINPID` and its other spellings.
fn signal_of(command: &str) -> Option<String> {
    let words = split(command.trim_start_matches('-'))?;
    let mut words = words.iter().map(String::as_str);
    if !words.next()?.ends_with("kill") {
        return None;
    }
    let signal = match words.next()? {
        "-s" => words.next()?,
        word => word.strip_prefix('-')?,
    };
    let signal = signal.strip_prefix("SIG").unwrap_or(signal);
    let signal = if signal == "1" { "HUP" } else { signal };
    let to = words.next()?;
    let known = signal
        .chars()
        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    (to.contains("MAINPID") && words.next().is_none() && known && !signal.is_empty())
        .then(|| signal.to_owned())
}

/// systemd's C escapes, as far as a value needs them.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        match chars.next()? {
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            's' => bytes.push(b' '),
            '\\' => bytes.push(b'\\'),
            '"' => bytes.push(b'"'),
            'x' => {
                let digits: String = chars.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(&digits, 16).ok()?);
            }
            _ => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const UNIT: &str = r#"
[Unit]
Description=not ours
[Service]
User=www-data
# comment
ExecStart=/usr/bin/web --tls ${CREDENTIALS_DIRECTORY}/tls.key \
  --db "%d/db password"
ExecReload=/bin/kill -HUP $MAINPID
Environment=DB_FILE=%d/db LANG=C "TOKEN=hush me"
LoadCredential=tls.key:/etc/ssl/private/web key.pem
LoadCredentialEncrypted=db:/etc/credstore.encrypted/db
LoadCredential=stored
SetCredential=inline:one\ntwo\x21
SetCredentialEncrypted=sealed: \
  Whxqht+dQJax1aZeCGLxmiAA \
  AAABAAAADAAAABAAAAA
Restart=on-abort
LimitNOFILE=1000
[Install]
WantedBy=multi-user.target
"#;

    fn read(text: &str) -> Result<Draft, Refused> {
        draft(text, Path::new("/etc/web@.service"), "web@")
    }

    #[test]
    fn a_unit_becomes_a_manifest_and_commands_without_a_value() {
        let draft = read(UNIT).unwrap();
        assert_eq!(&**draft.values["inline"], b"one\ntwo!");
        let sealed = b"Whxqht+dQJax1aZeCGLxmiAAAAABAAAADAAAABAAAAA";
        assert_eq!(&**draft.values["sealed"], sealed);
        let imported = draft.finish().unwrap();
        assert_eq!(
            imported.commands,
            [
                "deploy secret set tls.key --file '/etc/ssl/private/web key.pem'",
                "systemd-creds decrypt --name=db /etc/credstore.encrypted/db - \
                 | deploy secret set db --file -",
                "deploy secret set stored",
                "deploy import systemd /etc/web@.service --value inline \
                 | deploy secret set inline --file -",
                "deploy import systemd /etc/web@.service --value sealed \
                 | systemd-creds decrypt --name=sealed - - | deploy secret set sealed --file -",
                "deploy secret grant web tls.key db stored inline sealed",
            ]
        );
        let text = imported.text();
        let manifest = model::Manifest::parse(text.as_bytes(), Path::new("x.yaml")).unwrap();
        let command = [
            "/usr/bin/web",
            "--tls",
            "/secret/tls.key",
            "--db",
            "/secret/db password",
        ];
        assert_eq!(manifest.command, command);
        assert_eq!(manifest.secrets[1].env_file.as_deref(), Some("DB_FILE"));
        let signal = model::OnChange::Signal("HUP".into());
        assert_eq!(manifest.on_change, Some(signal));
        for note in [
            "stored",
            "rotate it",
            "on-abort",
            "not carried over: Environment, LimitNOFILE",
        ] {
            assert!(text.contains(note), "{note}: {text}");
        }
        assert!(!text.contains("hush") && !text.contains("one"), "{text}");
    }

    #[test]
    fn a_later_empty_line_takes_back_and_what_cannot_be_is_told_with_its_line() {
        let draft = read(
            "[Service]\nLoadCredential=a:/a\nLoadCredential=\nExecStart=/a\nExecStart=\nExecStart=/b\n",
        );
        let draft = draft.unwrap();
        assert_eq!(
            (draft.secrets.len(), &*draft.command),
            (0, &["/b".to_owned()][..])
        );
        for (text, line, word) in [
            ("[Service]\nnonsense\n", ":2:", "KEY=VALUE"),
            ("[Unit]\nA=b\n", ":", "[Service]"),
            ("[Service]\nLoadCredential=%i:/a\n", ":2:", "specifier"),
            ("[Service]\nSetCredential=hush\n", ":2:", "ID:VALUE"),
            ("[Service]\nSetCredential=a:hush\\q\n", ":2:", "escape"),
            ("[Service]\nExecStart=/a 'b\n", ":2:", "not closed"),
            ("[Service\n", ":1:", "]"),
        ] {
            let Err(said) = read(text) else {
                panic!("{text}");
            };
            assert!(said.starts_with(line) && said.contains(word), "{said}");
            assert!(!said.contains("hush"), "{said}");
        }
    }
}
