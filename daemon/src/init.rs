//! `secretsd init`: makes a store. Runs as secretsd's own user, so that every file is that user's.

use std::io::Read;

use anyhow::{Context, bail};
use store::{Argon2Params, Cipher, InitOptions, NewSlot, Store};
use zeroize::Zeroizing;

use crate::args::{CipherName, Init};
use crate::serve::refuse_privileges;

/// A longer passphrase is no passphrase but a file that was taken for one.
const LONGEST_PASSPHRASE: usize = 4096;

pub(crate) fn init(options: Init) -> anyhow::Result<()> {
    sys::sandbox::harden().context("cannot give up core dumps and new privileges")?;
    refuse_privileges()?;
    let slot = if options.passphrase_stdin {
        NewSlot::Passphrase {
            passphrase: read_passphrase(&mut std::io::stdin().lock())?,
            params: Argon2Params::default(),
            label: String::new(),
        }
    } else {
        NewSlot::File {
            path: options.key_file,
            label: String::new(),
        }
    };
    let cipher = match options.cipher {
        CipherName::Aes256Gcm => Cipher::Aes256Gcm,
        CipherName::Chacha20Poly1305 => Cipher::ChaCha20Poly1305,
    };
    // Whoever runs this says what was made: `deploy init`, or a shell by the exit code.
    Store::init(&options.state_dir, InitOptions { cipher, slot })?;
    Ok(())
}

/// All of the input; one line end after it is the terminal's and not the passphrase's.
fn read_passphrase(from: &mut impl Read) -> anyhow::Result<Zeroizing<String>> {
    // Room that never grows: a string that grows leaves unwiped copies behind.
    let mut bytes = Zeroizing::new(vec![0; LONGEST_PASSPHRASE + 2]);
    let mut length = 0;
    loop {
        match from
            .read(&mut bytes[length..])
            .context("cannot read the passphrase")?
        {
            0 => break,
            count => length += count,
        }
    }
    let mut passphrase = &bytes[..length];
    if let [before @ .., b'\n'] = passphrase {
        passphrase = before;
    }
    if passphrase.len() > LONGEST_PASSPHRASE {
        bail!("the passphrase is longer than {LONGEST_PASSPHRASE} bytes");
    }
    match std::str::from_utf8(passphrase) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => bail!("the passphrase is not UTF-8 text"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_passphrase_is_read_up_to_the_end_without_the_line_end() {
        let read = |mut text: &[u8]| read_passphrase(&mut text).map(|text| text.to_string());
        assert_eq!(read(b"two words\n").unwrap(), "two words");
        assert_eq!(read(b"no line end").unwrap(), "no line end");
        assert_eq!(read(b" spaces stay \n\n").unwrap(), " spaces stay \n");
        assert_eq!(read(b"").unwrap(), "");
        assert!(read(&[b'x'; LONGEST_PASSPHRASE]).is_ok());
    }

    #[test]
    fn what_is_no_passphrase_is_refused_without_showing_it() {
        let refuse = |mut text: &[u8]| read_passphrase(&mut text).unwrap_err().to_string();
        assert!(!refuse(b"hush\xff").contains("hush"));
        assert!(refuse(&[b'x'; 10_000]).contains("longer"));
    }
}
