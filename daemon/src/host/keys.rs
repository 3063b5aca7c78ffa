//! What an operator does to keys: seal and unseal, slots, another root key.

use audit::Outcome;
use store::{NewSlot, Operator, SlotId, SlotInfo, Unlock, UnsealError, UnsealReport};
use sys::lock::lock;

use super::Host;
use super::acts::ActError;
use crate::audit::Act;

impl Host {
    /// Forgets all keys, and takes what is cached of the views out of the kernel.
    pub fn seal(&self, operator: &Operator) {
        let _sealing = lock(&self.sealing);
        self.store.seal();
        self.views.sealed();
        self.remark(Vec::new());
        let act = Act::new("seal", "store");
        self.audit.happened(operator, act, Outcome::Done, "");
        log::info!("{}: sealed the store", operator.name());
    }

    /// The end of all views: the connections go with us. Nothing is served from here on, and nothing
    /// stays in the kernel's caches, where nobody could take it back.
    pub(super) fn stopping(&self) {
        let mut sealing = lock(&self.sealing);
        sealing.for_good = true;
        self.views.sealed();
        log::info!("stops for good: nothing is served any more");
    }

    /// Unseals, and shows again what is granted.
    pub fn unseal(&self, operator: &Operator, unlock: Unlock) -> Result<UnsealReport, UnsealError> {
        let sealing = lock(&self.sealing);
        let act = Act::new("unseal", "store");
        let report = self.store.unseal(unlock).inspect_err(|error| {
            let outcome = match error {
                UnsealError::WrongPassphrase => Outcome::Denied,
                _ => Outcome::Failed,
            };
            self.audit
                .happened(operator, act, outcome, &error.to_string());
        })?;
        let detail = format!("generation {}", report.generation);
        let act = act.detail(&detail);
        self.audit.happened(operator, act, Outcome::Done, "");
        for remark in &report.warnings {
            log::warn!("unseal: {remark}");
        }
        if let Some(opened) = &report.opened {
            log::info!("records: {opened}");
        }
        self.remark(report.warnings.clone());
        if sealing.for_good {
            // The next secretsd finds the root key in the keyring, and shows everything.
            log::info!("unsealed, and nothing is served: everything is being stopped");
            return Ok(report);
        }
        self.carry_holds();
        self.forget_all_lost();
        self.tell(self.views.unsealed(), Vec::new());
        self.tell_what_is_untold();
        if let Some(all) = self.all_at() {
            self.injector.tell_all_versions(all);
        }
        self.housekeeping.wake();
        Ok(report)
    }

    /// Adds a key slot.
    pub fn slot_add(&self, operator: &Operator, slot: NewSlot) -> Result<SlotInfo, ActError> {
        let act = Act::new("key.slot-add", "");
        self.audit
            .act(operator, act, || Ok(self.store.slot_add(operator, slot)?))
    }

    /// Removes a key slot.
    pub fn slot_remove(&self, operator: &Operator, id: SlotId) -> Result<(), ActError> {
        let what = id.to_string();
        let act = Act::new("key.slot-remove", &what).takes_away();
        self.audit.act(operator, act, || {
            Ok(self.store.slot_remove(operator, id)?)
        })
    }

    /// Makes a new root key; says how far it is. Goes on when nobody listens any more.
    pub fn rotate_root(
        &self,
        operator: &Operator,
        progress: &dyn Fn(u64, u64),
    ) -> Result<u32, ActError> {
        log::info!("{}: rotates the root key", operator.name());
        let act = Act::new("key.rotate", "");
        let generation = self.audit.act(operator, act, || {
            Ok::<_, ActError>(self.store.rotate_root(operator, progress)?)
        })?;
        log::info!("the root key is of generation {generation}");
        Ok(generation)
    }
}
