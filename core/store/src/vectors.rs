//! The known-answer vectors of `tests/vectors`, for the unit tests.
#![allow(clippy::unwrap_used)]

use model::{ConfigName, FieldName, SecretName, ServiceName};
use serde_json::Value;

use crate::hierarchy::Keys;
use crate::meta::StoreId;
use crate::place::Place;

pub(crate) fn hierarchy() -> Value {
    serde_json::from_str(include_str!("../tests/vectors/hierarchy.json")).unwrap()
}

pub(crate) fn records() -> Value {
    serde_json::from_str(include_str!("../tests/vectors/records.json")).unwrap()
}

pub(crate) fn keys() -> Value {
    serde_json::from_str(include_str!("../tests/vectors/keys.json")).unwrap()
}

pub(crate) fn backup() -> Value {
    serde_json::from_str(include_str!("../tests/vectors/backup.json")).unwrap()
}

/// Bytes of any length, out of hexadecimal text.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

pub(crate) fn number(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

pub(crate) fn store(vectors: &Value) -> StoreId {
    StoreId(array(&vectors["store"]))
}

/// The keys below the root key of a file of vectors.
pub(crate) fn keys_of(vectors: &Value) -> Keys {
    Keys::from_root(store(vectors), &bytes(&vectors["root"])).unwrap()
}

/// The place that a case names.
pub(crate) fn place(case: &Value) -> Place {
    let name = case["name"].as_str().unwrap();
    match number(&case["kind"]) {
        1 => Place::Head(name.parse::<SecretName>().unwrap()),
        2 => {
            let field = case["field"].as_str().unwrap();
            let field = (!field.is_empty()).then(|| field.parse::<FieldName>().unwrap());
            Place::Version(name.parse().unwrap(), number(&case["version"]), field)
        }
        3 => Place::Grants(name.parse::<ServiceName>().unwrap()),
        4 => Place::Config(name.parse::<ConfigName>().unwrap()),
        other => panic!("kind {other}"),
    }
}
