//! What heads, grants and configs hold in clear: JSON, one object each, described in
//! `docs/format.md`. A version holds its bytes and nothing else.
//!
//! All of it is sealed under our own key, so that what does not parse was written by a later
//! version (or by a defect), and is refused.

use std::collections::BTreeMap;

use model::{ConfigKey, ConfigName, Grant, SecretName, ServiceName, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::error::{EnvelopeError, RecordError};
use crate::meta::{MAX_KEEP, MAX_VERSION, VersionMeta};
use crate::place::Place;

/// A secret's head. It outlives the secret: without versions it is a tombstone, which keeps the
/// next number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    pub(crate) name: SecretName,
    pub(crate) keep: u32,
    /// The number that the next version gets.
    pub(crate) next: u32,
    /// The oldest number in reach; what is older has been out of reach, and stays so.
    pub(crate) oldest: u32,
    /// All that have records, ascending.
    pub(crate) versions: Vec<VersionMeta>,
    /// A version that stays readable beside the newest for a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grace: Option<Grace>,
}

/// See [`Head::grace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grace {
    pub(crate) version: u32,
    /// When it ends, by the wall clock.
    pub(crate) until: Timestamp,
    /// The same in the store's own time.
    pub(crate) deadline: u64,
}

impl Head {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, EnvelopeError> {
        let head: Self = parse(text)?;
        if head.is_sound() {
            Ok(head)
        } else {
            Err(EnvelopeError::Content)
        }
    }

    /// What code relies on: numbers ascend below `next`, and no version is without a part.
    fn is_sound(&self) -> bool {
        let mut numbers = self.versions.iter().map(|version| version.number);
        let first = numbers.next().unwrap_or(1);
        let last = numbers.try_fold(first, |before, number| (before < number).then_some(number));
        let parts = |version: &VersionMeta| match version.sizes.as_slice() {
            [] => false,
            [(None, _)] => true,
            fields => {
                fields.iter().all(|(field, _)| field.is_some())
                    && fields.is_sorted_by(|(one, _), (other, _)| one < other)
            }
        };
        let fits = |last| last < self.next && self.oldest <= last;
        first > 0
            && (self.versions.is_empty() || last.is_some_and(fits))
            && (1..=MAX_VERSION + 1).contains(&self.next)
            && self.keep <= MAX_KEEP
            && self.versions.iter().all(parts)
    }
}

/// The grants of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grants {
    pub(crate) service: ServiceName,
    /// Each is a [`Grant`], or something that this version does not understand, which allows
    /// nothing and is kept as it is.
    pub(crate) grants: Vec<serde_json::Value>,
}

impl Grants {
    /// The grants that are understood, and the rest.
    pub(crate) fn sort_out(self) -> (Vec<Grant>, Vec<serde_json::Value>) {
        let mut known = Vec::new();
        let mut unknown = Vec::new();
        for value in self.grants {
            match Grant::deserialize(&value) {
                Ok(grant) => known.push(grant),
                Err(_) => unknown.push(value),
            }
        }
        (known, unknown)
    }
}

/// A config. It outlives itself: without data it is a tombstone, which keeps the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfigDocument {
    pub(crate) name: ConfigName,
    pub(crate) immutable: bool,
    pub(crate) version: u32,
    pub(crate) changed: Timestamp,
    pub(crate) data: Option<BTreeMap<ConfigKey, String>>,
}

/// The text of a document; no error of ours ever quotes it.
pub(crate) fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, EnvelopeError> {
    serde_json::from_slice(text).map_err(|_| EnvelopeError::Content)
}

/// The document of `place` as text.
pub(crate) fn write<T: Serialize>(
    place: &Place,
    document: &T,
) -> Result<Zeroizing<Vec<u8>>, RecordError> {
    serde_json::to_vec(document)
        .map(Zeroizing::new)
        .map_err(|_| RecordError {
            what: place.describe(),
            why: EnvelopeError::Content,
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEAD: &str = r#"{"name":"db","keep":10,"next":4,"oldest":1,"versions":[{"number":1,"created":7,"sizes":[[null,0]]},{"number":3,"created":9,"sizes":[["password",6],["username",5]]}]}"#;

    #[test]
    fn a_head_is_written_as_it_is_read() {
        let head = Head::parse(HEAD.as_bytes()).unwrap();
        let place = Place::Head(head.name.clone());
        assert_eq!(write(&place, &head).unwrap().as_slice(), HEAD.as_bytes());
    }

    #[test]
    fn a_head_that_nobody_can_have_written_is_refused() {
        for (from, to) in [
            (r#""number":3"#, r#""number":1"#),
            (r#""number":3"#, r#""number":4"#),
            (r#""number":1"#, r#""number":0"#),
            (r#""next":4"#, r#""next":268435457"#),
            (r#""oldest":1"#, r#""oldest":4"#),
            (r#""keep":10"#, r#""keep":1001"#),
            (r#"[[null,0]]"#, "[]"),
            (r#"["password",6]"#, "[null,6]"),
            (r#"["password",6]"#, r#"["username",6]"#),
            (r#""keep":10"#, r#""keep":10,"more":1"#),
            (r#""created":7"#, r#""created":7,"more":1"#),
            (r#""name":"db""#, r#""name":"../db""#),
        ] {
            let text = HEAD.replacen(from, to, 1);
            assert_ne!(text, HEAD);
            assert_eq!(
                Head::parse(text.as_bytes()),
                Err(EnvelopeError::Content),
                "{text}"
            );
        }
    }

    #[test]
    fn a_tombstone_has_no_versions_and_keeps_its_number() {
        let text = br#"{"name":"db","keep":10,"next":4,"oldest":4,"versions":[]}"#;
        let head = Head::parse(text).unwrap();
        assert_eq!((head.next, head.versions.len()), (4, 0));
    }

    #[test]
    fn a_grant_with_a_field_that_is_not_known_is_kept_and_allows_nothing() {
        let text = br#"{"service":"web","grants":[{"secret":"a"},{"secret":"b","hours":"9-17"},{"secret":"c","pins":{"tty":"1"}}]}"#;
        let grants: Grants = parse(text).unwrap();
        let place = Place::Grants(grants.service.clone());
        assert_eq!(write(&place, &grants).unwrap().as_slice(), text);
        let (known, unknown) = grants.sort_out();
        assert_eq!(known.len(), 1);
        assert_eq!(known[0].secret.as_str(), "a");
        assert_eq!(unknown.len(), 2);
    }
}
