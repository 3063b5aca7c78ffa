//! `deploy reload`: the configuration of a manifest, for instances that run.

use std::path::Path;

use control::inner::{FromInjector, InstanceRecord, RefusedKind, Reply};
use model::{Manifest, Modes, SecretRequest, Targets};
use sys::lock::lock;

use super::Injector;
use super::instances::failed;

impl Injector {
    /// Takes the configuration of `manifest` for every instance of its service.
    pub(super) fn reload(&self, manifest: &Manifest, path: &Path) -> Reply {
        let _reloading = lock(&self.instances.reloading);
        let numbers = self
            .instances
            .look(|one| (one.record.service == manifest.service).then_some(one.record.number));
        if numbers.is_empty() {
            let service = &manifest.service;
            let path = path.display();
            return failed(&format!(
                "{service} does not run; start it: deploy run {path}"
            ));
        }
        for number in numbers {
            match self.reload_one(number, manifest, path) {
                Reply::Ok => {}
                refused => return refused,
            }
        }
        Reply::Ok
    }

    /// The registry first: the count of reloads is part of inode numbers, so none may be used twice,
    /// whoever dies meanwhile.
    fn reload_one(&self, number: u32, manifest: &Manifest, path: &Path) -> Reply {
        let changed = self
            .instances
            .change(number, |record| take_config(record, manifest, path));
        let (before, now) = match changed {
            Ok(Some(records)) => records,
            // It has ended.
            Ok(None) => return Reply::Ok,
            Err(error) => return failed(&format!("cannot write the registry: {error}")),
        };
        if before.reloads == now.reloads {
            return other_than_config(manifest);
        }
        let question = FromInjector::Reload {
            instance: now.clone(),
        };
        let answer = match self.daemon.ask(&question) {
            Ok(Reply::Ok) => {
                // A failure is in the log; the reload itself was done.
                let _ = self.tell_changes(&now);
                return Reply::Ok;
            }
            // It may have been done; and if not, it is at the next take-over.
            Err(error) => return failed(&error.to_string()),
            Ok(refused) => refused,
        };
        let back = self.instances.change(number, |record| {
            record.manifest = before.manifest;
            record.manifest_path = before.manifest_path;
            record.reloads = before.reloads;
        });
        if let Err(error) = back {
            log::error!("instance {number}: the registry keeps a refused reload: {error}");
        }
        answer
    }
}

/// Leaves the record alone if the manifest differs in what only a new instance can take.
fn take_config(record: &mut InstanceRecord, manifest: &Manifest, path: &Path) {
    if fixed(&record.manifest) == fixed(manifest) {
        record.manifest.config = manifest.config.clone();
        record.manifest.config_from = manifest.config_from.clone();
        record.manifest_path = path.to_owned();
        record.reloads += 1;
    }
}

fn fixed(manifest: &Manifest) -> (&[SecretRequest], &Targets, &Modes) {
    (&manifest.secrets, &manifest.targets, &manifest.modes)
}

fn other_than_config(manifest: &Manifest) -> Reply {
    let service = &manifest.service;
    Reply::Refused {
        kind: RefusedKind::Conflict,
        missing: Vec::new(),
        message: format!(
            "{service} was started with other secrets, targets or modes; a reload changes its \
             configuration alone"
        ),
        hint: Some(format!(
            "start it again: deploy stop {service}, then deploy run"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::registry::Registry;
    use crate::run_dir::RunDir;
    use crate::server::live::Instances;
    use crate::testing::record;

    fn manifest(text: &str) -> Manifest {
        Manifest::parse(text.as_bytes(), Path::new("web.yaml")).unwrap()
    }

    #[test]
    fn a_reload_takes_the_configuration_and_counts() {
        let mut record = record(1);
        let now = "service: web\nsecrets: [db_password]\nconfig: {log_level: info, more: 1}\n\
            config_from: [app]\ncommand: [other]\n";
        take_config(&mut record, &manifest(now), Path::new("/new.yaml"));
        assert_eq!(record.reloads, 1);
        assert_eq!(record.manifest.config.len(), 2);
        assert_eq!(record.manifest.config_from.len(), 1);
        assert_eq!(record.manifest_path, Path::new("/new.yaml"));
        assert!(
            record.manifest.command.is_empty(),
            "a running command changed"
        );
    }

    #[test]
    fn what_a_running_instance_cannot_take_is_refused_and_not_left_out() {
        for text in [
            "service: web\nsecrets: [db_password, more]\nconfig: {log_level: info}\n",
            "service: web\nsecrets: [db_password]\ntargets: {secret: /run/secrets}\n",
            "service: web\nsecrets: [db_password]\nfile_mode: \"0440\"\n",
        ] {
            let mut changed = record(1);
            take_config(&mut changed, &manifest(text), Path::new("/etc/web.yaml"));
            assert_eq!(changed, record(1), "{text}");
        }
    }

    #[test]
    fn a_change_is_in_the_registry_and_one_that_cannot_be_written_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = RunDir::new(dir.path());
        let (registry, _) = Registry::open(&run_dir).unwrap();
        registry.put(&record(1)).unwrap();
        let (instances, ended) = Instances::open(&run_dir).unwrap();
        assert!(ended.is_empty());
        let (before, now) = instances
            .change(1, |one| one.reloads += 1)
            .unwrap()
            .unwrap();
        assert_eq!((before.reloads, now.reloads), (0, 1));
        assert_eq!(Registry::open(&run_dir).unwrap().1[0].reloads, 1);
        assert!(
            instances
                .change(2, |one| one.reloads += 1)
                .unwrap()
                .is_none()
        );

        std::fs::remove_dir_all(run_dir.instances()).unwrap();
        assert!(instances.change(1, |one| one.reloads += 1).is_err());
        assert_eq!(instances.records()[0].reloads, 1);
    }
}
