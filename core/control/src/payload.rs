//! Values in JSON: text as it is, or base64 if the message says so.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::FieldName;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::calls::Scalar;
use crate::json::unique;
use crate::{ControlError, json};

/// How the values of a message are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As they are; what is no UTF-8 cannot be.
    #[default]
    Text,
    /// RFC 4648, section 4, with padding.
    Base64,
}

/// Text that holds a value or a passphrase: wiped when dropped, redacted when debugged.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes the text over.
    pub fn new(text: impl Into<Zeroizing<String>>) -> SecretText {
        SecretText(text.into())
    }

    /// The text in clear.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText([redacted])")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<SecretText, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText::new(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<SecretText, E> {
                Ok(SecretText::new(text))
            }
        }
        from.deserialize_str(Text)
    }
}

/// What one version of a secret holds, in clear.
#[derive(Clone, PartialEq, Eq)]
pub enum Plain {
    /// One value.
    Single(Zeroizing<Vec<u8>>),
    /// Named fields, at least one.
    Fields(BTreeMap<FieldName, Zeroizing<Vec<u8>>>),
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Plain::Single(_) => f.write_str("Single([redacted])"),
            Plain::Fields(fields) => write!(f, "Fields({} [redacted])", fields.len()),
        }
    }
}

/// The same as the members of a message: `value` or `data`, and `encoding`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coded {
    /// The one value.
    pub value: Option<SecretText>,
    /// The fields.
    pub data: Option<BTreeMap<FieldName, SecretText>>,
    /// How they are written.
    pub encoding: Option<Encoding>,
}

impl Plain {
    /// What the members of a message say.
    ///
    /// # Errors
    /// Neither or both of `value` and `data`, `data` without a field, or no base64.
    pub fn decode(
        value: Option<&SecretText>,
        data: Option<&BTreeMap<FieldName, SecretText>>,
        encoding: Option<Encoding>,
    ) -> Result<Plain, ControlError> {
        let bytes = |text: &SecretText| decode(text, encoding.unwrap_or_default());
        match (value, data) {
            (Some(value), None) => bytes(value).map(Plain::Single),
            (None, Some(data)) if data.is_empty() => Err(ControlError::invalid(
                "`data` has no field; a secret has at least one",
            )),
            (None, Some(data)) => {
                let field =
                    |(name, text): (&FieldName, &SecretText)| Ok((name.clone(), bytes(text)?));
                data.iter()
                    .map(field)
                    .collect::<Result<_, _>>()
                    .map(Plain::Fields)
            }
            (Some(_), Some(_)) => Err(ControlError::invalid(
                "both `value` and `data` are given; one value, or named fields",
            )),
            (None, None) => Err(ControlError::invalid(
                "neither `value` nor `data` is given; one value, or named fields",
            )),
        }
    }

    /// The fields that a JSON object has: text, or a number or a boolean as it is written.
    ///
    /// # Errors
    /// The text is no such object; nothing of it is shown.
    pub fn fields_of_json(text: &[u8]) -> Result<Plain, ControlError> {
        let mut from = serde_json::Deserializer::from_slice(text);
        let fields: BTreeMap<FieldName, Scalar> = unique(&mut from)
            .and_then(|fields| from.end().map(|()| fields))
            .map_err(|error| json::refusal(&error))?;
        if fields.is_empty() {
            return Err(ControlError::invalid(
                "the object has no field; a secret has at least one",
            ));
        }
        let bytes = |text: Scalar| Zeroizing::new(text.0.into_bytes());
        Ok(Plain::Fields(
            fields
                .into_iter()
                .map(|(name, text)| (name, bytes(text)))
                .collect(),
        ))
    }

    /// As members of a message, in the encoding that was asked for.
    ///
    /// # Errors
    /// The bytes are no text, and base64 was not asked for.
    pub fn encode(&self, encoding: Option<Encoding>) -> Result<Coded, ControlError> {
        let text = |bytes: &Zeroizing<Vec<u8>>| encode(bytes, encoding.unwrap_or_default());
        let (value, data) = match self {
            Plain::Single(bytes) => (Some(text(bytes)?), None),
            Plain::Fields(fields) => {
                let field = |(name, bytes): (&FieldName, _)| Ok((name.clone(), text(bytes)?));
                (
                    None,
                    Some(fields.iter().map(field).collect::<Result<_, _>>()?),
                )
            }
        };
        Ok(Coded {
            value,
            data,
            encoding,
        })
    }

    /// As members of a message, in whichever encoding carries them: text, unless that cannot be or
    /// JSON's escapes would make it longer.
    pub fn coded(&self) -> Coded {
        let plain = |bytes: &[u8]| {
            std::str::from_utf8(bytes).is_ok_and(|text| {
                text.chars().filter(|c| c.is_control()).count() <= bytes.len() / 16
            })
        };
        let all_plain = match self {
            Plain::Single(bytes) => plain(bytes),
            Plain::Fields(fields) => fields.values().all(|bytes| plain(bytes)),
        };
        let encoding = if all_plain {
            None
        } else {
            Some(Encoding::Base64)
        };
        self.encode(encoding).unwrap_or(Coded {
            value: None,
            data: None,
            encoding,
        })
    }
}

fn decode(text: &SecretText, encoding: Encoding) -> Result<Zeroizing<Vec<u8>>, ControlError> {
    match encoding {
        Encoding::Text => Ok(Zeroizing::new(text.expose().as_bytes().to_vec())),
        Encoding::Base64 => {
            let text = text.expose();
            // Into room that is there already: a vector that grows leaves unwiped copies.
            let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
            let length = STANDARD.decode_slice(text, &mut bytes).map_err(|_| {
                ControlError::invalid("a value is not base64 (RFC 4648, with padding)")
            })?;
            bytes.truncate(length);
            Ok(bytes)
        }
    }
}

fn encode(bytes: &[u8], encoding: Encoding) -> Result<SecretText, ControlError> {
    match encoding {
        Encoding::Text => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(SecretText::new(text.to_owned())),
            Err(_) => Err(ControlError::invalid("the value is not UTF-8 text")
                .hint(r#"ask for it with "encoding":"base64""#)),
        },
        Encoding::Base64 => Ok(SecretText::new(STANDARD.encode(bytes))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn round(plain: &Plain, coded: &Coded) {
        let back =
            Plain::decode(coded.value.as_ref(), coded.data.as_ref(), coded.encoding).unwrap();
        assert!(back == *plain);
    }

    #[test]
    fn bytes_of_any_kind_come_back_as_they_were() {
        let every: Vec<u8> = (0..=255).collect();
        for bytes in [&b""[..], b"text", "täxt\n".as_bytes(), &every, &[0; 1000]] {
            let plain = Plain::Single(Zeroizing::new(bytes.to_vec()));
            round(&plain, &plain.coded());
            round(&plain, &plain.encode(Some(Encoding::Base64)).unwrap());
            let name: FieldName = "cert.pem".parse().unwrap();
            let plain = Plain::Fields(BTreeMap::from([(name, Zeroizing::new(bytes.to_vec()))]));
            round(&plain, &plain.coded());
        }
    }

    #[test]
    fn bytes_that_are_no_text_name_the_encoding_that_carries_them() {
        let plain = Plain::Single(Zeroizing::new(vec![0xff]));
        let error = plain.encode(None).unwrap_err();
        assert!(error.hint.unwrap().contains(r#""encoding":"base64""#));
    }

    #[test]
    fn a_value_is_not_in_its_debug_nor_in_an_error() {
        let text = SecretText::new("hush".to_owned());
        assert!(!format!("{text:?}").contains("hush"));
        let plain = Plain::Single(Zeroizing::new(b"hush".to_vec()));
        assert!(!format!("{plain:?} {:?}", plain.coded()).contains("hush"));
        let error = Plain::decode(
            Some(&SecretText::new("hush!".to_owned())),
            None,
            Some(Encoding::Base64),
        );
        assert!(!format!("{:?}", error.unwrap_err()).contains("hush"));
    }

    #[test]
    fn fields_of_json_are_taken_as_written_and_a_refusal_shows_nothing() {
        let Plain::Fields(fields) =
            Plain::fields_of_json(br#"{"user":"admin","port":5432}"#).unwrap()
        else {
            panic!("one value")
        };
        assert_eq!(&fields["port"][..], b"5432");
        for text in [
            r#"{"a":"hush""#,
            r#"{"a":["hush"]}"#,
            r#"{"a":"hush","a":"hush"}"#,
            r#"["hush"]"#,
            r#"{"a":"hush"} hush"#,
            r#"{"a":null}"#,
            "{}",
            "",
        ] {
            let error = Plain::fields_of_json(text.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_message_has_one_value_or_fields_and_never_both_or_none() {
        let text = SecretText::new("a".to_owned());
        let none = BTreeMap::new();
        assert!(Plain::decode(Some(&text), Some(&none), None).is_err());
        assert!(Plain::decode(None, Some(&none), None).is_err());
        assert!(Plain::decode(None, None, None).is_err());
    }
}
