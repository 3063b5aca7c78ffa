//! Names. A name is parsed once, and has one spelling: printing and parsing is the identity, so no
//! two names mean the same secret, and none is a path.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::text::shown;

/// The longest name: one byte less than would leave no room for a mark in a file's name.
const LONGEST: usize = 253;

/// Why a text is not a name. Shows the text only cut and without control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{shown}` is not a {what}: {why} (1 to 253 characters of {alphabet}, the first a letter or \
     digit, without `..`)"
)]
pub struct NameError {
    what: &'static str,
    alphabet: &'static str,
    shown: String,
    why: String,
}

struct Rule {
    what: &'static str,
    alphabet: &'static str,
    capitals: bool,
}

impl Rule {
    fn check(&self, text: &str) -> Result<(), NameError> {
        self.why_not(text).map_or(Ok(()), |why| {
            Err(NameError {
                what: self.what,
                alphabet: self.alphabet,
                shown: shown(text),
                why,
            })
        })
    }

    fn why_not(&self, text: &str) -> Option<String> {
        let letter = |c: char| {
            c.is_ascii_lowercase() || c.is_ascii_digit() || self.capitals && c.is_ascii_uppercase()
        };
        let first = text.chars().next();
        let wrong = text
            .chars()
            .position(|c| !letter(c) && !matches!(c, '-' | '_' | '.'));
        match (first, wrong) {
            (None, _) => Some("it is empty".into()),
            _ if text.len() > LONGEST => Some(format!("it is {} bytes long", text.len())),
            (_, Some(at)) => {
                let c = text.chars().nth(at).unwrap_or_default();
                let capital = c.is_ascii_uppercase();
                let kind = if capital { "a capital" } else { "a character" };
                Some(format!(
                    "it has {kind} that no {} has, at place {}",
                    self.what,
                    at + 1
                ))
            }
            (Some(first), _) if !letter(first) => {
                Some("its first character is neither a letter nor a digit".into())
            }
            _ if text.contains("..") => Some("it contains `..`".into()),
            _ => None,
        }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $capitals:literal, $alphabet:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let rule = Rule { what: $what, alphabet: $alphabet, capitals: $capitals };
                rule.check(text)?;
                Ok(Self(text.into()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        /// Maps by name can be asked with text: both order and hash alike.
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Parse(std::marker::PhantomData))
            }
        }
    };
}

name!(
    /// The name of a secret.
    SecretName, "secret name", false, "a-z 0-9 - _ ."
);
name!(
    /// The name of a service.
    ServiceName, "service name", false, "a-z 0-9 - _ ."
);
name!(
    /// The name of a stored config.
    ConfigName, "config name", false, "a-z 0-9 - _ ."
);
name!(
    /// The name of a field of a secret.
    FieldName, "field name", true, "A-Z a-z 0-9 - _ ."
);
name!(
    /// A key of a config.
    ConfigKey, "config key", true, "A-Z a-z 0-9 - _ ."
);

struct Parse<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = NameError>> de::Visitor<'_> for Parse<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
#[path = "name/tests.rs"]
mod tests;
