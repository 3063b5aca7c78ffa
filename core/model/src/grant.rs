//! Grants. Both types refuse a field that they do not know: a grant of a later version may be
//! narrower than this one can see, and a reader that cannot see how narrow must deny.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{SecretName, Timestamp};

/// Endings of a unit that processes run in.
const UNITS: [&str; 6] = [".service", ".scope", ".socket", ".mount", ".swap", ".slice"];
/// Digests of images, and how many hexadecimal digits they have.
const DIGESTS: [(&str, usize); 2] = [("sha256:", 64), ("sha512:", 128)];
/// The most bytes of a pin.
const MAX_PIN: usize = 512;

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

    /// What no reader can ever show is refused when it is given, and not at some later start.
    ///
    /// # Errors
    /// Why a pin cannot be one.
    pub fn check(&self) -> Result<(), PinError> {
        let all = [&self.user, &self.unit, &self.image];
        if all.into_iter().flatten().any(|pin| pin.len() > MAX_PIN) {
            return Err(PinError::TooLong);
        }
        if let Some(user) = &self.user
            && (crate::manifest::check_user(user).is_err() || user.contains(':'))
        {
            return Err(PinError::User);
        }
        if let Some(unit) = &self.unit
            && !is_unit(unit)
        {
            return Err(PinError::Unit);
        }
        if let Some(image) = &self.image
            && !is_digest(image)
        {
            return Err(PinError::Image);
        }
        Ok(())
    }
}

impl fmt::Display for Pins {
    /// `user www-data, unit nginx.service`; nothing where nothing is pinned.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("user", &self.user),
            ("unit", &self.unit),
            ("image", &self.image),
        ];
        let mut between = "";
        for (kind, pin) in all {
            if let Some(pin) = pin {
                write!(f, "{between}{kind} {pin}")?;
                between = ", ";
            }
        }
        Ok(())
    }
}

/// Why something cannot be a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Longer than 512 bytes.
    #[error("a pin has at most {MAX_PIN} bytes")]
    TooLong,
    /// Not a user.
    #[error("a pinned user is a login name or a number")]
    User,
    /// No name of a unit.
    #[error("a pinned unit is its whole name, such as nginx.service or web@1.service")]
    Unit,
    /// No digest.
    #[error("a pinned image is its digest, such as sha256: and 64 digits of 0-9 a-f")]
    Image,
}

/// Whether this is the whole name of a systemd unit, no pattern and no template.
#[must_use]
pub fn is_unit(name: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let ending = UNITS.iter().find_map(|ending| name.strip_suffix(ending));
    ending.is_some_and(|stem| {
        !stem.is_empty() && !stem.ends_with('@') && name.len() <= 255 && name.chars().all(sound)
    })
}

fn is_digest(text: &str) -> bool {
    let hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    DIGESTS.iter().any(|(kind, length)| {
        text.strip_prefix(kind)
            .is_some_and(|rest| rest.len() == *length && rest.bytes().all(hex))
    })
}

/// What is known of a reader, and not by its own word: the kernel says it, or root's injector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The user that its first process has, or gets before it runs anything.
    pub uid: u32,
    /// The systemd unit that it runs in.
    pub unit: Option<String>,
    /// The digest of its container's image.
    pub image: Option<String>,
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

    #[test]
    fn a_pin_that_nobody_could_ever_show_is_refused() {
        let unit = |unit: &str| Pins {
            unit: Some(unit.into()),
            ..Pins::default()
        };
        for good in [
            "nginx.service",
            "web@1.service",
            "dev-disk\\x2d.mount",
            "s-1.scope",
        ] {
            assert_eq!(unit(good).check(), Ok(()), "{good}");
        }
        for bad in [
            "nginx",
            "",
            ".service",
            "web@.service",
            "web*.service",
            "a/b.service",
        ] {
            assert_eq!(unit(bad).check(), Err(PinError::Unit), "{bad}");
        }
        let image = |image: String| Pins {
            image: Some(image),
            ..Pins::default()
        };
        assert_eq!(image(format!("sha256:{}", "0a".repeat(32))).check(), Ok(()));
        for bad in [
            "latest".into(),
            format!("sha256:{}", "0A".repeat(32)),
            "sha256:0a".into(),
        ] {
            assert_eq!(image(bad).check(), Err(PinError::Image));
        }
        let user = |user: &str| Pins {
            user: Some(user.into()),
            ..Pins::default()
        };
        assert_eq!(user("www-data").check(), Ok(()));
        assert_eq!(user("33").check(), Ok(()));
        for bad in ["", "33:33", "a b"] {
            assert_eq!(user(bad).check(), Err(PinError::User), "{bad}");
        }
        let both = Pins {
            user: Some("33".into()),
            ..unit("nginx.service")
        };
        assert_eq!(both.to_string(), "user 33, unit nginx.service");
    }
}
