//! From a manifest and what there is to what a start would do: pure.

use std::collections::BTreeMap;

use control::calls::{GrantInfo, SecretInfo};
use model::{ConfigKey, ConfigName, Manifest, Pins, SecretName, SecretRequest, Timestamp};
use serde::Serialize;

/// What there is.
#[derive(Debug, Default)]
pub struct Facts {
    pub sealed: bool,
    /// The service's user and group, if there are such.
    pub user: Option<(u32, u32)>,
    pub host_problems: Vec<String>,
    pub secrets: BTreeMap<SecretName, SecretInfo>,
    /// Of this service.
    pub grants: BTreeMap<SecretName, GrantInfo>,
    /// The numbers of users that grants are pinned to.
    pub users: BTreeMap<String, Option<u32>>,
    /// The keys of stored configs that the manifest names; `None`: not there.
    pub configs: BTreeMap<ConfigName, Option<Vec<ConfigKey>>>,
}

/// What a start would do.
#[derive(Debug, Serialize)]
pub struct Planned {
    pub service: String,
    /// Whether it would start, as far as can be seen.
    pub starts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    pub sealed: bool,
    pub secrets: Vec<PlannedSecret>,
    pub config: Vec<PlannedKey>,
    /// What keeps it from starting.
    pub problems: Vec<Problem>,
    /// What is to be known.
    pub warnings: Vec<String>,
    /// For how many seconds `deploy run` waits for grants and an unseal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<u32>,
}

/// A secret of the manifest.
#[derive(Debug, Serialize)]
pub struct PlannedSecret {
    pub name: SecretName,
    pub state: SecretState,
    /// The version that is shown; none if none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Its files.
    pub paths: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Pins::is_empty")]
    pub pins: Pins,
    pub optional: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_file: Option<String>,
}

/// How a secret stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretState {
    Granted,
    /// The grant is for somebody else.
    Pinned,
    NotGranted,
    /// The grant has ended.
    Ended,
    NoSuchSecret,
    /// The store is sealed.
    Unknown,
}

/// A key of the configuration.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct PlannedKey {
    pub key: ConfigKey,
    pub path: String,
    /// A stored config, or `manifest`.
    pub from: String,
}

/// What keeps a service from starting.
#[derive(Debug, Serialize)]
pub struct Problem {
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    #[serde(skip)]
    pub code: i32,
}

impl Planned {
    /// What `deploy run` would end with; 0: it would start.
    pub fn exit_code(&self) -> i32 {
        let codes = self.problems.iter().map(|problem| problem.code);
        // Sealed before missing before the rest, as it would be found.
        codes.max().unwrap_or(0)
    }
}

pub fn decide(manifest: &Manifest, facts: &Facts) -> Planned {
    let mut plan = Planned {
        service: manifest.service.to_string(),
        starts: false,
        uid: facts.user.map(|(uid, _)| uid),
        gid: facts.user.map(|(_, gid)| gid),
        sealed: facts.sealed,
        secrets: Vec::new(),
        config: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
        wait: manifest.wait,
    };
    if facts.sealed {
        plan.problem(5, "the store is sealed", Some("deploy unseal".into()));
    }
    for problem in &facts.host_problems {
        plan.problem(1, problem, None);
    }
    if manifest.command.is_empty() {
        let words = "the manifest has no `command`; give one: deploy run MANIFEST -- COMMAND";
        plan.warnings.push(words.into());
    }
    for asked in &manifest.secrets {
        plan.secret(manifest, asked, facts);
    }
    plan.config(manifest, facts);
    plan.starts = plan.problems.is_empty();
    plan
}

impl Planned {
    fn problem(&mut self, code: i32, what: impl Into<String>, mend: Option<String>) {
        let what = what.into();
        self.problems.push(Problem { what, mend, code });
    }

    fn secret(&mut self, manifest: &Manifest, asked: &SecretRequest, facts: &Facts) {
        let name = &asked.name;
        let info = facts.secrets.get(name);
        let grant = facts.grants.get(name);
        let (state, why) = state(info, grant, facts);
        let at = manifest.targets.secret.join(name.as_str());
        let mut paths = vec![at.display().to_string()];
        if let Some(info) = info.filter(|info| !info.fields.is_empty()) {
            let fields = info.fields.iter();
            paths = fields
                .map(|field| at.join(field.as_str()).display().to_string())
                .collect();
            if let Some(variable) = &asked.env {
                let words = format!("{name} has fields, so no value for the variable {variable}");
                self.problem(1, words, Some("use `env_file`, or read its files".into()));
            }
            if let Some(target) = &asked.target {
                let fields = info.fields.iter();
                paths.extend(fields.map(|field| target.join(field.as_str()).display().to_string()));
            }
        } else if info.is_some() && asked.target.is_some() {
            let words = format!("{name} has one value and no fields, so it cannot have a `target`");
            let mend = "say where all secrets are: `targets: {secret: ...}`";
            self.problem(1, words, Some(mend.into()));
        }
        let service = &self.service;
        let grant_it = format!("deploy secret grant {service} {name}");
        let mend = match state {
            SecretState::Granted | SecretState::Unknown => None,
            SecretState::Pinned => Some(format!("see the grant: deploy secret readers {name}")),
            SecretState::NoSuchSecret => Some(format!("deploy secret set {name}; {grant_it}")),
            SecretState::NotGranted | SecretState::Ended => Some(grant_it),
        };
        if let Some(mend) = mend {
            let words = format!("{name}: {why}");
            match asked.optional {
                true => self
                    .warnings
                    .push(format!("{words}; it is optional; {mend}")),
                false => self.problem(3, words, Some(mend)),
            }
        }
        if let Some(grant) = grant.filter(|_| state == SecretState::Granted) {
            for (what, pin) in [("unit", &grant.pins.unit), ("image", &grant.pins.image)] {
                if let Some(pin) = pin {
                    self.warnings.push(format!(
                        "{name} is granted in {what} {pin} alone: only a start there gets it"
                    ));
                }
            }
        }
        if let Some(variable) = &asked.env {
            self.warnings.push(format!(
                "{name} goes into the variable {variable}: a copy that no rotation reaches and no \
                 revoke takes back, that every child inherits, and that shows in \
                 /proc/PID/environ and in crash reports; a file has none of that: \
                 `env_file: {variable}_FILE`, or have the program read {}",
                at.display()
            ));
        }
        let is_shown = state == SecretState::Granted;
        self.secrets.push(PlannedSecret {
            name: name.clone(),
            state,
            version: info.filter(|_| is_shown).map(|info| info.version),
            paths,
            until: grant.and_then(|grant| grant.until),
            pins: grant.map(|grant| grant.pins.clone()).unwrap_or_default(),
            optional: asked.optional,
            env: asked.env.clone(),
            env_file: asked.env_file.clone(),
        });
    }

    fn config(&mut self, manifest: &Manifest, facts: &Facts) {
        let mut from = BTreeMap::new();
        for name in &manifest.config_from {
            match facts.configs.get(name) {
                Some(Some(keys)) => {
                    from.extend(keys.iter().map(|key| (key.clone(), name.to_string())));
                }
                Some(None) => {
                    let words = format!("there is no stored config {name}");
                    self.problem(1, words, Some(format!("deploy config create {name}")));
                }
                // Sealed: nobody knows.
                None => {}
            }
        }
        let own = manifest.config.keys();
        from.extend(own.map(|key| (key.clone(), "manifest".to_owned())));
        let target = &manifest.targets.config;
        self.config = from
            .into_iter()
            .map(|(key, from)| PlannedKey {
                path: target.join(key.as_str()).display().to_string(),
                key,
                from,
            })
            .collect();
    }
}

/// How a secret stands, and why it is not shown.
fn state(
    info: Option<&SecretInfo>,
    grant: Option<&GrantInfo>,
    facts: &Facts,
) -> (SecretState, String) {
    if facts.sealed {
        return (SecretState::Unknown, String::new());
    }
    if info.is_none() {
        return (SecretState::NoSuchSecret, "there is no such secret".into());
    }
    let Some(grant) = grant else {
        return (SecretState::NotGranted, "not granted".into());
    };
    if grant.left == Some(0) {
        return (SecretState::Ended, "the grant has ended".into());
    }
    if let (Some(user), Some((uid, _))) = (&grant.pins.user, facts.user) {
        let pinned = user
            .parse()
            .ok()
            .or_else(|| facts.users.get(user).copied().flatten());
        if pinned != Some(uid) {
            let why = format!("the grant is pinned to user {user}, and this one runs as uid {uid}");
            return (SecretState::Pinned, why);
        }
    }
    (SecretState::Granted, String::new())
}

#[cfg(test)]
mod tests;
