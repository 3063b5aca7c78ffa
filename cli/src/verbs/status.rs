//! deploy status

use anyhow::Result;
use clap::Args;
use control::calls::{self, SlotInfo, SlotKind, State, StatusReport};

use crate::context::Context;
use crate::table::facts;

/// Show how secretsd is
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy status\n  deploy status --json")]
pub struct Status {}

pub fn status(_: &Status, context: &Context) -> Result<()> {
    let report = context.call(&calls::Status {})?;
    context.show(&report, text)
}

fn text(report: &StatusReport) -> String {
    let state = match (report.state, report.generation) {
        (State::Sealed, _) => "sealed; unseal it: deploy unseal".to_owned(),
        (State::Unsealed, Some(generation)) => format!("unsealed, key generation {generation}"),
        (State::Unsealed, None) => "unsealed".to_owned(),
    };
    let mut rows = vec![("state", state)];
    if report.state == State::Unsealed {
        rows.extend([
            ("secrets", report.secrets.to_string()),
            ("configs", report.configs.to_string()),
            ("services", format!("{} with grants", report.services)),
        ]);
    }
    rows.push(("instances", report.instances.to_string()));
    if report.retained_versions > 0 {
        rows.push((
            "retained",
            format!("{} old versions, still open", report.retained_versions),
        ));
    }
    if let Some(rotation) = report.rotation {
        rows.push((
            "rotation",
            format!("{} of {} records", rotation.done, rotation.total),
        ));
    }
    if let Some(records) = &report.records {
        let writable = if records.writable {
            "writable"
        } else {
            "read-only"
        };
        rows.push((
            "records",
            format!("{writable}, journal of {} bytes", records.journal_bytes),
        ));
    }
    if !report.injector {
        rows.push((
            "injector",
            "not there; see the log of `deploy-inject up`".to_owned(),
        ));
    }
    rows.extend(report.slots.iter().map(|slot| ("key slot", describe(slot))));
    rows.extend([
        ("store", format!("{}, {}", report.store, report.cipher)),
        ("version", report.version.clone()),
    ]);
    rows.extend(
        report
            .warnings
            .iter()
            .map(|warning| ("warning", warning.clone())),
    );
    facts(rows)
}

/// A key slot on one line.
pub fn describe(slot: &SlotInfo) -> String {
    let holder = match (slot.kind, &slot.path) {
        (SlotKind::File, Some(path)) => format!("file {}", path.display()),
        (SlotKind::File, None) => "file".to_owned(),
        (SlotKind::Passphrase, _) => "passphrase".to_owned(),
    };
    let label = if slot.label.is_empty() {
        String::new()
    } else {
        format!(" ({})", slot.label)
    };
    format!("{} {holder}{label}", slot.id)
}
