//! Changes that another secretsd has made, and perhaps not told the kernel of.

use model::{ConfigName, SecretName};
use sys::lock::{lock, read};

use super::Views;
use super::forget::{names_of, unlinks_of};
use crate::spec::Touched;

impl Views {
    /// Secrets may have been changed, granted, revoked or deleted, and the kernel, and who watches,
    /// may know nothing of it. What instances are shown now is known to both after this. No page is
    /// left that a revoke was to take: that comes before it is durable.
    pub fn secrets_may_have_changed(&self, names: &[SecretName]) -> Touched {
        let mut touched = Touched::default();
        for name in names {
            touched.extend(self.secret_changed(name));
            touched.extend(self.previous_changed(name));
        }
        let state = read(&self.state);
        for name in names {
            for instance in state.instances.values() {
                for slot in instance.slots_of(name.as_str()) {
                    if !instance.slots[slot].is_shown() {
                        touched.gone.0.extend(names_of(instance, slot));
                        touched.unlinks.extend(unlinks_of(instance, slot));
                    }
                }
            }
        }
        touched
    }

    /// The same of stored configs.
    pub fn configs_may_have_changed(&self, names: &[ConfigName]) -> Touched {
        let changing = lock(&self.changing);
        let asking = {
            let state = read(&self.state);
            let asking = state.instances.values();
            let asking = asking.filter(|instance| instance.config.sources.any_of(names));
            asking
                .map(|one| (one.key.number, one.config.keys().to_vec()))
                .collect()
        };
        self.tell_configs(asking, Touched::default(), changing)
    }
}
