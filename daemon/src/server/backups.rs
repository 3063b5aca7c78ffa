//! io.deploy.Backups

use std::cell::Cell;
use std::io::{self, Write};

use control::ControlError;
use control::calls::{BackupContents, BackupMade, BackupMake, BackupPart, Bytes};
use sha2::{Digest, Sha256};
use store::{BackupError, BackupTo, Contents, Moment};
use zeroize::Zeroizing;

use super::calls::Exchange;
use super::keys::slot_info;
use crate::host::backup::BackupActError;

/// Bytes of a part; a third more in base64.
const PART: usize = 192 << 10;

/// Gives the file part by part. A caller that hangs up ends it.
pub(super) fn make(exchange: &Exchange<'_>) -> io::Result<()> {
    let to = exchange.call.parameters::<BackupMake>().and_then(|asked| {
        if !exchange.call.more || exchange.call.oneway {
            return Err(
                ControlError::invalid("a backup comes in parts: the call needs `more`")
                    .hint("make one: deploy backup FILE --recipient age1…"),
            );
        }
        recipients(asked)
    });
    let to = match to {
        Ok(to) => to,
        Err(error) => return exchange.answer(Err::<BackupPart, _>(error)),
    };
    exchange.be_patient()?;
    let far = Cell::new((0, 0));
    let mut parts = Parts {
        exchange,
        far: &far,
        part: Vec::with_capacity(PART),
        bytes: 0,
        hash: Sha256::new(),
    };
    let made = exchange
        .host
        .backup(exchange.operator, &to, &mut parts, &mut |done, total| {
            far.set((done, total));
        });
    // Only then all of it is sent.
    let made = made.and_then(|contents| {
        let sent = parts.flush();
        let sent = sent.map_err(|error| BackupActError::Store(BackupError::Io(error)));
        sent.map(|()| contents)
    });
    let (done, total) = far.get();
    exchange.answer(made.map_err(refusal).map(|contents| BackupPart {
        done,
        total,
        data: None,
        made: Some(BackupMade {
            bytes: parts.bytes,
            sha256: hex(&parts.hash.finalize()),
            contents: contents_info(contents),
        }),
    }))
}

fn recipients(asked: BackupMake) -> Result<BackupTo, ControlError> {
    match (asked.recipients, asked.passphrase) {
        (all, None) => Ok(BackupTo::Recipients(all)),
        (none, Some(passphrase)) if none.is_empty() => Ok(BackupTo::Passphrase(Zeroizing::new(
            passphrase.expose().to_owned(),
        ))),
        _ => Err(ControlError::invalid(
            "a backup has recipients or a passphrase: age knows no file with both",
        )),
    }
}

fn refusal(error: BackupActError) -> ControlError {
    let what = error.to_string();
    match error {
        BackupActError::Busy => ControlError::busy(what),
        BackupActError::Store(BackupError::Sealed) => ControlError::sealed(),
        BackupActError::Store(
            BackupError::Recipient(_) | BackupError::NoRecipient | BackupError::EmptyPassphrase,
        ) => ControlError::invalid(what),
        _ => ControlError::failed(what),
    }
}

/// The file on its way to the caller.
struct Parts<'a> {
    exchange: &'a Exchange<'a>,
    far: &'a Cell<(u64, u64)>,
    part: Vec<u8>,
    bytes: u64,
    hash: Sha256,
}

impl Write for Parts<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..count]);
        if self.part.len() == PART {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.part, Vec::with_capacity(PART));
        self.bytes += data.len() as u64;
        self.hash.update(&data);
        let (done, total) = self.far.get();
        self.exchange.answer_more(&BackupPart {
            done,
            total,
            data: Some(Bytes(data)),
            made: None,
        })
    }
}

/// As it is told everywhere: `GENERATION.TRANSACTION`.
pub(crate) fn version(moment: &Moment) -> String {
    format!("{}.{}", moment.generation, moment.transaction)
}

pub(crate) fn contents_info(contents: Contents) -> BackupContents {
    let moment = contents.moment;
    BackupContents {
        store: moment.store.to_string(),
        version: version(&moment),
        made: moment.made,
        anchor: moment.anchor,
        cipher: moment.cipher.to_string(),
        records: contents.records,
        secrets: contents.secrets,
        versions: contents.versions,
        grants: contents.grants,
        configs: contents.configs,
        slots: contents.slots.into_iter().map(slot_info).collect(),
        warnings: contents.warnings,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
