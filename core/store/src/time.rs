//! What ends by itself: grants with an end, and the grace of an older version.

use std::time::Duration;

use model::{SecretName, Timestamp};
use sys::lock::{read, write};

use crate::catalog::Catalog;
use crate::clock;
use crate::documents::{self, Grace};
use crate::error::{ReadError, WriteError};
use crate::live::{Live, Writing};
use crate::meta::VersionMeta;
use crate::permit::Permit;
use crate::place::Place;
use crate::store::Store;

/// The longest grace: a version that is to stay for longer is no previous one.
pub const MAX_GRACE: Duration = Duration::from_secs(366 * 24 * 60 * 60);

impl Store {
    /// Keeps the store's own time, if there is anything that ends by it, or something has `ended`:
    /// what passed since is lost at a reboot of a machine whose clock is set back, and nothing
    /// otherwise. Whatever has ended by then is known to have been told of
    /// ([`GrantMeta::had_ended`](crate::GrantMeta::had_ended)).
    ///
    /// # Errors
    /// The store is sealed, or the commit failed.
    pub fn keep_time(&self, ended: bool) -> Result<(), WriteError> {
        let live = self.writable()?;
        if !ended && !ends_anything(&read(&live.catalog)) {
            return Ok(());
        }
        let mut writing = live.write(Vec::new())?;
        keep(&live, &mut writing)?;
        writing.commit()?;
        write(&live.catalog).clock.is_kept = true;
        Ok(())
    }

    /// The version before the newest, while its grace lasts.
    ///
    /// # Errors
    /// The permit is not valid any more.
    pub fn previous(&self, permit: &Permit) -> Result<Option<VersionMeta>, ReadError> {
        let live = self.admit(permit)?;
        let catalog = read(&live.catalog);
        let secret = catalog.secrets.get(permit.secret());
        let previous = secret.and_then(|secret| secret.previous());
        Ok(previous.map(|(version, _)| version.clone()))
    }

    /// Secrets whose older version is in its grace, and the seconds that are left of it.
    #[must_use]
    pub fn graces(&self) -> Vec<(SecretName, u64)> {
        let Some(live) = self.live() else {
            return Vec::new();
        };
        let catalog = read(&live.catalog);
        let graces = catalog.secrets.iter().filter_map(|(name, secret)| {
            let (_, end) = secret.grace?;
            secret.exists().then(|| (name.clone(), end.left()))
        });
        graces.collect()
    }
}

fn ends_anything(catalog: &Catalog) -> bool {
    let grants = catalog
        .services
        .values()
        .flat_map(|service| service.grants.values());
    let mut ends = grants
        .filter(|granted| granted.until.is_some())
        .map(|granted| granted.cell.end())
        .chain(
            catalog
                .secrets
                .values()
                .filter_map(|secret| Some(secret.grace?.1)),
        );
    ends.any(|end| end.left() > 0)
}

/// Puts the store's own time into the next commit; the catalog's clock is kept once that is done.
pub(crate) fn keep(live: &Live, writing: &mut Writing<'_>) -> Result<(), WriteError> {
    let kept = read(&live.catalog).clock.kept();
    let text = documents::write(&Place::Clock, &kept)?;
    writing.put(Place::Clock, &text)
}

/// The grace that begins now.
pub(crate) fn grace(live: &Live, version: u32, lasts: Duration) -> Grace {
    let until = Timestamp(clock::wall().saturating_add(lasts.as_secs()));
    Grace {
        version,
        until,
        deadline: read(&live.catalog).clock.deadline(until),
    }
}
