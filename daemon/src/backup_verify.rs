//! `secretsd backup-verify`: checks a backup without a store and without a running secretsd; and what
//! `restore` shares with it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::process::ExitCode;

use anyhow::{Context, bail};
use store::{BackupError, BackupKey, Contents, Moment};
use zeroize::Zeroizing;

use crate::args::{BackupVerify, KeyKind};
use crate::serve::refuse_privileges;
use crate::server::{contents_info, version};

/// More is no key.
const LONGEST_KEY: u32 = 1 << 20;
/// A passphrase or an identity that does not fit, as `deploy` has it.
const DENIED: u8 = 3;

/// Says what was found, as JSON: `deploy` shows it.
pub(crate) fn verify(options: &BackupVerify) -> anyhow::Result<()> {
    sys::sandbox::harden().context("cannot give up core dumps and new privileges")?;
    refuse_privileges()?;
    sys::sandbox::forbid_exec_and_mounts().context("cannot set the seccomp filter")?;
    // No folder is ours here: nothing is written anywhere.
    sys::sandbox::restrict_files(&[]).context("cannot restrict files")?;
    let (key, backup) = input(options.key)?;
    if options.moment {
        let moment = Moment::read(backup, &key)?;
        let told = serde_json::json!({
            "store": moment.store.to_string(), "version": version(&moment), "made": moment.made,
        });
        println!("{told}");
        return Ok(());
    }
    let info = contents_info(Contents::verify(backup, &key)?);
    println!("{}", serde_json::to_string(&info)?);
    Ok(())
}

/// Standard input: a `u32` length, so many bytes of a key, and the backup.
pub(crate) fn input(kind: KeyKind) -> anyhow::Result<(BackupKey, impl Read)> {
    let stdin = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?;
    let mut input = BufReader::with_capacity(1 << 16, File::from(stdin));
    let key = read_key(&mut input, kind)?;
    Ok((key, input))
}

fn read_key(input: &mut impl Read, kind: KeyKind) -> anyhow::Result<BackupKey> {
    let mut length = [0; 4];
    let cannot = "cannot read what opens the backup";
    input.read_exact(&mut length).context(cannot)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST_KEY {
        bail!("what should open the backup is longer than {LONGEST_KEY} bytes");
    }
    // All of its room at once: a vector that grows leaves unwiped copies.
    let mut bytes = Zeroizing::new(vec![0; length as usize]);
    input.read_exact(&mut bytes).context(cannot)?;
    let text = std::str::from_utf8(&bytes).map(|text| Zeroizing::new(text.to_owned()));
    let Ok(text) = text else {
        bail!("what should open the backup is no UTF-8 text");
    };
    Ok(match kind {
        KeyKind::Passphrase => BackupKey::Passphrase(text),
        KeyKind::Identity => BackupKey::Identities(text),
    })
}

/// The exit code of a failure.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<BackupError>() {
        Some(
            BackupError::WrongPassphrase | BackupError::WrongIdentity | BackupError::OtherKey(_),
        ) => ExitCode::from(DENIED),
        _ => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_is_what_its_length_says_and_is_not_shown() {
        let read = |length: u32, bytes: &[u8]| {
            let mut input = &[&length.to_le_bytes()[..], bytes].concat()[..];
            let key = read_key(&mut input, KeyKind::Passphrase);
            key.map(|key| (key, input.len()))
        };
        let (key, left) = read(4, b"hush and a backup").unwrap();
        assert!(matches!(key, BackupKey::Passphrase(text) if *text == "hush"));
        assert_eq!(left, 13);
        for (length, bytes) in [
            (5, &b"hush"[..]),
            (5, b"hush\xff"),
            (LONGEST_KEY + 1, b"hush"),
        ] {
            let error = read(length, bytes).unwrap_err();
            assert!(!format!("{error:#}").contains("hush"));
        }
    }
}
