//! Each access to a secret, as it is written down.

use std::sync::atomic::Ordering;

use model::{FieldName, SecretName, ServiceName};
use store::Standing;

use super::Views;
use super::ask::Caller;
use super::instance::{Instance, Slot};
use crate::errno::Refusal;
use crate::inflight::RESENT;
use crate::spec::{Access, AccessKind, AccessVerdict};

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub instance: u32,
    pub service: ServiceName,
    pub secret: SecretName,
    pub field: Option<FieldName>,
}

impl Asked {
    pub fn of(instance: &Instance, slot: &Slot, field: Option<&FieldName>) -> Asked {
        Asked {
            instance: instance.key.number,
            service: instance.service.clone(),
            secret: slot.name.clone(),
            field: field.cloned(),
        }
    }
}

impl Views {
    /// Writes down what is answered. What is allowed and not written down is refused.
    pub(super) fn witnessed(
        &self,
        kind: AccessKind,
        caller: Caller,
        asked: &Asked,
        answer: Result<u32, Refusal>,
    ) -> Result<u32, Refusal> {
        let (verdict, version, why) = match answer {
            Ok(version) => (AccessVerdict::Allowed, version, ""),
            // The kernel looks again, and no program sees it.
            Err(Refusal::Superseded) => return answer,
            Err(refusal) => {
                let (verdict, why) = reason(refusal);
                (verdict, 0, why)
            }
        };
        self.write_down(kind, caller, asked, version, verdict, why)
            .map_err(|unwritten| answer.err().unwrap_or(unwritten))?;
        answer
    }

    /// A name was asked for that is not shown to its instance, by a process of it.
    pub(super) fn witness_absent(
        &self,
        caller: Caller,
        instance: &Instance,
        name: &str,
        refusal: Refusal,
    ) {
        // What can be no secret is looked up by shells and libraries all day.
        let Ok(secret) = name.parse::<SecretName>() else {
            return;
        };
        if !self.membership.belongs(caller.tid, &instance.key) {
            return;
        }
        let slot = instance.slot(name).map(|slot| &instance.slots[slot]);
        let why = match (refusal, slot) {
            (Refusal::Sealed, _) => "sealed",
            (_, None) => "not in the manifest",
            (_, Some(slot)) => match slot.permit.as_ref().map(store::Permit::standing) {
                None => "not granted",
                Some(Standing::Expired) => "expired",
                Some(Standing::Sealed) => "sealed",
                Some(Standing::Revoked) => "revoked",
                Some(Standing::Valid) => "no such version",
            },
        };
        let asked = Asked {
            instance: instance.key.number,
            service: instance.service.clone(),
            secret,
            field: None,
        };
        // Denied it is, written down or not.
        let _ = self.write_down(
            AccessKind::Open,
            caller,
            &asked,
            0,
            AccessVerdict::Denied,
            why,
        );
    }

    fn write_down(
        &self,
        kind: AccessKind,
        caller: Caller,
        asked: &Asked,
        version: u32,
        verdict: AccessVerdict,
        why: &'static str,
    ) -> Result<(), Refusal> {
        let access = Access {
            kind,
            tid: caller.tid,
            uid: caller.uid,
            connection: self.connection.load(Ordering::Acquire),
            unique: caller.unique & !RESENT,
            resent: caller.unique & RESENT != 0,
            instance: asked.instance,
            service: &asked.service,
            secret: &asked.secret,
            field: asked.field.as_ref(),
            version,
            verdict,
            why,
        };
        self.witness.access(&access).map_err(|_| Refusal::Unwritten)
    }
}

fn reason(refusal: Refusal) -> (AccessVerdict, &'static str) {
    match refusal {
        Refusal::Foreign => (AccessVerdict::Denied, "not a process of the instance"),
        Refusal::Sealed => (AccessVerdict::Denied, "sealed"),
        Refusal::Revoked | Refusal::NoEntry => (AccessVerdict::Denied, "revoked"),
        _ => (AccessVerdict::Failed, "it cannot be read"),
    }
}
