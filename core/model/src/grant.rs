//! Grants. Both types refuse a field that they do not know: a grant of a later version may be
//! narrower than this one can see, and a reader that cannot see how narrow must deny.

use serde::{Deserialize, Serialize};

use crate::{SecretName, Timestamp};

/// An operator's word that one service may read one secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The secret.
    pub secret: SecretName,
    /// When the grant ends; `None`: never by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The same in the store's own time, which nobody can set back: whichever comes first ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// What the reader must be, beside having the service's name.
    #[serde(default, skip_serializing_if = "Pins::is_empty")]
    pub pins: Pins,
}

/// What a reader must show so that a service's name alone is not enough.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// The user that it runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Its container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

impl Pins {
    /// Whether nothing is pinned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Pins::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_field_that_is_not_known_is_not_skipped() {
        let read = serde_json::from_str::<Grant>;
        let plain = Grant {
            secret: "db".parse().unwrap(),
            until: None,
            deadline: None,
            pins: Pins::default(),
        };
        assert_eq!(read(r#"{"secret":"db"}"#).unwrap(), plain);
        assert_eq!(serde_json::to_string(&plain).unwrap(), r#"{"secret":"db"}"#);
        assert!(read(r#"{"secret":"db","hours":"9-17"}"#).is_err());
        assert!(read(r#"{"secret":"db","pins":{"tty":"1"}}"#).is_err());
        assert!(read(r#"{"secret":"../db"}"#).is_err());
    }

    #[test]
    fn a_whole_grant_comes_back() {
        let whole = Grant {
            secret: "db".parse().unwrap(),
            until: Some(Timestamp(7)),
            deadline: Some(3),
            pins: Pins {
                user: Some("www-data".into()),
                unit: Some("web.service".into()),
                image: None,
            },
        };
        let text = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Grant>(&text).unwrap(), whole);
        assert!(!whole.pins.is_empty());
    }
}
