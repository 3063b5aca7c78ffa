#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The rule in words of its own, beside the one that is tested.
fn is_name(text: &str, capitals: bool) -> bool {
    let bytes = text.as_bytes();
    (1..=253).contains(&bytes.len())
        && bytes.iter().all(|b| match b {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => true,
            b'A'..=b'Z' => capitals,
            _ => false,
        })
        && !matches!(bytes[0], b'-' | b'_' | b'.')
        && !bytes.windows(2).any(|pair| pair == b"..")
}

fn check<T>(text: &str, capitals: bool)
where
    T: FromStr<Err = NameError> + fmt::Display + fmt::Debug + PartialEq + Serialize,
    T: for<'de> Deserialize<'de> + AsRef<str>,
{
    let json = serde_json::to_string(text).unwrap();
    match text.parse::<T>() {
        Ok(name) => {
            assert!(is_name(text, capitals), "accepted: {text:?}");
            assert_eq!(name.to_string(), text);
            assert_eq!(name.to_string().parse::<T>().unwrap(), name);
            assert_eq!(serde_json::to_string(&name).unwrap(), json);
            assert_eq!(serde_json::from_str::<T>(&json).unwrap(), name);
        }
        Err(error) => {
            assert!(!is_name(text, capitals), "refused: {text:?}: {error}");
            assert!(serde_json::from_str::<T>(&json).is_err());
            let words = error.to_string();
            assert!(!words.chars().any(char::is_control), "{words:?}");
            assert!(words.len() < 700, "{words}");
        }
    }
}

fn check_all(text: &str) {
    check::<SecretName>(text, false);
    check::<ServiceName>(text, false);
    check::<ConfigName>(text, false);
    check::<FieldName>(text, true);
    check::<ConfigKey>(text, true);
}

proptest! {
    #[test]
    fn any_text_is_a_name_that_comes_back_or_is_refused(text in any::<String>()) {
        check_all(&text);
    }

    #[test]
    fn any_text_of_nearly_the_right_characters_too(text in "[a-zA-Z0-9._ /-]{0,12}") {
        check_all(&text);
    }

    #[test]
    fn any_length_too(length in 240_usize..270) {
        check_all(&"x".repeat(length));
    }
}

#[test]
fn the_length_is_1_to_253() {
    assert!("".parse::<SecretName>().is_err());
    assert!("x".repeat(253).parse::<SecretName>().is_ok());
    let error = "x"
        .repeat(254)
        .parse::<SecretName>()
        .unwrap_err()
        .to_string();
    assert!(error.contains("254 bytes"), "{error}");
}

#[test]
fn what_is_wrong_is_said_and_nothing_acts_on_a_terminal() {
    for (text, words) in [
        ("", "it is empty"),
        ("Web", "a capital that no secret name has, at place 1"),
        ("a/b", "a character that no secret name has, at place 2"),
        ("a\u{1b}[31m", "`a\\u{1b}[31m` is not a secret name"),
        ("-a", "its first character"),
        ("a..b", "it contains `..`"),
    ] {
        let error = text.parse::<SecretName>().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_map_by_name_is_asked_with_text() {
    let map = BTreeMap::from([("tls".parse::<SecretName>().unwrap(), 1)]);
    assert_eq!(map.get("tls"), Some(&1));
}
