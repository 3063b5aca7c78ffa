//! Where a value comes from. It is never an argument: those are in /proc and in the shell's history.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use control::Plain;
use model::FieldName;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::{names, pairs, prompt};

/// The most bytes of one version.
const MOST: usize = 1 << 20;
/// What a generated value is made of: 5.95 bits a character, and nothing that a shell, a URL or a
/// configuration file would take for something else.
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The sources of a value; without one, a prompt without echo asks for it.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Source {
    /// Take the value from a file, byte for byte; `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Make a random value of letters and digits
    #[arg(
        long,
        value_name = "LENGTH",
        num_args = 0..=1,
        default_missing_value = "32",
        value_parser = length
    )]
    generate: Option<usize>,
    /// Take fields from a JSON object; `-` is standard input
    #[arg(long, value_name = "FILE")]
    from_json: Option<PathBuf>,
    /// Take fields from lines of KEY=VALUE; `-` is standard input
    #[arg(long, value_name = "FILE")]
    from_env: Option<PathBuf>,
    /// Take a field from a file, byte for byte; again for each field; `-` is standard input
    #[arg(long, value_name = "NAME=FILE")]
    field: Vec<OsString>,
}

fn length(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(length) if (1..=4096).contains(&length) => Ok(length),
        Ok(_) => Err("1 to 4096 characters".to_owned()),
        Err(_) => {
            Err("a number of characters; the secret's name comes before --generate".to_owned())
        }
    }
}

impl Source {
    /// The value, asked for or read. At most 1 MiB over all fields.
    pub fn read(&self, name: &str) -> Result<Plain> {
        let value = if let Some(file) = &self.file {
            Plain::Single(read_file(file)?)
        } else if let Some(length) = self.generate {
            Plain::Single(generate(length)?)
        } else if let Some(file) = &self.from_json {
            let text = read_file(file)?;
            Plain::fields_of_json(&text)
                .map_err(|error| Failure::failed(format!("{}: {error}", shown(file))))?
        } else if let Some(file) = &self.from_env {
            let text = read_file(file)?;
            let fields = pairs::fields(&text)
                .map_err(|error| Failure::failed(format!("{}:{error}", shown(file))))?;
            Plain::Fields(fields)
        } else if !self.field.is_empty() {
            Plain::Fields(fields_of_files(&self.field)?)
        } else {
            let instead = "use --file FILE, --file - for standard input, or --generate";
            Plain::Single(prompt::hidden_twice(&format!("Value of {name}"), instead)?)
        };
        Ok(value)
    }
}

/// Fields from words of NAME=FILE.
fn fields_of_files(words: &[OsString]) -> Result<BTreeMap<FieldName, Zeroizing<Vec<u8>>>> {
    let mut fields = BTreeMap::new();
    let mut input = false;
    for word in words {
        let at = word.as_bytes().iter().position(|byte| *byte == b'=');
        let at = at.ok_or_else(|| Failure::usage("--field takes NAME=FILE"))?;
        let (name, file) = word.as_bytes().split_at(at);
        let name: FieldName = names::name(OsStr::from_bytes(name))?;
        let file = Path::new(OsStr::from_bytes(&file[1..]));
        if file.as_os_str() == "-" && std::mem::replace(&mut input, true) {
            return Err(Failure::usage("standard input is one field, not two").into());
        }
        if fields.contains_key(&name) {
            return Err(Failure::usage(format!("field {name} comes twice")).into());
        }
        fields.insert(name, read_file(file)?);
    }
    Ok(fields)
}

/// A file as an error names it.
pub fn shown(file: &Path) -> String {
    match file.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => file.display().to_string(),
    }
}

/// A file, or standard input, of at most 1 MiB.
pub fn read_file(file: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = if file.as_os_str() == "-" {
        read_at_most(&mut io::stdin().lock())
    } else {
        File::open(file).and_then(|mut open| read_at_most(&mut open))
    };
    let bytes = bytes.with_context(|| format!("cannot read {}", shown(file)))?;
    let too_large = || {
        Failure::failed(format!("{} is larger than 1 MiB", shown(file)))
            .hint("keep what is large elsewhere, encrypted, and its key here")
    };
    Ok(bytes.ok_or_else(too_large)?)
}

/// `None` if there is more; endless input is not read to its end.
fn read_at_most(from: &mut impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // All of its room at once: a vector that grows leaves unwiped copies.
    let mut bytes = Zeroizing::new(vec![0; MOST + 1]);
    let mut got = 0;
    while got < bytes.len() {
        match from.read(&mut bytes[got..]) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(got);
    Ok((got <= MOST).then_some(bytes))
}

/// Random characters, each as likely as any other.
fn generate(length: usize) -> Result<Zeroizing<Vec<u8>>> {
    // A byte past the last whole multiple would make the first characters likelier.
    let even = 256 - 256 % ALPHABET.len();
    let mut value = Zeroizing::new(Vec::with_capacity(length));
    let mut random = Zeroizing::new([0; 256]);
    while value.len() < length {
        getrandom::fill(&mut *random)
            .map_err(|error| Failure::failed(format!("no random bytes: {error}")))?;
        let fair = random
            .iter()
            .map(|byte| usize::from(*byte))
            .filter(|byte| *byte < even);
        let missing = length - value.len();
        value.extend(
            fair.take(missing)
                .map(|byte| ALPHABET[byte % ALPHABET.len()]),
        );
    }
    Ok(value)
}

/// A passphrase: from a file without the end of its line, or asked for.
pub fn passphrase(
    file: Option<&Path>,
    ask: impl FnOnce(&str) -> Result<Zeroizing<Vec<u8>>>,
) -> Result<Zeroizing<String>> {
    let mut bytes = match file {
        Some(file) => {
            let mut bytes = read_file(file)?;
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            bytes
        }
        None => ask("use --passphrase-file FILE, or --passphrase-file - for standard input")?,
    };
    if bytes.is_empty() {
        return Err(Failure::failed("the passphrase is empty; nothing was done").into());
    }
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(Failure::failed("the passphrase is not UTF-8 text; nothing was done").into())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_mebibyte_is_read_and_a_byte_more_is_not() {
        let read = |length: usize| read_at_most(&mut io::repeat(7).take(length as u64)).unwrap();
        assert_eq!(read(MOST).unwrap().len(), MOST);
        assert!(read(MOST + 1).is_none());
        assert!(read_at_most(&mut io::repeat(7)).unwrap().is_none());
        assert_eq!(read(0).unwrap().len(), 0);
    }

    #[test]
    fn a_generated_value_is_long_as_asked_random_and_fair() {
        assert_eq!(generate(1).unwrap().len(), 1);
        let (one, other) = (generate(32).unwrap(), generate(32).unwrap());
        assert_eq!(one.len(), 32);
        assert!(one != other);
        let mut counts: BTreeMap<u8, u32> = BTreeMap::new();
        for byte in generate(62 * 2000).unwrap().iter() {
            *counts.entry(*byte).or_default() += 1;
        }
        // 2000 each, with a standard deviation of 44: ten of them are no accident.
        assert_eq!(counts.len(), ALPHABET.len());
        assert!(
            counts.values().all(|count| count.abs_diff(2000) < 440),
            "{counts:?}"
        );
    }

    #[test]
    fn a_passphrase_loses_the_end_of_its_line_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p");
        let read = |bytes: &[u8]| {
            std::fs::write(&file, bytes).unwrap();
            passphrase(Some(&file), |_| unreachable!())
        };
        assert_eq!(*read(b" a b \n").unwrap(), " a b ");
        assert_eq!(*read(b"a\n\n").unwrap(), "a\n");
        assert!(read(b"\n").is_err());
        let error = read(b"hush\xff").unwrap_err();
        assert!(!format!("{error:#}").contains("hush"));
    }
}
