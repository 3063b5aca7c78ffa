//! Names on the command line: taken as they were typed, and parsed here, so that a name that is
//! none is told in the same words everywhere, and never echoed raw.

use std::ffi::OsStr;
use std::str::FromStr;

use anyhow::Result;
use model::NameError;

use crate::failure::Failure;

/// The name that an argument is.
pub fn name<T: FromStr<Err = NameError>>(argument: &OsStr) -> Result<T> {
    let text = argument.to_str().ok_or_else(|| {
        Failure::usage("a name is not UTF-8; names have the characters a-z 0-9 - _ . alone")
    })?;
    Ok(text
        .parse()
        .map_err(|error: NameError| Failure::usage(error.to_string()))?)
}

/// The same for several.
pub fn names<T: FromStr<Err = NameError>>(arguments: &[impl AsRef<OsStr>]) -> Result<Vec<T>> {
    arguments
        .iter()
        .map(|argument| name(argument.as_ref()))
        .collect()
}

/// A prefix of names, as far as it can be one.
pub fn prefix(argument: &OsStr) -> Result<String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    match argument.to_str() {
        Some(text) if text.len() <= 253 && text.chars().all(fits) => Ok(text.to_owned()),
        _ => Err(Failure::usage(
            "no name starts so: names have 1 to 253 of the characters a-z 0-9 - _ .",
        )
        .into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use model::SecretName;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn what_is_no_name_is_usage_and_not_echoed_raw() {
        for bytes in [&b"a\xffb"[..], b"", b"a\x1b[31m", b"../x", &[b'x'; 254]] {
            let error = name::<SecretName>(OsStr::from_bytes(bytes)).unwrap_err();
            let failure = error.downcast_ref::<Failure>().unwrap();
            assert_eq!(failure.code, 2);
            let text = failure.to_string();
            assert!(text.len() < 1000 && !text.contains('\x1b'), "{text}");
        }
        assert!(name::<SecretName>(OsStr::new("db.password")).is_ok());
        assert!(prefix(OsStr::new("db.")).is_ok() && prefix(OsStr::new("D")).is_err());
    }
}
