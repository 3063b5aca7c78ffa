//! Where a record belongs: its kind, name, version and field; and how that is hidden on disk.

use model::{ConfigName, FieldName, SecretName, ServiceName};
use records::NameHash;

use crate::hierarchy::Keys;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A secret's shape, `keep` and versions.
    Head,
    /// One field of one version.
    Version,
    /// The grants of a service.
    Grants,
    /// A config.
    Config,
    /// Inside the `keys` file: what authenticates it to the slots.
    SlotKeys,
    /// Inside the `keys` file: a slot's private half under a passphrase.
    Passphrase,
    /// The store's own time.
    Clock,
}

impl Kind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::Version => 2,
            Self::Grants => 3,
            Self::Config => 4,
            Self::SlotKeys => 5,
            Self::Passphrase => 6,
            Self::Clock => 7,
        }
    }

    /// The kinds that are stored as records; 5 and 6 are not.
    pub(crate) fn of_record(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Head),
            2 => Some(Self::Version),
            3 => Some(Self::Grants),
            4 => Some(Self::Config),
            7 => Some(Self::Clock),
            _ => None,
        }
    }
}

/// The place of one record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    Head(SecretName),
    Version(SecretName, u32, Option<FieldName>),
    Grants(ServiceName),
    Config(ConfigName),
    Clock,
}

impl Place {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Head(_) => Kind::Head,
            Self::Version(..) => Kind::Version,
            Self::Grants(_) => Kind::Grants,
            Self::Config(_) => Kind::Config,
            Self::Clock => Kind::Clock,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Head(name) | Self::Version(name, ..) => name.as_str(),
            Self::Grants(name) => name.as_str(),
            Self::Config(name) => name.as_str(),
            Self::Clock => "clock",
        }
    }

    fn version_and_field(&self) -> (u32, &str) {
        match self {
            Self::Version(_, version, field) => {
                (*version, field.as_ref().map_or("", FieldName::as_str))
            }
            _ => (0, ""),
        }
    }

    /// Its name on disk: HMAC-SHA256 over kind, name, version, field.
    pub(crate) fn hash(&self, keys: &Keys) -> NameHash {
        let (version, field) = self.version_and_field();
        let mut message = vec![self.kind().code()];
        append(
            &mut message,
            self.name().as_bytes(),
            version,
            field.as_bytes(),
        );
        NameHash(keys.name_mac(&message))
    }

    /// What the associated data says of this place, after header and store id.
    ///
    /// A version names itself. The other kinds are also found by listing, when their name is not
    /// known yet: the name on disk stands for it, and is checked against the name found inside.
    pub(crate) fn binding(&self, hash: &NameHash) -> Vec<u8> {
        match self {
            Self::Version(..) => {
                let (version, field) = self.version_and_field();
                let mut bytes = Vec::new();
                append(
                    &mut bytes,
                    self.name().as_bytes(),
                    version,
                    field.as_bytes(),
                );
                bytes
            }
            _ => listed_binding(hash),
        }
    }

    /// For error texts.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Head(name) => format!("secret {name}"),
            Self::Version(name, version, None) => format!("version {version} of secret {name}"),
            Self::Version(name, version, Some(field)) => {
                format!("field {field} of version {version} of secret {name}")
            }
            Self::Grants(name) => format!("the grants of service {name}"),
            Self::Config(name) => format!("config {name}"),
            Self::Clock => "the store's own time".to_owned(),
        }
    }
}

/// The binding of a record found by listing.
pub(crate) fn listed_binding(hash: &NameHash) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, &hash.0, 0, b"");
    bytes
}

/// `u16 length | name | u32 version | u16 length | field`, all little-endian.
pub(crate) fn append(to: &mut Vec<u8>, name: &[u8], version: u32, field: &[u8]) {
    append_prefixed(to, name);
    to.extend_from_slice(&version.to_le_bytes());
    append_prefixed(to, field);
}

fn append_prefixed(to: &mut Vec<u8>, bytes: &[u8]) {
    // Names are at most 253 bytes, hashes 32, recipients 62: a length always fits.
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(bytes);
}
