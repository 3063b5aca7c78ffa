//! KEY=VALUE: lines of a file, as `.env` files have them, and arguments for configs.
//!
//! An error tells the line and what is wrong there, never what stands there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use control::Plain;
use control::calls::Scalar;
use model::{ConfigKey, FieldName, NameError};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::value::{read_file, shown};

/// The fields of a secret that lines of KEY=VALUE are.
///
/// # Errors
/// `LINE: what`, where something is none.
pub fn fields(text: &[u8]) -> Result<BTreeMap<FieldName, Zeroizing<Vec<u8>>>, String> {
    let pairs: BTreeMap<FieldName, _> = parse(text)?;
    if pairs.is_empty() {
        return Err("1: there is no KEY=VALUE".to_owned());
    }
    Ok(pairs
        .into_iter()
        .map(|(key, value)| (key, bytes(value)))
        .collect())
}

fn bytes(mut text: Zeroizing<String>) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(std::mem::take(&mut *text).into_bytes())
}

/// Lines of KEY=VALUE. `export` before a key, empty lines and `#` comments mean nothing. A value in
/// single quotes is taken as it is, one in double quotes with \n, \t, \", \$ and \\, one without
/// quotes up to the end of its line without blanks.
fn parse<K>(text: &[u8]) -> Result<BTreeMap<K, Zeroizing<String>>, String>
where
    K: FromStr<Err = NameError> + Ord,
{
    let text = match std::str::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let line = text[..error.valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            return Err(format!("{}: not UTF-8 text", line + 1));
        }
    };
    let mut pairs = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let here = |what: &str| format!("{}: {what}", number + 1);
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| here("expected KEY=VALUE"))?;
        // The key may be part of a value that was broken into lines: it is not shown.
        let key: K = key
            .trim()
            .parse()
            .map_err(|_| here("what is before `=` is not a key"))?;
        let value = unquote(value.trim_start()).map_err(here)?;
        if pairs.insert(key, value).is_some() {
            return Err(here("this key was there before"));
        }
    }
    Ok(pairs)
}

fn unquote(text: &str) -> Result<Zeroizing<String>, &'static str> {
    let open = "the closing quote is missing; a value ends with its line";
    let after = "something follows the closing quote";
    if let Some(rest) = text.strip_prefix('\'') {
        let (value, rest) = rest.split_once('\'').ok_or(open)?;
        return if rest.is_empty() {
            Ok(Zeroizing::new(value.to_owned()))
        } else {
            Err(after)
        };
    }
    let Some(rest) = text.strip_prefix('"') else {
        return Ok(Zeroizing::new(text.to_owned()));
    };
    let mut value = Zeroizing::new(String::with_capacity(rest.len()));
    let mut letters = rest.chars();
    loop {
        match letters.next().ok_or(open)? {
            '"' => break,
            '\\' => value.push(match letters.next().ok_or(open)? {
                'n' => '\n',
                't' => '\t',
                same @ ('"' | '\\' | '$') => same,
                _ => return Err(r#"after \ comes one of n t " $ \; or use single quotes"#),
            }),
            letter => value.push(letter),
        }
    }
    if letters.as_str().is_empty() {
        Ok(value)
    } else {
        Err(after)
    }
}

/// Where the keys of a config come from. They are no secrets, so they may be arguments.
#[derive(Debug, Args)]
pub struct Pairs {
    /// Keys with their values
    #[arg(value_name = "KEY=VALUE")]
    pairs: Vec<OsString>,
    /// Take keys from a JSON object; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "pairs")]
    from_json: Option<PathBuf>,
    /// Take keys from lines of KEY=VALUE; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pairs", "from_json"])]
    from_env: Option<PathBuf>,
}

impl Pairs {
    /// The keys, each once.
    pub fn read(&self) -> Result<BTreeMap<ConfigKey, Scalar>> {
        let mut data = BTreeMap::new();
        if let Some(file) = &self.from_json {
            let text = read_file(file)?;
            let failed = |what: String| Failure::failed(format!("{}: {what}", shown(file)));
            let Plain::Fields(fields) =
                Plain::fields_of_json(&text).map_err(|error| failed(error.to_string()))?
            else {
                return Err(failed("expected an object".to_owned()).into());
            };
            for (key, value) in fields {
                let key = key
                    .as_str()
                    .parse()
                    .map_err(|e: NameError| failed(e.to_string()))?;
                let value = std::str::from_utf8(&value).map_err(|e| failed(e.to_string()))?;
                data.insert(key, Scalar(value.to_owned()));
            }
        } else if let Some(file) = &self.from_env {
            let text = read_file(file)?;
            let pairs: BTreeMap<ConfigKey, _> = parse(&text)
                .map_err(|error| Failure::failed(format!("{}:{error}", shown(file))))?;
            data.extend(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key, Scalar((*value).clone()))),
            );
        }
        for pair in &self.pairs {
            let (key, value) = split(pair)?;
            if data.insert(key, value).is_some() {
                return Err(Failure::usage("a key stands twice").into());
            }
        }
        Ok(data)
    }
}

/// One KEY=VALUE of the command line.
fn split(pair: &OsString) -> Result<(ConfigKey, Scalar)> {
    let text = pair
        .to_str()
        .ok_or_else(|| Failure::usage("a value is not UTF-8 text"))?;
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| Failure::usage("expected KEY=VALUE"))?;
    let key = key
        .parse()
        .map_err(|error: NameError| Failure::usage(error.to_string()))?;
    Ok((key, Scalar(value.to_owned())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fields = fields(text.as_bytes())?;
        Ok(fields
            .iter()
            .map(|(key, value)| (key.to_string(), text_of(value)))
            .collect())
    }

    #[test]
    fn lines_are_what_a_shell_would_make_of_them() {
        let text = "# comment\n\nuser=admin\nexport PASSWORD='a b#$x'\nkey=\"line\\n\\\"q\\\"\"\n\
            empty=\n  url = postgres://u:p@h/d?x=y  \r\n";
        let expected = [
            ("PASSWORD", "a b#$x"),
            ("empty", ""),
            ("key", "line\n\"q\""),
            ("url", "postgres://u:p@h/d?x=y"),
            ("user", "admin"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn an_error_names_the_line_and_shows_nothing_of_it() {
        for (text, line) in [
            ("a=1\nhush\n", "2:"),
            ("a='hush\n", "1:"),
            ("a=\"hush\\x\"\n", "1:"),
            ("a=\"hush\" hush\n", "1:"),
            ("\nhush hush=1\n", "2:"),
            ("a=hush\na=hush\n", "2:"),
            ("", "1:"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(line), "{text}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
        assert!(fields(b"a=1\nb=\xff\n").unwrap_err().starts_with("2:"));
    }
}
