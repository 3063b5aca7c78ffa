//! Values of a config.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// Text; a number or a boolean is taken as it is written, `1.10` as "1.10".
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Scalar, D::Error> {
        // In place: a copy would not be wiped.
        let raw = <&'de RawValue>::deserialize(from)?;
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str(text)
                .map(Scalar)
                .map_err(|_| D::Error::custom("a value of a config is not a JSON string")),
            Some(b'[' | b'{') | None => Err(D::Error::custom(
                "a value of a config is text, a number or a boolean",
            )),
            Some(b'n') => Err(D::Error::custom(
                "null is no value of a config; leave the key out, or give \"\"",
            )),
            Some(_) => Ok(Scalar(text.to_owned())),
        }
    }
}

/// Configs hold no secrets, but many a secret was put into one.
impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scalar([redacted])")
    }
}

impl From<String> for Scalar {
    fn from(text: String) -> Scalar {
        Scalar(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_scalar_is_taken_as_it_is_written() {
        let read = |text: &str| serde_json::from_str::<Scalar>(text).map(|scalar| scalar.0);
        for (text, value) in [
            ("1.10", "1.10"),
            ("true", "true"),
            (r#""a\nb""#, "a\nb"),
            ("\"\"", ""),
            ("-7e3", "-7e3"),
        ] {
            assert_eq!(read(text).unwrap(), value);
        }
        for text in ["null", "[]", "{}", "[\"hush\"]"] {
            let error = read(text).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
