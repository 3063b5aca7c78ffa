//! The line form to the tree: `secret db_password`, `config log_level=debug`, `# comments`.

use super::error::{Fault, Located, Place};
use super::tree::{Key, Node, What};
use super::words::{Word, split, without_comment};
use crate::text;

/// First words of a line.
const WORDS: [&str; 12] = [
    "service",
    "user",
    "command",
    "secret",
    "config",
    "config_from",
    "on_change",
    "restart",
    "wait",
    "target",
    "file_mode",
    "folder_mode",
];

/// Whether a text is in the line form: its first significant line begins as no YAML of a manifest
/// does.
pub(super) fn is_line_form(text: &str) -> bool {
    let significant = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let Some(line) = text.lines().map(str::trim).find(significant) else {
        // Nothing at all: one form says that as well as the other.
        return false;
    };
    // Flow, quotes, lists, documents, directives, complex keys, anchors, tags.
    if line.starts_with([
        '{', '[', '}', ']', '"', '\'', '-', '%', '?', '&', '!', '*', '|', '>',
    ]) {
        return false;
    }
    // `word:` and `word: value`; but `config url=http://x` has its colon in a later word.
    let first = line.split_whitespace().next().unwrap_or_default();
    !first.ends_with(':')
}

/// Where each node and key is.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<Place>);

impl Places {
    pub(super) fn locate(&self, fault: Fault) -> Located {
        Located {
            place: self.0.get(fault.at).copied(),
            words: fault.words,
        }
    }

    fn add(&mut self, place: Place) -> usize {
        self.0.push(place);
        self.0.len() - 1
    }
}

/// Parses a text of which [`is_line_form`] is true.
pub(super) fn parse(text: &str) -> Result<(Node, Places), Located> {
    let mut parser = Parser::default();
    let root = parser.places.add(Place { line: 1, column: 1 });
    for (number, line) in text.lines().enumerate() {
        parser.line = number + 1;
        parser.take(line)?;
    }
    let Parser {
        places, entries, ..
    } = parser;
    Ok((
        Node {
            at: root,
            what: What::Map(entries),
        },
        places,
    ))
}

#[derive(Debug, Default)]
struct Parser {
    line: usize,
    places: Places,
    entries: Vec<(Key, Node)>,
}

impl Parser {
    fn take(&mut self, line: &str) -> Result<(), Located> {
        if let Some(at) = line.chars().position(|c| c.is_control() && c != '\t') {
            return Err(self.refuse(at + 1, "a control character"));
        }
        let rest = line.trim_start();
        let column = line[..line.len() - rest.len()].chars().count() + 1;
        if rest.is_empty() || rest.starts_with('#') {
            return Ok(());
        }
        let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(length);
        let after = column + word.chars().count();
        if !WORDS.contains(&word) {
            let shown = text::shown_keyword(word);
            let known = text::nearest(word, WORDS).map_or_else(
                || format!("; expected one of {}", text::list(&WORDS)),
                |nearest| format!("; did you mean `{nearest}`?"),
            );
            return Err(self.refuse(column, &format!("unknown word `{shown}`{known}")));
        }
        let key = self.places.add(Place {
            line: self.line,
            column,
        });
        if word == "config" {
            return self.take_config(key, rest, after);
        }
        let words = self.split(rest, after)?;
        match word {
            "secret" => self.take_secret(key, words),
            "config_from" => {
                let list = words.into_iter().map(|word| self.scalar(word)).collect();
                self.append(key, "config_from", list);
                Ok(())
            }
            "command" => {
                let list = words.into_iter().map(|word| self.scalar(word)).collect();
                self.put(key, "command", What::List(list));
                Ok(())
            }
            "target" => {
                let [which, path] = self.exactly(words, after, "target secret PATH")?;
                let which = self.key(which);
                let path = self.scalar(path);
                self.insert(key, "targets", which, path);
                Ok(())
            }
            "on_change" => self.take_on_change(key, words, after),
            _ => {
                let [one] = self.exactly(words, after, &format!("{word} VALUE"))?;
                let node = self.scalar(one);
                self.entries.push((
                    Key {
                        at: key,
                        text: word.into(),
                    },
                    node,
                ));
                Ok(())
            }
        }
    }

    /// `secret NAME`, and after it keys of a secret: `env=VARIABLE audit=every-read`.
    fn take_secret(&mut self, key: usize, words: Vec<Word>) -> Result<(), Located> {
        let usage = "expected `secret NAME`, and after it keys of a secret such as \
                     `env=VARIABLE`, `mode=0440`, `optional=true`";
        let mut words = words.into_iter();
        let Some(name) = words.next() else {
            return Err(self.refuse_at(key, usage));
        };
        let at = self.places.add(Place {
            line: self.line,
            column: name.column,
        });
        let text = "name".into();
        let name = (Key { at, text }, self.scalar(name));
        let mut entries = vec![name];
        for Word { column, text } in words {
            let Some((word, value)) = text.split_once('=') else {
                return Err(self.refuse(column, usage));
            };
            let value_column = column + word.chars().count() + 1;
            let word = self.key(Word {
                column,
                text: word.into(),
            });
            let value = self.scalar(Word {
                column: value_column,
                text: value.into(),
            });
            entries.push((word, value));
        }
        let what = What::Map(entries);
        self.append(key, "secrets", vec![Node { at, what }]);
        Ok(())
    }

    /// `on_change restart`, `on_change signal HUP`, `on_change command WORDS...`.
    fn take_on_change(
        &mut self,
        key: usize,
        words: Vec<Word>,
        after: usize,
    ) -> Result<(), Located> {
        let usage = "expected `restart`, `signal NAME` or `command WORDS...`";
        let mut words = words.into_iter();
        let Some(kind) = words.next() else {
            return Err(self.refuse(after, usage));
        };
        let what = match kind.text.as_str() {
            "restart" if words.len() == 0 => What::Text(kind.text),
            "signal" if words.len() == 1 => {
                let kind = self.key(kind);
                What::Map(
                    words
                        .map(|name| (kind.clone(), self.scalar(name)))
                        .collect(),
                )
            }
            "command" => {
                let list = words.map(|word| self.scalar(word)).collect();
                let kind = self.key(kind);
                let node = Node {
                    at: kind.at,
                    what: What::List(list),
                };
                What::Map(vec![(kind, node)])
            }
            _ => return Err(self.refuse(kind.column, usage)),
        };
        self.put(key, "on_change", what);
        Ok(())
    }

    /// `config KEY=VALUE`: the value is the rest of the line, quoted or as it stands.
    fn take_config(&mut self, key: usize, rest: &str, after: usize) -> Result<(), Located> {
        let trimmed = rest.trim_start();
        let column = after + rest[..rest.len() - trimmed.len()].chars().count();
        let usage = "expected `config KEY=VALUE`";
        // Of a line that is none nothing is shown: it may well hold a value.
        let (name, value) = match trimmed.split_once('=') {
            Some((name, value)) if !name.contains(char::is_whitespace) => (name, value),
            _ => return Err(self.refuse(column, usage)),
        };
        let blanks = value.chars().take_while(|c| c.is_whitespace()).count();
        let value_column = column + name.chars().count() + 1 + blanks;
        let value = if value.trim_start().starts_with(['"', '\'']) {
            match self.split(value.trim_start(), value_column)?.as_mut_slice() {
                [word] => std::mem::take(&mut word.text),
                _ => {
                    let words = "expected one quoted value, and nothing after it";
                    return Err(self.refuse(value_column, words));
                }
            }
        } else {
            without_comment(value).trim().to_owned()
        };
        let name = self.key(Word {
            column,
            text: name.to_owned(),
        });
        let value = self.scalar(Word {
            column: value_column,
            text: value,
        });
        self.insert(key, "config", name, value);
        Ok(())
    }

    fn split(&self, text: &str, column: usize) -> Result<Vec<Word>, Located> {
        split(text, column).map_err(|(column, words)| self.refuse(column, words))
    }

    fn exactly<const N: usize>(
        &self,
        words: Vec<Word>,
        after: usize,
        usage: &str,
    ) -> Result<[Word; N], Located> {
        let column = words
            .get(N)
            .or(words.last())
            .map_or(after, |word| word.column);
        words
            .try_into()
            .map_err(|_| self.refuse(column, &format!("expected `{usage}`")))
    }

    fn key(&mut self, word: Word) -> Key {
        let at = self.places.add(Place {
            line: self.line,
            column: word.column,
        });
        Key {
            at,
            text: word.text,
        }
    }

    fn scalar(&mut self, word: Word) -> Node {
        let at = self.places.add(Place {
            line: self.line,
            column: word.column,
        });
        Node {
            at,
            what: What::Text(word.text),
        }
    }

    /// A key that is given once; that it is, is the reader's to see.
    fn put(&mut self, key: usize, name: &str, what: What) {
        self.entries.push((
            Key {
                at: key,
                text: name.into(),
            },
            Node { at: key, what },
        ));
    }

    /// One more of a list that is given line by line.
    fn append(&mut self, key: usize, name: &str, more: Vec<Node>) {
        match self.entries.iter_mut().find(|(key, _)| key.text == name) {
            Some((
                _,
                Node {
                    what: What::List(list),
                    ..
                },
            )) => list.extend(more),
            _ => self.put(key, name, What::List(more)),
        }
    }

    /// One more of a map that is given line by line.
    fn insert(&mut self, key: usize, name: &str, inner: Key, node: Node) {
        match self.entries.iter_mut().find(|(key, _)| key.text == name) {
            Some((
                _,
                Node {
                    what: What::Map(map),
                    ..
                },
            )) => map.push((inner, node)),
            _ => self.put(key, name, What::Map(vec![(inner, node)])),
        }
    }

    fn refuse(&self, column: usize, words: &str) -> Located {
        let place = Some(Place {
            line: self.line,
            column,
        });
        Located {
            place,
            words: words.to_owned(),
        }
    }

    fn refuse_at(&self, at: usize, words: &str) -> Located {
        self.places.locate(Fault {
            at,
            words: words.to_owned(),
        })
    }
}
