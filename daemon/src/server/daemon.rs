//! io.deploy.Daemon

use control::ControlError;
use control::calls::{Done, Health, Progress, Seal, State, Status, StatusReport, Unseal, Unsealed};
use store::{Operator, Unlock, UnlockedBy};
use zeroize::Zeroizing;

use super::keys::slot_info;
use super::refusal;
use crate::host::Host;

pub(super) fn status(host: &Host, _: &Operator, _: Status) -> Result<StatusReport, ControlError> {
    let status = host.store.status();
    let views = host.views_status();
    let injector = host.injector.is_there();
    let generation = match status.state {
        store::State::Sealed => None,
        store::State::Unsealed { generation } => Some(generation),
    };
    let mut warnings = host.remarks();
    if !injector {
        warnings.push(
            "the injector is away: services read on, but none can be started; see the log of \
             `deploy-inject up`"
                .to_owned(),
        );
    }
    let audit = host.audit.health();
    if let Some(why) = &audit.failing {
        let what = if host.audit.fails_open {
            "opens of secrets are allowed all the same, as it was asked for"
        } else {
            "opens of secrets fail with EIO"
        };
        warnings.push(format!(
            "the audit log {} cannot be written: {why}; {what}; {} events are missing so far; free or \
             mend the disk, it goes on by itself",
            host.audit.folder().display(),
            audit.refused
        ));
    }
    if let Some(records) = &status.records {
        warnings.extend(records.troubles());
    }
    Ok(StatusReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: if generation.is_some() {
            State::Unsealed
        } else {
            State::Sealed
        },
        generation,
        store: status.id.to_string(),
        cipher: status.cipher.to_string(),
        secrets: status.secrets,
        configs: status.configs,
        services: status.services,
        instances: views.instances as u64,
        inodes: views.inodes as u64,
        retained_versions: status.retained_versions,
        slots: status.slots.into_iter().map(slot_info).collect(),
        rotation: status
            .rotation
            .map(|(done, total)| Progress { done, total }),
        records: status.records.map(|records| Health {
            writable: records.stopped.is_none(),
            last_seq: status.last_seq,
            journal_bytes: records.journal_bytes,
        }),
        injector,
        warnings,
    })
}

pub(super) fn seal(host: &Host, operator: &Operator, _: Seal) -> Result<Done, ControlError> {
    host.seal(operator);
    Ok(Done {})
}

pub(super) fn unseal(
    host: &Host,
    operator: &Operator,
    asked: Unseal,
) -> Result<Unsealed, ControlError> {
    if let store::State::Unsealed { generation } = host.store.state() {
        return Ok(Unsealed {
            generation,
            slot: None,
            warnings: Vec::new(),
        });
    }
    let unlock = match &asked.passphrase {
        Some(passphrase) => Unlock::Passphrase(Zeroizing::new(passphrase.expose().to_owned())),
        None => Unlock::FileSlots,
    };
    let report = host.unseal(operator, unlock).map_err(refusal::of_unseal)?;
    log::info!("{}: unsealed the store", operator.name());
    let slot = match report.by {
        UnlockedBy::Slot(slot) => Some(slot_info(slot)),
        UnlockedBy::Keyring => None,
    };
    Ok(Unsealed {
        generation: report.generation,
        slot,
        warnings: report.warnings,
    })
}
