//! From a compose file with `secrets:`.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::Refused;
use super::draft::{Asked, Draft, From};
use super::words::split;

/// Where compose puts secrets, and so where the image's program looks for them.
const SECRETS: &str = "/run/secrets";
/// What is read of a service; all else is named.
const KNOWN: [&str; 6] = [
    "secrets",
    "user",
    "command",
    "entrypoint",
    "environment",
    "restart",
];

pub fn draft(text: &str, file: &Path, service: Option<&str>) -> Result<Draft, Refused> {
    let root: Mapping = serde_yaml::from_str(text).map_err(|error| match error.location() {
        // Its words may show a value.
        Some(place) => format!(":{}:{}: not a map in YAML", place.line(), place.column()),
        None => ": not a map in YAML".to_owned(),
    })?;
    let none = Mapping::new();
    let secrets = match root.get("secrets") {
        Some(secrets) => map(secrets, "secrets")?,
        None => &none,
    };
    let services = root.get("services").ok_or(": there are no `services`")?;
    let services = map(services, "services")?;
    let (name, service) = choose(services, service)?;
    let place = format!("services.{name}");
    let mut draft = Draft {
        service: name.to_ascii_lowercase(),
        secret_target: Some(SECRETS.into()),
        ..Draft::default()
    };
    let asked = list(service.get("secrets"), &format!("{place}.secrets"))?;
    for (at, one) in asked.iter().enumerate() {
        let place = format!("{place}.secrets[{at}]");
        secret(&mut draft, one, &place, secrets, file)?;
    }
    draft.user = service
        .get("user")
        .map(|user| text_of(user, &format!("{place}.user")))
        .transpose()?;
    for key in ["entrypoint", "command"] {
        if let Some(value) = service.get(key) {
            draft
                .command
                .extend(words(value, &format!("{place}.{key}"))?);
        }
    }
    if !service.contains_key("entrypoint") {
        draft.notes.push(
            "what the image itself runs (its ENTRYPOINT, and its CMD where there is no `command`) \
             is not known here: put it before the command"
                .into(),
        );
    }
    environment(
        &mut draft,
        service.get("environment"),
        &format!("{place}.environment"),
    )?;
    restart(
        &mut draft,
        service.get("restart"),
        &format!("{place}.restart"),
    )?;
    let left: Vec<&str> = service
        .keys()
        .filter_map(Value::as_str)
        .filter(|key| !KNOWN.contains(key))
        .collect();
    if !left.is_empty() {
        draft
            .notes
            .push(format!("not carried over: {}", left.join(", ")));
    }
    Ok(draft)
}

/// The service that is named, or the only one with secrets.
fn choose<'m>(
    services: &'m Mapping,
    asked: Option<&str>,
) -> Result<(&'m str, &'m Mapping), Refused> {
    let mut with = Vec::new();
    for (name, service) in services {
        let name = name.as_str().ok_or(": a service's name is no text")?;
        let service = map(service, &format!("services.{name}"))?;
        if asked == Some(name) {
            return Ok((name, service));
        }
        if service.contains_key("secrets") {
            with.push((name, service));
        }
    }
    let names: Vec<&str> = with.iter().map(|(name, _)| *name).collect();
    let names = names.join(", ");
    match (asked, with.as_slice()) {
        (Some(asked), _) => Err(format!(
            ": there is no service {asked}; with secrets: {names}"
        )),
        (None, [one]) => Ok(*one),
        (None, []) => Err(": no service has `secrets`; name one with --service".into()),
        (None, _) => Err(format!(
            ": several services have secrets ({names}); name one with --service"
        )),
    }
}

fn secret(
    draft: &mut Draft,
    one: &Value,
    place: &str,
    secrets: &Mapping,
    file: &Path,
) -> Result<(), Refused> {
    let mut asked = Asked::default();
    let source = match one {
        Value::Mapping(long) => {
            let text = |key: &str| {
                let value = long.get(key);
                value
                    .map(|value| text_of(value, &format!("{place}.{key}")))
                    .transpose()
            };
            let source = text("source")?.ok_or_else(|| format!(": {place}: no `source`"))?;
            if let Some(target) = text("target")?
                && target != source
                && target != format!("{SECRETS}/{source}")
            {
                draft.notes.push(format!(
                    "{source} was at {target}: a secret's file has the secret's name, so name the \
                     secret after it, or have the program look at {SECRETS}/{source}"
                ));
            }
            if let Some(mode) = text("mode")? {
                asked.mode = Some(mode_of(&mode).ok_or_else(|| {
                    format!(
                        ": {place}.mode: expected an octal number of reading bits, such as \"0440\""
                    )
                })?);
            }
            asked.owner = match (text("uid")?, text("gid")?) {
                (None, None) => None,
                (uid, gid) => {
                    let zero = || "0".to_owned();
                    Some(format!(
                        "{}:{}",
                        uid.unwrap_or_else(zero),
                        gid.unwrap_or_else(zero)
                    ))
                }
            };
            source
        }
        short => text_of(short, place)?,
    };
    let Some(definition) = secrets.get(source.as_str()) else {
        return Err(format!(": {place}: `secrets` of the file has no {source}"));
    };
    let place = format!("secrets.{source}");
    let definition = map(definition, &place)?;
    asked.from = match (definition.get("file"), definition.get("environment")) {
        (Some(path), _) => {
            let path = text_of(path, &format!("{place}.file"))?;
            // Relative to the file that says so.
            let path = file.parent().unwrap_or(Path::new("")).join(path);
            From::File(path.display().to_string())
        }
        (None, Some(variable)) => {
            let variable = text_of(variable, &format!("{place}.environment"))?;
            let sound = |c: char| c == '_' || c.is_ascii_alphanumeric();
            if !variable.chars().all(sound) {
                return Err(format!(": {place}.environment: expected a variable's name"));
            }
            // printf of the shell itself, so that no process has it as an argument.
            From::Piped(format!("printf %s \"${variable}\""))
        }
        (None, None) => {
            draft.notes.push(format!(
                "{source} is Docker's own (external): nothing reads it out of there, so set it anew"
            ));
            From::Prompt
        }
    };
    draft.add(&source, asked)
}

/// `VARIABLE=/run/secrets/NAME` is what `env_file` says.
fn environment(draft: &mut Draft, value: Option<&Value>, place: &str) -> Result<(), Refused> {
    let mut pairs = Vec::new();
    match value {
        None => {}
        Some(Value::Mapping(all)) => {
            for (name, value) in all {
                let name = name.as_str().unwrap_or_default();
                pairs.push((
                    name.to_owned(),
                    value.as_str().unwrap_or_default().to_owned(),
                ));
            }
        }
        Some(value) => {
            for one in list(Some(value), place)? {
                let text = one.as_str().unwrap_or_default();
                let (name, value) = text.split_once('=').unwrap_or((text, ""));
                pairs.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    let mut left = Vec::new();
    for (name, value) in pairs {
        let secret = value
            .strip_prefix(SECRETS)
            .and_then(|rest| rest.strip_prefix('/'));
        match secret.and_then(|secret| draft.find(secret)) {
            Some(secret) if secret.env_file.is_none() => secret.env_file = Some(name),
            _ => left.push(name),
        }
    }
    if !left.is_empty() {
        let left = left.join(", ");
        draft.notes.push(format!(
            "variables that are not carried over: {left}; what is a secret among them: `env`"
        ));
    }
    Ok(())
}

fn restart(draft: &mut Draft, value: Option<&Value>, place: &str) -> Result<(), Refused> {
    let Some(value) = value else { return Ok(()) };
    // A bare `no` is false.
    let text = match value {
        Value::Bool(false) => "no".to_owned(),
        value => text_of(value, place)?,
    };
    draft.restart = match text.split(':').next().unwrap_or_default() {
        "no" => None,
        "on-failure" => Some("on-failure"),
        "always" => Some("always"),
        "unless-stopped" => Some("always"),
        _ => {
            return Err(format!(
                ": {place}: expected no, always, on-failure or unless-stopped"
            ));
        }
    };
    Ok(())
}

fn map<'m>(value: &'m Value, place: &str) -> Result<&'m Mapping, Refused> {
    value
        .as_mapping()
        .ok_or_else(|| format!(": {place}: expected a map"))
}

fn list<'m>(value: Option<&'m Value>, place: &str) -> Result<&'m [Value], Refused> {
    match value {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Sequence(all)) => Ok(all),
        Some(_) => Err(format!(": {place}: expected a list")),
    }
}

/// Text or a number, with nothing in it that compose would put something else for.
fn text_of(value: &Value, place: &str) -> Result<String, Refused> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(format!(": {place}: expected text")),
    };
    match text.replace("$$", "").contains('$') {
        true => Err(format!(
            ": {place}: it refers to a variable ($...); write out what it stands for"
        )),
        false => Ok(text.replace("$$", "$")),
    }
}

fn words(value: &Value, place: &str) -> Result<Vec<String>, Refused> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Sequence(all) => all.iter().map(|word| text_of(word, place)).collect(),
        value => {
            let text = text_of(value, place)?;
            split(&text).ok_or_else(|| format!(": {place}: a quote is not closed"))
        }
    }
}

/// `0440` as YAML 1.1 and as YAML 1.2 read it: compose files have both.
fn mode_of(text: &str) -> Option<String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    // A number that YAML 1.1 has read as octal is decimal by now: 288 is 0440.
    let both = [u16::from_str_radix(digits, 8).ok(), digits.parse().ok()];
    let mut reading = both.into_iter().flatten().filter(|mode| mode & !0o555 == 0);
    reading.next().map(|mode| format!("0{mode:o}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str = r#"
services:
  db:
    image: postgres
    user: "999:999"
    entrypoint: docker-entrypoint.sh
    command: postgres -c 'log line'
    restart: unless-stopped
    environment:
      POSTGRES_PASSWORD_FILE: /run/secrets/db_password
      TOKEN: hush
    secrets:
      - db_password
      - source: tls
        target: server.key
        uid: "103"
        mode: 0440
      - from_env
      - swarm
  other:
    image: busybox
secrets:
  db_password:
    file: ./db password.txt
  tls:
    file: /etc/tls.key
  from_env:
    environment: DB_TOKEN
  swarm:
    external: true
"#;

    fn read(text: &str, service: Option<&str>) -> Result<Draft, Refused> {
        draft(text, Path::new("/srv/compose.yaml"), service)
    }

    #[test]
    fn a_service_with_secrets_becomes_a_manifest() {
        let imported = read(FILE, None).unwrap().finish().unwrap();
        assert_eq!(
            imported.commands,
            [
                "deploy secret set db_password --file '/srv/./db password.txt'",
                "deploy secret set tls --file /etc/tls.key",
                "printf %s \"$DB_TOKEN\" | deploy secret set from_env --file -",
                "deploy secret set swarm",
                "deploy secret grant db db_password tls from_env swarm",
            ]
        );
        let text = imported.text();
        let manifest = model::Manifest::parse(text.as_bytes(), Path::new("x.yaml")).unwrap();
        assert_eq!(manifest.user.as_deref(), Some("999:999"));
        assert_eq!(manifest.targets.secret.to_str(), Some(SECRETS));
        assert_eq!(
            manifest.command,
            ["docker-entrypoint.sh", "postgres", "-c", "log line"]
        );
        assert_eq!(
            manifest.secrets[0].env_file.as_deref(),
            Some("POSTGRES_PASSWORD_FILE")
        );
        assert_eq!(manifest.secrets[1].mode, Some(0o440));
        assert_eq!(manifest.secrets[1].owner.as_deref(), Some("103:0"));
        assert_eq!(manifest.restart, model::Restart::Always);
        for note in [
            "tls was at server.key",
            "swarm is Docker's own",
            "TOKEN",
            "image",
        ] {
            assert!(text.contains(note), "{note}: {text}");
        }
        assert!(!text.contains("hush"), "{text}");
    }

    #[test]
    fn what_cannot_be_carried_over_is_told_with_its_place() {
        let two = "services: {a: {secrets: [x]}, b: {secrets: [x]}}\nsecrets: {x: {file: f}}\n";
        assert!(read(two, Some("b")).is_ok());
        for (text, word) in [
            (two, "(a, b)"),
            ("services: {a: {}}\n", "--service"),
            ("services: {a: {secrets: [x]}}\n", "services.a.secrets[0]"),
            (
                "services: {a: {secrets: x}}\n",
                "services.a.secrets: expected a list",
            ),
            (
                "services: {a: {secrets: [x]}}\nsecrets: {x: {file: $HUSH}}\n",
                "secrets.x.file",
            ),
            (
                "services: {a: {secrets: [{source: x, mode: 0666}]}}\nsecrets: {x: {file: f}}\n",
                "mode",
            ),
            (
                "services: {a: {secrets: [], restart: hush}}\n",
                "services.a.restart",
            ),
            ("a: [\n", ":2:"),
            ("- hush\n", "map"),
        ] {
            let Err(said) = read(text, None) else {
                panic!("{text}");
            };
            assert!(said.contains(word), "{said}");
            assert!(!said.to_lowercase().contains("hush"), "{said}");
        }
        assert_eq!(mode_of("288").as_deref(), Some("0440"));
        assert_eq!(mode_of("440").as_deref(), Some("0440"));
        assert_eq!(mode_of("0644"), None);
    }
}
