//! A secret in the catalog: which versions there are, and which of them may be opened.

use std::sync::Arc;

use model::SecretName;

use crate::clock::{Clock, End};
use crate::documents::{Grace, Head};
use crate::meta::{SecretMeta, Shape, VersionMeta};
use crate::permit::Cell;

/// A secret, or what is left of one that was deleted.
pub(crate) struct Secret {
    pub(crate) keep: u32,
    /// The number that the next version gets.
    pub(crate) next: u32,
    /// The oldest number in reach.
    pub(crate) oldest: u32,
    /// Those that may be opened, ascending. None: deleted.
    pub(crate) versions: Vec<VersionMeta>,
    /// An older version that stays readable for a time, and when that ends.
    pub(crate) grace: Option<(Grace, End)>,
    /// Those that nobody may open any more; their records go with the name's next commit.
    pub(crate) doomed: Vec<VersionMeta>,
    /// Gone for everyone; waits for its commit.
    pub(crate) deleting: bool,
    /// Of operators' permits.
    pub(crate) cell: Arc<Cell>,
}

impl Secret {
    /// What a name is before its first version.
    pub(crate) fn absent() -> Self {
        Self {
            keep: 0,
            next: 1,
            oldest: 1,
            versions: Vec::new(),
            grace: None,
            doomed: Vec::new(),
            deleting: false,
            cell: Cell::new(End::NEVER),
        }
    }

    pub(super) fn from_head(head: Head, clock: &Clock) -> (SecretName, Self) {
        let end = |grace: Grace| (grace, clock.end(grace.until, Some(grace.deadline)));
        let mut secret = Self {
            keep: head.keep,
            next: head.next,
            oldest: head.oldest,
            versions: head.versions,
            grace: head.grace.map(end),
            doomed: Vec::new(),
            deleting: false,
            cell: Cell::new(End::NEVER),
        };
        if secret.keep == 0 {
            // Of a change that was killed between its two commits.
            secret.doom(|_| false);
        }
        (head.name, secret)
    }

    /// As it is on disk: what is doomed has records still.
    pub(crate) fn head(&self, name: &SecretName) -> Head {
        let mut versions: Vec<_> = self.versions.iter().chain(&self.doomed).cloned().collect();
        versions.sort_by_key(|version| version.number);
        let Self {
            keep, next, oldest, ..
        } = *self;
        Head {
            name: name.clone(),
            keep,
            next,
            oldest,
            versions,
            grace: self.previous().and(self.grace).map(|(grace, _)| grace),
        }
    }

    pub(crate) fn exists(&self) -> bool {
        !self.deleting && !self.versions.is_empty()
    }

    /// Where the versions in reach begin.
    fn first_in_reach(&self) -> usize {
        self.versions
            .partition_point(|version| version.number < self.oldest)
    }

    /// What `get`, `history` and `rollback` reach.
    pub(crate) fn in_reach(&self) -> &[VersionMeta] {
        self.versions
            .get(self.first_in_reach()..)
            .unwrap_or_default()
    }

    /// Kept for whoever has them open.
    pub(crate) fn out_of_reach(&self) -> &[VersionMeta] {
        self.versions
            .get(..self.first_in_reach())
            .unwrap_or_default()
    }

    /// A version in reach or kept.
    pub(crate) fn version(&self, number: u32) -> Option<&VersionMeta> {
        let at = self
            .versions
            .binary_search_by_key(&number, |version| version.number)
            .ok()?;
        self.versions.get(at)
    }

    /// The older version that is readable still, and how many seconds it stays so.
    pub(crate) fn previous(&self) -> Option<(&VersionMeta, u64)> {
        let (grace, end) = self.grace?;
        let left = end.left();
        Some((self.version(grace.version).filter(|_| left > 0)?, left))
    }

    pub(crate) fn newest(&self) -> Option<&VersionMeta> {
        self.versions.last()
    }

    pub(crate) fn meta(&self, name: &SecretName) -> SecretMeta {
        SecretMeta {
            name: name.clone(),
            shape: self.newest().map_or(Shape::Single, VersionMeta::shape),
            versions: self.in_reach().to_vec(),
            keep: self.keep,
        }
    }

    /// Takes from everyone the versions out of reach for which `is_held` says no.
    pub(crate) fn doom(&mut self, is_held: impl Fn(u32) -> bool) {
        let oldest = self.oldest;
        let previous = self.previous().map(|(version, _)| version.number);
        let free = |version: &mut VersionMeta| {
            let number = version.number;
            number < oldest && previous != Some(number) && !is_held(number)
        };
        self.doomed.extend(self.versions.extract_if(.., free));
    }
}
