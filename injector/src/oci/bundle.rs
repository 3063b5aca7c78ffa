//! What a runtime says of a container: its state on standard input, and `config.json` in its bundle
//! (OCI runtime-spec 1.2).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{HookError, runtime};

/// The state of a container that is being made.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub id: String,
    /// Its first process, as our pid namespace numbers it.
    pub pid: i32,
    bundle: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Bundle {
    root: Option<Root>,
    process: Option<Process>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    linux: Option<Linux>,
}

#[derive(Debug, Deserialize)]
struct Root {
    path: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Process {
    user: User,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
struct User {
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Linux {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Debug, Deserialize)]
struct Mapping {
    #[serde(rename = "containerID")]
    inside: u32,
    #[serde(rename = "hostID")]
    outside: u32,
    size: u32,
}

impl State {
    pub fn read(input: impl Read) -> Result<State, HookError> {
        serde_json::from_reader(input).map_err(|error| runtime("state", error))
    }

    /// Its cgroup v2, if it has one of its own: on a hybrid hierarchy it may be everybody's.
    pub fn cgroup(&self) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        path.contains(&self.id).then(|| path.to_owned())
    }

    /// The id of its image, which is the digest of that image's configuration, as the storage of
    /// podman says it, which is root's. Nothing that the container or its annotations say.
    pub fn image(&self) -> Option<String> {
        // STORAGE/overlay-containers/ID/userdata
        let containers = self.bundle.parent()?.parent()?.join("containers.json");
        let text = std::fs::read_to_string(containers).ok()?;
        image_of(&text, &self.id)
    }
}

fn image_of(containers: &str, id: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Container {
        id: String,
        #[serde(default)]
        image: String,
    }
    let all: Vec<Container> = serde_json::from_str(containers).ok()?;
    let found = all.into_iter().find(|one| one.id == id)?;
    (!found.image.is_empty()).then(|| format!("sha256:{}", found.image))
}

impl Bundle {
    pub fn read(state: &State) -> Result<Bundle, HookError> {
        let path = state.bundle.join("config.json");
        let text = std::fs::read(&path).map_err(|error| runtime("config.json", error))?;
        serde_json::from_slice(&text).map_err(|error| runtime("config.json", error))
    }

    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    /// Where its root file system is, as the host has it and the container's mount namespace too,
    /// until it is pivoted to.
    pub fn root(&self, state: &State) -> Result<PathBuf, HookError> {
        let path = self
            .root
            .as_ref()
            .map_or(Path::new("rootfs"), |root| &root.path);
        std::fs::canonicalize(state.bundle.join(path)).map_err(|error| runtime("root.path", error))
    }

    /// Whose the files are, as the host numbers users: of whom the manifest names, a number as the
    /// container has it; or of the user that its first process runs as.
    pub fn user(&self, named: Option<&str>) -> Result<(u32, u32), HookError> {
        let own = self
            .process
            .as_ref()
            .map(|process| process.user)
            .unwrap_or_default();
        let number = |text: &str| {
            let why =
                "in a container's manifest it is a number, or UID:GID, as the container has it";
            text.parse().map_err(|_| runtime("user", why))
        };
        let user = match named.map(|named| named.split_once(':').ok_or(named)) {
            None => own,
            Some(Ok((uid, gid))) => User {
                uid: number(uid)?,
                gid: number(gid)?,
            },
            Some(Err(uid)) => User {
                uid: number(uid)?,
                gid: number(uid)?,
            },
        };
        let none = Linux::default();
        let linux = self.linux.as_ref().unwrap_or(&none);
        let outside = |maps: &[Mapping], id: u32, what| {
            outside(maps, id)
                .ok_or_else(|| runtime(what, format!("{id} is not mapped to the host")))
        };
        Ok((
            outside(&linux.uid_mappings, user.uid, "user")?,
            outside(&linux.gid_mappings, user.gid, "group")?,
        ))
    }
}

fn outside(maps: &[Mapping], id: u32) -> Option<u32> {
    if maps.is_empty() {
        return Some(id);
    }
    maps.iter().find_map(|map| {
        let offset = id
            .checked_sub(map.inside)
            .filter(|offset| *offset < map.size)?;
        map.outside.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bundle(text: &str) -> Bundle {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn users_are_numbered_as_the_host_numbers_them() {
        let plain = bundle(r#"{"process":{"user":{"uid":33,"gid":34}},"root":{"path":"rootfs"}}"#);
        assert_eq!(plain.user(None).unwrap(), (33, 34));
        assert_eq!(plain.user(Some("7")).unwrap(), (7, 7));
        assert_eq!(plain.user(Some("7:8")).unwrap(), (7, 8));
        assert!(plain.user(Some("www-data")).is_err());
        let mapped = bundle(
            r#"{"process":{"user":{"uid":33,"gid":33}},"linux":{
                "uidMappings":[{"containerID":0,"hostID":100000,"size":1},
                               {"containerID":1,"hostID":200000,"size":50}],
                "gidMappings":[{"containerID":0,"hostID":300000,"size":65536}]}}"#,
        );
        assert_eq!(mapped.user(None).unwrap(), (200_032, 300_033));
        assert_eq!(mapped.user(Some("0")).unwrap(), (100_000, 300_000));
        assert!(mapped.user(Some("51")).is_err());
    }

    #[test]
    fn an_image_is_what_the_storage_says_of_the_container() {
        let text = r#"[{"id":"a","image":"11","names":["x"]},{"id":"b","image":""},{"id":"c"}]"#;
        assert_eq!(image_of(text, "a").as_deref(), Some("sha256:11"));
        for id in ["b", "c", "d"] {
            assert_eq!(image_of(text, id), None);
        }
    }
}
