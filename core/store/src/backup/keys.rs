//! Who can open a backup: age's X25519 recipients, or a passphrase (scrypt).

use std::fmt;
use std::io::Read;
use std::str::FromStr;

use age::secrecy::SecretString;
use age::stream::StreamReader;
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use zeroize::Zeroizing;

use super::BackupError;

/// scrypt's N is 2 to this: 128 MiB, as OWASP recommends at the least.
const WORK: u8 = 17;
/// The most that a backup may ask for: 1 GiB and some seconds.
const MOST_WORK: u8 = 20;

/// To whom a backup is encrypted.
#[derive(Clone)]
pub enum BackupTo {
    /// age's X25519 recipients, `age1…`.
    Recipients(Vec<String>),
    /// Whoever knows this.
    Passphrase(Zeroizing<String>),
}

/// What opens a backup.
#[derive(Clone)]
pub enum BackupKey {
    /// Lines of an identity file of age.
    Identities(Zeroizing<String>),
    /// What it was encrypted with.
    Passphrase(Zeroizing<String>),
}

impl fmt::Debug for BackupTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recipients(all) => f.debug_tuple("Recipients").field(&all.len()).finish(),
            Self::Passphrase(_) => f.write_str("Passphrase([redacted])"),
        }
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKey([redacted])")
    }
}

impl BackupTo {
    /// Whether somebody can open what is encrypted to it.
    ///
    /// # Errors
    /// Which recipient is none, or that nothing was given.
    pub fn check(&self) -> Result<(), BackupError> {
        match self {
            Self::Recipients(all) => recipients(all).map(drop),
            Self::Passphrase(passphrase) if passphrase.is_empty() => {
                Err(BackupError::EmptyPassphrase)
            }
            Self::Passphrase(_) => Ok(()),
        }
    }

    /// What encrypts, and what opens the same file here and now, to read it back. Of recipients we
    /// have no private half: one more is made for that, and forgotten with this value.
    pub(super) fn encryptor(&self) -> Result<(Encryptor, BackupKey), BackupError> {
        self.check()?;
        match self {
            Self::Recipients(all) => {
                let own = x25519::Identity::generate();
                let mut recipients = recipients(all)?;
                recipients.push(own.to_public());
                let each = recipients.iter().map(|one| one as &dyn age::Recipient);
                let encryptor =
                    Encryptor::with_recipients(each).map_err(|_| BackupError::NoRecipient)?;
                let text = age::secrecy::ExposeSecret::expose_secret(&own.to_string()).to_owned();
                Ok((encryptor, BackupKey::Identities(Zeroizing::new(text))))
            }
            Self::Passphrase(passphrase) => {
                let mut recipient = scrypt::Recipient::new(secret(passphrase));
                recipient.set_work_factor(WORK);
                let encryptor = Encryptor::with_recipients(std::iter::once(&recipient as _))
                    .map_err(|_| BackupError::NoRecipient)?;
                Ok((encryptor, BackupKey::Passphrase(passphrase.clone())))
            }
        }
    }
}

impl BackupKey {
    /// The text of an age file, authenticated piece by piece as it is read.
    pub(super) fn open<R: Read>(&self, source: R) -> Result<StreamReader<R>, BackupError> {
        let decryptor = Decryptor::new(source).map_err(|error| match error {
            DecryptError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                BackupError::NotOne("it is cut short, or no file of age")
            }
            DecryptError::Io(error) if error.kind() != std::io::ErrorKind::InvalidData => {
                BackupError::Io(error)
            }
            DecryptError::UnknownFormat => {
                BackupError::NotOne("it is of another version of age's format")
            }
            _ => BackupError::NotOne("it is no file of age"),
        })?;
        match (self, decryptor.is_scrypt()) {
            (Self::Passphrase(passphrase), true) => {
                let mut identity = scrypt::Identity::new(secret(passphrase));
                identity.set_max_work_factor(MOST_WORK);
                let each = std::iter::once(&identity as &dyn age::Identity);
                decryptor
                    .decrypt(each)
                    .map_err(|error| refused(&error, BackupError::WrongPassphrase))
            }
            (Self::Identities(text), false) => {
                let identities = identities(text)?;
                let each = identities.iter().map(|one| one as &dyn age::Identity);
                decryptor
                    .decrypt(each)
                    .map_err(|error| refused(&error, BackupError::WrongIdentity))
            }
            (Self::Passphrase(_), false) => Err(BackupError::OtherKey("an identity of age")),
            (Self::Identities(_), true) => Err(BackupError::OtherKey("a passphrase")),
        }
    }
}

fn refused(error: &DecryptError, wrong: BackupError) -> BackupError {
    match error {
        DecryptError::NoMatchingKeys
        | DecryptError::KeyDecryptionFailed
        | DecryptError::DecryptionFailed => wrong,
        DecryptError::ExcessiveWork { .. } => {
            BackupError::damaged("it asks for more work of scrypt than is accepted")
        }
        _ => BackupError::damaged("its header was changed"),
    }
}

fn recipients(all: &[String]) -> Result<Vec<x25519::Recipient>, BackupError> {
    if all.is_empty() {
        return Err(BackupError::NoRecipient);
    }
    let parse = |(text, number): (&String, _)| {
        let recipient = x25519::Recipient::from_str(text);
        recipient.map_err(|_| BackupError::Recipient(number))
    };
    all.iter().zip(1..).map(parse).collect()
}

fn identities(text: &str) -> Result<Vec<x25519::Identity>, BackupError> {
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let identity = x25519::Identity::from_str(line);
        found.push(identity.map_err(|_| BackupError::Identity(number))?);
    }
    if found.is_empty() {
        return Err(BackupError::NoIdentity);
    }
    Ok(found)
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}
