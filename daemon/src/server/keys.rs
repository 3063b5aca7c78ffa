//! io.deploy.Keys

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use control::ControlError;
use control::calls::{
    Argon2, Done, KeyRotate, KeyRotated, SlotAdd, SlotInfo, SlotKind, SlotList, SlotRemove, Slots,
};
use store::{Argon2Params, NewSlot, Operator, SlotId};
use zeroize::Zeroizing;

use super::calls::Exchange;
use super::refusal;
use crate::host::Host;

/// Progress is told not more often than this.
const PULSE: Duration = Duration::from_millis(100);

/// Tells how far it is while it goes on. A caller that hangs up ends nothing.
pub(super) fn rotate(exchange: &Exchange<'_>) -> io::Result<()> {
    if let Err(error) = exchange.call.parameters::<KeyRotate>() {
        return exchange.answer(Err::<KeyRotated, _>(error));
    }
    let told = Cell::new(None::<Instant>);
    let far = Cell::new((0, 0));
    let listens = Cell::new(true);
    let progress = |done, total| {
        far.set((done, total));
        if listens.get() && told.get().is_none_or(|told| told.elapsed() >= PULSE) {
            told.set(Some(Instant::now()));
            let reply = KeyRotated {
                done,
                total,
                generation: None,
            };
            listens.set(exchange.answer_more(&reply).is_ok());
        }
    };
    let rotated = exchange.host.rotate_root(exchange.operator, &progress);
    let (done, total) = far.get();
    exchange.answer(
        rotated
            .map(|generation| KeyRotated {
                done,
                total,
                generation: Some(generation),
            })
            .map_err(refusal::of_act),
    )
}

pub(super) fn slot_add(
    host: &Host,
    operator: &Operator,
    asked: SlotAdd,
) -> Result<SlotInfo, ControlError> {
    let slot = new_slot(asked)?;
    let info = host.slot_add(operator, slot).map_err(refusal::of_act)?;
    log::info!("{}: added key slot {}", operator.name(), info.id);
    Ok(slot_info(info))
}

/// What belongs to another kind of slot is refused and not left out.
fn new_slot(asked: SlotAdd) -> Result<NewSlot, ControlError> {
    let SlotAdd {
        kind,
        passphrase,
        path,
        label,
        argon2,
    } = asked;
    match (kind, passphrase, path) {
        (SlotKind::File, None, path) if argon2.is_none() => Ok(NewSlot::File { path, label }),
        (SlotKind::File, ..) => Err(ControlError::invalid(
            "a file slot takes neither `passphrase` nor `argon2`",
        )),
        (SlotKind::Passphrase, Some(passphrase), None) => Ok(NewSlot::Passphrase {
            passphrase: Zeroizing::new(passphrase.expose().to_owned()),
            params: argon2.map_or_else(Argon2Params::default, |argon2| Argon2Params {
                memory_kib: argon2.memory_kib,
                passes: argon2.passes,
                lanes: argon2.lanes,
            }),
            label,
        }),
        (SlotKind::Passphrase, None, _) => Err(ControlError::invalid(
            "a passphrase slot needs `passphrase`",
        )),
        (SlotKind::Passphrase, Some(_), Some(_)) => {
            Err(ControlError::invalid("a passphrase slot takes no `path`"))
        }
    }
}

pub(super) fn slot_list(
    host: &Host,
    operator: &Operator,
    _: SlotList,
) -> Result<Slots, ControlError> {
    let slots = host.store.slot_list(operator).map_err(refusal::of_write)?;
    Ok(Slots {
        slots: slots.into_iter().map(slot_info).collect(),
    })
}

pub(super) fn slot_remove(
    host: &Host,
    operator: &Operator,
    asked: SlotRemove,
) -> Result<Done, ControlError> {
    host.slot_remove(operator, SlotId(asked.id))
        .map_err(refusal::of_act)?;
    log::info!("{}: removed key slot {}", operator.name(), asked.id);
    Ok(Done {})
}

pub(crate) fn slot_info(slot: store::SlotInfo) -> SlotInfo {
    let (kind, path, argon2) = match slot.kind {
        store::SlotKind::File { path } => (SlotKind::File, Some(path), None),
        store::SlotKind::Passphrase { params } => {
            let argon2 = Argon2 {
                memory_kib: params.memory_kib,
                passes: params.passes,
                lanes: params.lanes,
            };
            (SlotKind::Passphrase, None, Some(argon2))
        }
    };
    SlotInfo {
        id: slot.id.0,
        kind,
        path,
        argon2,
        label: slot.label,
        recipient: slot.recipient,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use control::SecretText;

    #[test]
    fn a_slot_takes_what_belongs_to_its_kind_and_nothing_else() {
        let text = |kind: &str, more: &str| format!(r#"{{"kind":"{kind}"{more}}}"#);
        let slot = |text: &str| new_slot(serde_json::from_str(text).unwrap());
        assert!(matches!(
            slot(&text("file", "")),
            Ok(NewSlot::File { path: None, .. })
        ));
        assert!(slot(&text("file", r#","path":"/k""#)).is_ok());
        assert!(slot(&text("passphrase", r#","passphrase":"p""#)).is_ok());
        for (kind, more) in [
            ("file", r#","passphrase":"hush""#),
            ("file", r#","argon2":{"memory_kib":1,"passes":1,"lanes":1}"#),
            ("passphrase", ""),
            ("passphrase", r#","passphrase":"hush","path":"/k""#),
        ] {
            let error = slot(&text(kind, more)).unwrap_err();
            assert!(!error.message.contains("hush"), "{error}");
        }
        assert!(!format!("{:?}", SecretText::new("hush".to_owned())).contains("hush"));
    }
}
