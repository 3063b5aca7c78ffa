//! What secretsd says of versions, on its way to the supervisors whose manifest says `on_change`.

use std::collections::BTreeMap;
use std::sync::Mutex;

use control::inner::{ChangeOutcome, FromInjector, InstanceRecord, NameVersion, Reply};
use model::Tree;
use sys::lock::lock;

use super::Injector;
use super::instances::failed;
use crate::changes::{self, Versions};

/// The newest versions, as far as secretsd has said them. Held while files are written, so that an
/// older word does not overwrite a newer one.
#[derive(Debug, Default)]
pub(super) struct Newest(Mutex<Said>);

type Table = BTreeMap<(Tree, String), u64>;

#[derive(Debug, Default)]
struct Said {
    /// All that there is; `None` while nobody has said it.
    all: Option<Table>,
    /// What the secretsd of now has said since it came. Its word of all may have been asked for
    /// before that, and come after.
    since: Table,
}

impl Said {
    /// Takes a word of secretsd's. Two of one name may come in the wrong order; versions only grow,
    /// but for the 0 of what is gone.
    fn take(&mut self, versions: Vec<NameVersion>, all: bool) {
        let newest = |table: &mut Table, at: (Tree, String), version: u64| {
            let known = table.entry(at).or_default();
            *known = match version {
                0 => 0,
                version => version.max(*known),
            };
        };
        if all {
            let mut table = self.since.clone();
            for one in versions {
                let known = table.entry((one.tree, one.name)).or_default();
                *known = one.version.max(*known);
            }
            self.all = Some(table);
            return;
        }
        for one in versions {
            let at = (one.tree, one.name);
            if let Some(table) = &mut self.all {
                newest(table, at.clone(), one.version);
            }
            newest(&mut self.since, at, one.version);
        }
    }
}

/// What an instance is told; `None` while nobody knows.
fn of_instance(table: Option<&Table>, record: &InstanceRecord) -> Option<Versions> {
    let manifest = &record.manifest;
    let table = table?;
    let at = |tree, name: &str| {
        let known = table.get(&(tree, name.to_owned())).copied();
        known.filter(|version| *version > 0)
    };
    let secrets = manifest.secrets.iter().filter_map(|secret| {
        let name = secret.name.clone();
        Some((name, at(Tree::Secret, secret.name.as_str())?))
    });
    let configs = manifest.config_from.iter();
    let configs = configs.filter_map(|name| Some((name.clone(), at(Tree::Config, name.as_str())?)));
    Some(Versions {
        secrets: secrets.collect(),
        configs: configs.collect(),
        reloads: record.reloads,
    })
}

fn asks_for(record: &InstanceRecord, changed: &[NameVersion]) -> bool {
    let manifest = &record.manifest;
    changed.iter().any(|one| match one.tree {
        Tree::Secret => manifest
            .secrets
            .iter()
            .any(|secret| secret.name.as_str() == one.name),
        Tree::Config => manifest
            .config_from
            .iter()
            .any(|name| name.as_str() == one.name),
    })
}

impl Injector {
    /// Tells each service of its own. Also what it knows already: a supervisor may have something
    /// left to do that was not possible before.
    pub(super) fn changed(&self, versions: Vec<NameVersion>, all: bool) -> Reply {
        let mut said = lock(&self.newest.0);
        let concerned = self.instances.look(|one| {
            let record = &one.record;
            let is_told = record.manifest.on_change.is_some();
            (is_told && (all || asks_for(record, &versions))).then(|| record.clone())
        });
        said.take(versions, all);
        let mut result = Reply::Ok;
        for record in concerned {
            if let Err(error) = self.write_changes(said.all.as_ref(), &record) {
                result = failed(&error);
            }
        }
        result
    }

    /// Tells one instance how things stand: before its service runs, and after a reload.
    pub(super) fn tell_changes(&self, record: &InstanceRecord) -> Result<(), String> {
        if record.manifest.on_change.is_none() {
            return Ok(());
        }
        let said = lock(&self.newest.0);
        self.write_changes(said.all.as_ref(), record)
    }

    /// Another secretsd is there: versions may have been put back with the store that it opened.
    pub(super) fn newest_from_now_on(&self) {
        lock(&self.newest.0).since.clear();
    }

    fn write_changes(&self, table: Option<&Table>, record: &InstanceRecord) -> Result<(), String> {
        let number = record.number;
        let versions = of_instance(table, record);
        changes::write(&self.run_dir, number, versions.as_ref()).map_err(|error| {
            let error = format!("instance {number} is not told of changes: {error}");
            log::error!("{error}");
            error
        })
    }

    /// Passes on what a supervisor did. Waits for secretsd: whoever asks tries again if it is not
    /// there.
    pub(super) fn outcome(&self, outcome: ChangeOutcome) -> Reply {
        match self.daemon.ask(&FromInjector::Outcome(outcome)) {
            Ok(reply) => reply,
            Err(error) => failed(&error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::record;

    fn at(tree: Tree, name: &str, version: u64) -> NameVersion {
        NameVersion {
            tree,
            name: name.to_owned(),
            version,
        }
    }

    #[test]
    fn an_instance_is_told_of_what_it_asks_for_and_of_nothing_else() {
        let mut said = Said::default();
        said.take(vec![at(Tree::Secret, "db_password", 3)], false);
        assert_eq!(of_instance(said.all.as_ref(), &record(1)), None);
        let all = vec![
            at(Tree::Secret, "db_password", 3),
            at(Tree::Secret, "other", 9),
            at(Tree::Config, "db_password", 5),
        ];
        said.take(all, true);
        let told = of_instance(said.all.as_ref(), &record(1)).unwrap();
        assert_eq!(told.secrets.into_values().collect::<Vec<_>>(), [3]);
        assert!(told.configs.is_empty());
        assert!(asks_for(&record(1), &[at(Tree::Secret, "db_password", 1)]));
        assert!(!asks_for(&record(1), &[at(Tree::Config, "db_password", 1)]));
    }

    #[test]
    fn an_older_word_does_not_take_the_place_of_a_newer_one() {
        let mut newest = Said::default();
        newest.take(Vec::new(), true);
        let key = (Tree::Secret, "a".to_owned());
        for (said, known) in [(8, 8), (7, 8), (0, 0), (9, 9)] {
            newest.take(vec![at(Tree::Secret, "a", said)], false);
            assert_eq!(newest.all.as_ref().unwrap()[&key], known);
        }
    }

    #[test]
    fn a_word_that_overtakes_the_word_of_all_is_not_lost() {
        let mut said = Said::default();
        let key = (Tree::Secret, "a".to_owned());
        said.take(vec![at(Tree::Secret, "a", 8)], false);
        said.take(vec![at(Tree::Secret, "a", 7)], true);
        assert_eq!(said.all.as_ref().unwrap()[&key], 8);
        // The next secretsd's store was put back.
        said.since.clear();
        said.take(vec![at(Tree::Secret, "a", 3)], true);
        assert_eq!(said.all.as_ref().unwrap()[&key], 3);
    }
}
