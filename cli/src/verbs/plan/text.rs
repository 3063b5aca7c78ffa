//! A plan for people.

use super::decide::{Planned, PlannedSecret, SecretState};
use crate::table::table;

pub fn text(plan: &Planned) -> String {
    let user = match (plan.uid, plan.gid) {
        (Some(uid), Some(gid)) => format!(" as {uid}:{gid}"),
        _ => String::new(),
    };
    let mut text = match plan.starts {
        true => format!("{} would start{user}\n", plan.service),
        false => format!("{} would not start\n", plan.service),
    };
    let secrets = table(
        ["SECRET", "STATE", "VERSION", "AT"],
        plan.secrets.iter().map(|one| {
            let version = one.version.map(|version| version.to_string());
            let paths = one.paths.join(" ");
            [
                one.name.to_string(),
                state(one),
                version.unwrap_or_else(|| "-".into()),
                paths,
            ]
        }),
    );
    let config = table(
        ["SETTING", "FROM", "AT"],
        plan.config
            .iter()
            .map(|one| [one.key.to_string(), one.from.clone(), one.path.clone()]),
    );
    for part in [secrets, config] {
        if !part.is_empty() {
            text.push('\n');
            text.push_str(&part);
        }
    }
    let problems = plan.problems.iter().map(|problem| match &problem.mend {
        Some(mend) => format!("{}; {mend}", problem.what),
        None => problem.what.clone(),
    });
    section(&mut text, "What keeps it from starting:", problems);
    let wait = plan.wait.filter(|_| plan.exit_code() > 1);
    section(
        &mut text,
        "To be known:",
        plan.warnings
            .iter()
            .cloned()
            .chain(wait.map(|wait| format!("`deploy run` waits {wait}s for grants and an unseal"))),
    );
    text
}

fn section(text: &mut String, head: &str, lines: impl Iterator<Item = String>) {
    for (at, line) in lines.enumerate() {
        if at == 0 {
            text.push_str(&format!("\n{head}\n"));
        }
        text.push_str(&format!("  {line}\n"));
    }
}

fn state(secret: &PlannedSecret) -> String {
    let mut text = match secret.state {
        SecretState::Granted => "granted",
        SecretState::Pinned => "granted to another one",
        SecretState::NotGranted => "not granted",
        SecretState::Ended => "ended",
        SecretState::NoSuchSecret => "no such secret",
        SecretState::Unknown => "sealed",
    }
    .to_owned();
    if let Some(until) = secret
        .until
        .filter(|_| secret.state == SecretState::Granted)
    {
        text.push_str(&format!(" until {until}"));
    }
    if !secret.pins.is_empty() {
        text.push_str(&format!(" ({} alone)", secret.pins));
    }
    if secret.optional && secret.state != SecretState::Granted {
        text.push_str(", optional");
    }
    text
}
