//! Look-ups of units' names in the master mounts: `views/secret/nginx.service` is a link to the folder
//! of that unit's instance, which may have to be made first. That takes an injector and a disk, so it
//! is done apart from the thread that serves everybody.

use std::sync::Arc;
use std::time::Duration;

use fuser::{Generation, ReplyEntry};
use model::Tree;
use sys::places::Places;

use crate::adapter::attributes;
use crate::errno::Refusal;
use crate::inflight::Noted;
use crate::spec::NoInstance;
use crate::tree::Views;

/// So many are looked up at once; each has a thread. A boot starts some dozens of units at once.
const AT_ONCE: usize = 256;

/// Those of one tree.
#[derive(Debug)]
pub(crate) struct UnitLookups {
    tree: Tree,
    views: Arc<Views>,
    under_way: Places,
}

impl UnitLookups {
    pub fn new(tree: Tree, views: Arc<Views>) -> UnitLookups {
        UnitLookups {
            tree,
            views,
            under_way: Places::new(AT_ONCE),
        }
    }

    /// Answers a look-up of `unit` by a root process `tid`, some time.
    pub fn look_up(&self, unit: &str, tid: u32, noted: Noted, reply: ReplyEntry) {
        let Some(place) = self.under_way.take() else {
            return reply.error(Refusal::Busy.into());
        };
        let (tree, views, unit) = (self.tree, Arc::clone(&self.views), unit.to_owned());
        noted.goes_on_elsewhere();
        let answer = move || {
            let _place = place;
            noted.goes_on_here();
            let number = match views.units() {
                Some(units) => units.instance_of(&unit, tid).map_err(Refusal::from),
                None => Err(Refusal::NoEntry),
            };
            let _turn = views.turn();
            match number.and_then(|number| views.link(tree, number)) {
                // Asked for again each time: the next one may be of another instance.
                Ok(link) => reply.entry_with_ttls(
                    &Duration::ZERO,
                    &Duration::ZERO,
                    &attributes(&link),
                    Generation(0),
                ),
                Err(refusal) => reply.error(refusal.into()),
            }
            drop(noted);
        };
        if let Err(error) = std::thread::Builder::new()
            .name("unit".into())
            .spawn(answer)
        {
            // The request goes with the closure, and whoever asked gets EIO.
            log::error!("no thread for a unit: {error}");
        }
    }
}

impl From<NoInstance> for Refusal {
    fn from(why: NoInstance) -> Refusal {
        match why {
            NoInstance::Unknown => Refusal::NoEntry,
            NoInstance::Denied => Refusal::Foreign,
            NoInstance::Sealed => Refusal::Sealed,
            NoInstance::Failed => Refusal::Unreadable,
        }
    }
}
