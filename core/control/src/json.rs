//! JSON from outside: what is wrong with it, told without what stands in it.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use model::nearest;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::ControlError;

/// What is wrong, and where; nothing of the text itself, for a value may stand anywhere in it.
pub(crate) fn refusal(error: &serde_json::Error) -> ControlError {
    ControlError::invalid(format!(
        "{} (line {}, column {})",
        words(error),
        error.line(),
        error.column()
    ))
}

fn words(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    match error.classify() {
        Category::Eof => return "the JSON text ends too early".to_owned(),
        Category::Syntax => return "the text is not JSON".to_owned(),
        Category::Io => return "the JSON text cannot be read".to_owned(),
        Category::Data => {}
    }
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(text, _)| text);
    // serde puts what it found in front, and what it wanted behind; the last one is ours.
    let wanted = text.rsplit_once(", expected ").map(|(_, wanted)| wanted);
    let is = |start: &str| text.starts_with(start);
    match wanted {
        Some(wanted) if is("unknown field") => unknown("field", text, wanted),
        Some(wanted) if is("unknown variant") => unknown("word", text, wanted),
        Some(wanted) if is("invalid type") || is("invalid value") || is("invalid length") => {
            format!("expected {wanted}")
        }
        _ if is("unknown field") => "this method has no parameters".to_owned(),
        _ if is("invalid ") => "something else was expected".to_owned(),
        _ => text.to_owned(),
    }
}

/// `wanted` is serde's: "`a`", "`a` or `b`", "one of `a`, `b`, `c`".
fn unknown(what: &str, text: &str, wanted: &str) -> String {
    let names = wanted.split('`').skip(1).step_by(2);
    let found = text.split('`').nth(1).unwrap_or_default();
    match nearest(found, names) {
        Some(near) => format!("unknown {what}; did you mean `{near}`?"),
        None => format!("unknown {what}; expected {wanted}"),
    }
}

/// A map that refuses to hold a key twice: the one that came second would win in silence.
pub(crate) fn unique<'de, D, K, V>(from: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    Ok(Unique::deserialize(from)?.0)
}

/// The same for a map that may be left out.
pub(crate) fn unique_option<'de, D, K, V>(from: D) -> Result<Option<BTreeMap<K, V>>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    Ok(Option::<Unique<K, V>>::deserialize(from)?.map(|map| map.0))
}

struct Unique<K, V>(BTreeMap<K, V>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Unique<K, V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Pairs<K, V> {
            type Value = Unique<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names to text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
                let mut map = BTreeMap::new();
                while let Some(key) = pairs.next_key()? {
                    if map.insert(key, pairs.next_value()?).is_some() {
                        return Err(A::Error::custom("a name stands twice in one map"));
                    }
                }
                Ok(Unique(map))
            }
        }
        from.deserialize_map(Pairs(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Example {
        name: String,
        keep: Option<u32>,
        #[serde(default, deserialize_with = "unique_option")]
        data: Option<BTreeMap<String, String>>,
    }

    fn told(text: &str) -> String {
        refusal(&serde_json::from_str::<Example>(text).unwrap_err()).message
    }

    #[test]
    fn an_error_says_what_was_expected_and_nothing_of_what_was_there() {
        for text in [
            r#"{"name":"a","keep":"hush"}"#,
            r#"{"name":"a","keep":"hush, expected hush"}"#,
            r#"{"name":{"hush":1}}"#,
            r#"{"name":"a","hush":1}"#,
            r#"{"name":"a","data":"hush"}"#,
            r#"{"name":"a","data":{"hush":1}}"#,
            r#"{"name":"a","data":{"hush":"1","hush":"2"}}"#,
            r#"{"name":"hush"#,
            r#"{"name":hush}"#,
        ] {
            let words = told(text);
            assert!(!words.contains("hush"), "{text}: {words}");
            assert!(words.contains("column"), "{text}: {words}");
        }
        assert!(told("{}").contains("missing field `name`"));
        assert!(told(r#"{"name":7}"#).contains("expected a string"));
    }

    #[test]
    fn a_field_that_is_misspelt_is_told_the_right_way() {
        assert!(told(r#"{"nmae":"a"}"#).contains("did you mean `name`?"));
        assert!(told(r#"{"something":"a"}"#).contains("expected one of"));
    }
}
