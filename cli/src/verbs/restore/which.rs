//! Which backup: the one that was named, or the one of a moment out of a folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use model::Timestamp;
use serde::Deserialize;

use crate::context::Context;
use crate::failure::Failure;
use crate::offline::{self, Opener, Opening};
use crate::times;
use crate::verbs::backup::progress;

/// Of which moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Exactly this one: a backup has no history, and another one would be another state.
    Version(Version),
    /// The newest that was made until then.
    Time(Timestamp),
}

/// A generation of the root key, and a transaction of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32, u64);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

fn version(text: &str) -> Option<Version> {
    let (generation, transaction) = text.split_once('.')?;
    Some(Version(generation.parse().ok()?, transaction.parse().ok()?))
}

/// What `--at` says.
pub fn at(text: &str) -> Result<At, String> {
    let is_time = || times::time(text).map(At::Time).ok();
    let at = version(text).map(At::Version).or_else(is_time);
    at.ok_or_else(|| {
        "expected a version of a backup, such as 3.1234, or a time, such as 2026-12-01T08:00:00Z"
            .to_owned()
    })
}

/// A backup, and what opens it.
pub struct Chosen<'a> {
    pub path: PathBuf,
    pub opener: Opener<'a>,
}

/// What secretsd says of a backup's first bytes.
#[derive(Deserialize)]
struct Moment {
    store: String,
    version: String,
    made: Timestamp,
}

struct Found {
    path: PathBuf,
    store: String,
    version: Version,
    made: Timestamp,
}

/// The backup that is meant.
pub fn choose<'a>(
    path: &Path,
    at: Option<&At>,
    opening: &'a Opening,
    context: &Context,
) -> Result<Chosen<'a>> {
    if !path.is_dir() {
        let opener = opening.key(path)?;
        if at.is_some() {
            let found = look(&opener, path, context)?;
            pick(vec![found], at)?;
        }
        let path = path.to_path_buf();
        return Ok(Chosen { path, opener });
    }
    let cannot = || format!("cannot read {}", path.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if entry.file_type()?.is_file() && offline::is_age(&entry.path()) {
            files.push(entry.path());
        }
    }
    files.sort();
    let first = files
        .first()
        .ok_or_else(|| Failure::not_found(format!("there is no backup in {}", path.display())))?;
    let opener = opening.key(first)?;
    // What this key does not open, or is damaged, secretsd has named; others may do.
    let found = files
        .iter()
        .filter_map(|file| look(&opener, file, context).ok());
    let path = pick(found.collect(), at)?.path;
    Ok(Chosen { path, opener })
}

fn look(opener: &Opener<'_>, path: &Path, context: &Context) -> Result<Found> {
    let mut file = offline::open(path)?;
    let bar = progress(context, "looking at backups");
    let words = vec!["backup-verify".into(), "--moment".into()];
    let told: Result<Moment, i32> = opener.run(words, &mut file, &bar)?;
    let not_read = |code| {
        let what = format!("{} cannot be read", path.display());
        Failure::with_code(u8::try_from(code).unwrap_or(1), what)
    };
    let told = told.map_err(not_read)?;
    let understood = version(&told.version).context("secretsd gave no version")?;
    Ok(Found {
        path: path.to_path_buf(),
        store: told.store,
        version: understood,
        made: told.made,
    })
}

fn pick(mut found: Vec<Found>, at: Option<&At>) -> Result<Found> {
    found.sort_by_key(|one| (one.version, one.made));
    if found.iter().any(|one| one.store != found[0].store) {
        let what = "there are backups of several stores; name the file";
        return Err(Failure::usage(what).into());
    }
    let all: String = found
        .iter()
        .map(|one| format!("\n  {}  {}  {}", one.version, one.made, one.path.display()))
        .collect();
    let place = match at {
        None => found.len().checked_sub(1),
        Some(At::Version(version)) => found.iter().rposition(|one| one.version == *version),
        Some(At::Time(time)) => found.iter().rposition(|one| one.made <= *time),
    };
    let place = place.ok_or_else(|| {
        let what = match at {
            Some(At::Version(version)) => format!("there is no backup of version {version}"),
            Some(At::Time(time)) => format!("there is no backup that was made until {time}"),
            None => "there is no backup that this opens".to_owned(),
        };
        let there = if all.is_empty() { "" } else { "; there are:" };
        Failure::not_found(format!("{what}{there}{all}"))
    })?;
    Ok(found.swap_remove(place))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(all: &[(&str, u64)]) -> Vec<Found> {
        let one = |(text, made): &(&str, u64)| Found {
            path: (*text).into(),
            store: "a".into(),
            version: version(text).unwrap(),
            made: Timestamp(*made),
        };
        all.iter().map(one).collect()
    }

    fn picked(text: Option<&str>) -> Result<PathBuf> {
        let all = found(&[("2.7", 300), ("1.90", 100), ("2.5", 200), ("10.1", 400)]);
        let at = text.map(|text| at(text).unwrap());
        pick(all, at.as_ref()).map(|one| one.path)
    }

    #[test]
    fn a_version_is_that_one_alone_and_a_time_the_newest_until_then() {
        for (text, expected) in [
            (None, "10.1"),
            (Some("2.5"), "2.5"),
            (Some("1970-01-01T00:04:00Z"), "2.5"),
            (Some("1970-01-01T00:05:00Z"), "2.7"),
            (Some("2026-01-01T00:00:00Z"), "10.1"),
        ] {
            assert_eq!(picked(text).unwrap(), Path::new(expected), "{text:?}");
        }
        for text in ["2.6", "9.1", "1970-01-01T00:00:30Z"] {
            let refused = picked(Some(text)).unwrap_err().to_string();
            assert!(refused.contains("2.7"), "those there are: {refused}");
        }
        assert!(pick(Vec::new(), None).is_err());
        let mut several = found(&[("1.1", 1), ("1.2", 2)]);
        several[1].store = "b".into();
        assert!(pick(several, None).is_err());
    }

    #[test]
    fn what_is_neither_a_version_nor_a_time_is_refused() {
        for text in ["", "1", "1.", ".1", "1.x", "-1.2", "yesterday", "1.2.3"] {
            assert!(at(text).is_err(), "{text}");
        }
    }
}
