//! YAML to the tree.
//!
//! serde_yaml makes numbers of `1.10`, lets the last of two equal keys win, and prints values in
//! its errors. So it is asked in a way that does none of that, in passes over the same text:
//!
//! 0. all is skipped over: syntax, and that it is one document;
//! 1. [`Survey`] learns each value's kind (the only pass in which scalars are interpreted, and
//!    thrown away) and bounds size and depth, aliases followed;
//! 2. [`Take`] builds the tree; as each kind is known now, each scalar is asked for as text, which
//!    gives it as it is written;
//! 3. only for an error: [`Take`] again, made to fail at one node, as only an error has a place.
//!
//! All passes number keys and values alike, in the order of the text.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde_yaml::Error;

use super::error::{Fault, Located, Place};
use super::tree::{Key, Node, What};

/// A manifest's text has fewer bytes than this, so more nodes come from aliases alone.
const MAX_NODES: usize = super::MAX_TEXT;
/// A manifest is three deep.
const MAX_DEPTH: usize = 16;

/// What a key or value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Key,
    Null,
    Text,
    List,
    Map,
}

/// A text that is YAML, and not too much of it.
#[derive(Debug)]
pub(super) struct Document<'t> {
    text: &'t str,
    kinds: Vec<Kind>,
}

impl<'t> Document<'t> {
    pub(super) fn parse(text: &'t str) -> Result<Document<'t>, Located> {
        serde_yaml::from_str::<IgnoredAny>(text).map_err(|error| Located {
            place: place(&error),
            words: syntax(&error),
        })?;
        let mut survey = Survey::default();
        let seen = Look {
            survey: &mut survey,
            depth: 0,
        }
        .deserialize(serde_yaml::Deserializer::from_str(text));
        seen.map_err(|error| Located {
            place: place(&error),
            words: survey.said.take().unwrap_or_else(|| {
                // Its own limit on aliases is the one error here that has no place.
                let known = error.location().is_some();
                if known { MISFIT } else { TOO_MUCH }.into()
            }),
        })?;
        if survey.kinds == [Kind::Null] {
            return Err(Located::nowhere("the manifest is empty"));
        }
        Ok(Document {
            text,
            kinds: survey.kinds,
        })
    }

    pub(super) fn tree(&self) -> Result<Node, Located> {
        let mut passed = 0;
        let take = Take {
            kinds: &self.kinds,
            passed: &mut passed,
            fail_at: None,
        };
        take.deserialize(serde_yaml::Deserializer::from_str(self.text))
            .map_err(|error| Located {
                place: place(&error),
                words: MISFIT.into(),
            })
    }

    pub(super) fn locate(&self, fault: Fault) -> Located {
        let mut passed = 0;
        let take = Take {
            kinds: &self.kinds,
            passed: &mut passed,
            fail_at: Some(fault.at),
        };
        let failed = take.deserialize(serde_yaml::Deserializer::from_str(self.text));
        Located {
            place: failed.err().as_ref().and_then(place),
            words: fault.words,
        }
    }
}

const TOO_MUCH: &str = "aliases (`*...`) repeat too much here; write out what they stand for";
/// Said of what serde_yaml refuses beyond syntax: a standard tag on a value that it does not fit.
const MISFIT: &str = "a value does not fit its tag; leave the tag (`!...`) away";

fn place(error: &Error) -> Option<Place> {
    error.location().map(|at| Place {
        line: at.line(),
        column: at.column(),
    })
}

/// The parser's own words. They are fixed ones as long as nothing is interpreted; the place in them
/// is left away, as ours stands before them.
fn syntax(error: &Error) -> String {
    let words = error.to_string();
    if words.contains("more than one document") {
        return "more than one document (`---`); a manifest is one".into();
    }
    let words = words.split(" at line ").next().unwrap_or_default();
    let words = words.split(" at position ").next().unwrap_or_default();
    format!("not YAML: {words}")
}

/// What pass 1 learns.
#[derive(Debug, Default)]
struct Survey {
    kinds: Vec<Kind>,
    /// Our words for the error that is under way.
    said: Option<String>,
}

impl Survey {
    fn enter<E: serde::de::Error>(&mut self, kind: Kind) -> Result<usize, E> {
        self.kinds.push(kind);
        if self.kinds.len() > MAX_NODES {
            return Err(self.refuse(TOO_MUCH));
        }
        Ok(self.kinds.len() - 1)
    }

    fn refuse<E: serde::de::Error>(&mut self, words: &str) -> E {
        self.said = Some(words.into());
        E::custom("refused")
    }
}

/// Pass 1 at one value.
struct Look<'s> {
    survey: &'s mut Survey,
    depth: usize,
}

impl Look<'_> {
    fn scalar<E: serde::de::Error>(self, kind: Kind) -> Result<(), E> {
        self.survey.enter(kind).map(|_| ())
    }

    fn below(&mut self) -> Look<'_> {
        Look {
            survey: self.survey,
            depth: self.depth + 1,
        }
    }

    fn check_depth<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.depth < MAX_DEPTH {
            return Ok(());
        }
        Err(self.survey.refuse("nested too deeply for a manifest"))
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar(Kind::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar(Kind::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.scalar(Kind::Text)
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.scalar(Kind::Text)
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.scalar(Kind::Text)
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<(), E> {
        self.scalar(Kind::Text)
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<(), E> {
        self.scalar(Kind::Text)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.scalar(Kind::Text)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.scalar(Kind::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.check_depth()?;
        self.survey.enter(Kind::List)?;
        while list.next_element_seed(self.below())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.check_depth()?;
        self.survey.enter(Kind::Map)?;
        while map.next_key_seed(LookAtKey(self.survey))?.is_some() {
            map.next_value_seed(self.below())?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.survey.refuse("a manifest has no tags (`!...`)"))
    }
}

/// Pass 1 at a key.
struct LookAtKey<'s>(&'s mut Survey);

impl<'de> DeserializeSeed<'de> for LookAtKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.0.enter(Kind::Key)?;
        self.0.said = Some("a key is plain text, neither a list nor a map".into());
        from.deserialize_str(AsWritten)?;
        self.0.said = None;
        Ok(())
    }
}

/// A scalar as it is written, without quotes.
struct AsWritten;

impl Visitor<'_> for AsWritten {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Passes 2 and 3 at one key or value.
struct Take<'s> {
    kinds: &'s [Kind],
    /// How many keys and values came before.
    passed: &'s mut usize,
    fail_at: Option<usize>,
}

impl Take<'_> {
    fn below(&mut self) -> Take<'_> {
        Take {
            kinds: self.kinds,
            passed: self.passed,
            fail_at: self.fail_at,
        }
    }

    fn enter(&mut self) -> usize {
        *self.passed += 1;
        *self.passed - 1
    }
}

impl<'de> DeserializeSeed<'de> for Take<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(mut self, from: D) -> Result<Node, D::Error> {
        let at = self.enter();
        // Its error gets the place of the value that is visited.
        if self.fail_at == Some(at) {
            return from.deserialize_any(Fail).map(|never| match never {});
        }
        let what = match self.kinds.get(at) {
            Some(Kind::Null) => What::Null(from.deserialize_str(AsWritten)?),
            Some(Kind::Text) => What::Text(from.deserialize_str(AsWritten)?),
            Some(Kind::List) => What::List(from.deserialize_seq(TakeList(self))?),
            Some(Kind::Map) => What::Map(from.deserialize_map(TakeMap(self))?),
            Some(Kind::Key) | None => return Err(D::Error::custom("another text")),
        };
        Ok(Node { at, what })
    }
}

struct TakeList<'s>(Take<'s>);

impl<'de> Visitor<'de> for TakeList<'_> {
    type Value = Vec<Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Vec<Node>, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(self.0.below())? {
            nodes.push(node);
        }
        Ok(nodes)
    }
}

struct TakeMap<'s>(Take<'s>);

impl<'de> Visitor<'de> for TakeMap<'_> {
    type Value = Vec<(Key, Node)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Vec<(Key, Node)>, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key_seed(TakeKey(self.0.below()))? {
            entries.push((key, map.next_value_seed(self.0.below())?));
        }
        Ok(entries)
    }
}

struct TakeKey<'s>(Take<'s>);

impl<'de> DeserializeSeed<'de> for TakeKey<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(mut self, from: D) -> Result<Key, D::Error> {
        let at = self.0.enter();
        if self.0.fail_at == Some(at) {
            return from.deserialize_any(Fail).map(|never| match never {});
        }
        let text = from.deserialize_str(AsWritten)?;
        Ok(Key { at, text })
    }
}

/// Takes nothing, so that the deserializer says where it stands.
struct Fail;

impl<'de> Visitor<'de> for Fail {
    type Value = std::convert::Infallible;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}
