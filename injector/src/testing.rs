//! What several tests need.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use control::inner::{InstanceRecord, Origin};
use model::Manifest;

/// A record of this process, with a manifest of its own.
pub(crate) fn record(number: u32) -> InstanceRecord {
    let text = b"service: web\nsecrets: [db_password]\nconfig: {log_level: debug}\n";
    let manifest = Manifest::parse(text, Path::new("web.yaml")).unwrap();
    let pid = std::process::id() as i32;
    InstanceRecord {
        format: crate::registry::FORMAT,
        number,
        service: manifest.service.clone(),
        uid: 0,
        gid: 0,
        pid,
        start_time: crate::process::stat(pid).unwrap().start_time,
        mount_ns: crate::process::mount_namespace(pid).unwrap(),
        cgroup: None,
        unit: None,
        image: None,
        origin: Origin::Supervisor,
        targets: manifest.targets.clone(),
        manifest_path: "/etc/web.yaml".into(),
        manifest,
        entries: Vec::new(),
        reloads: 0,
    }
}
