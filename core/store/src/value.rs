//! Values in memory: wiped when dropped, never printed.

use std::collections::BTreeMap;
use std::fmt;

use model::FieldName;
use zeroize::Zeroizing;

use crate::meta::Shape;

/// The most bytes that one version holds, summed over its fields: 1 MiB.
pub const MAX_VERSION_BYTES: usize = 1 << 20;
/// The most fields that one version has.
pub const MAX_FIELDS: usize = 256;

/// Bytes of a secret: wiped when dropped; `Debug` prints a redaction.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes the bytes over; the vector is wiped when this is dropped.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes in clear.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the value is the empty one, which is a value and not an absence.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<Zeroizing<Vec<u8>>> for SecretBytes {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes.to_vec())
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes([redacted])")
    }
}

/// What one version of a secret holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// One value: a file in the view.
    Single(SecretBytes),
    /// Named fields: a folder of files in the view. Never empty.
    Fields(BTreeMap<FieldName, SecretBytes>),
}

impl Value {
    /// Single or fields.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Self::Single(_) => Shape::Single,
            Self::Fields(_) => Shape::Fields,
        }
    }

    /// Bytes over all fields.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.parts().map(|(_, bytes)| bytes.len()).sum()
    }

    /// Each part with its field; a single value has one part without a field.
    pub(crate) fn parts(
        &self,
    ) -> Box<dyn Iterator<Item = (Option<&FieldName>, &SecretBytes)> + '_> {
        match self {
            Self::Single(bytes) => Box::new(std::iter::once((None, bytes))),
            Self::Fields(fields) => {
                Box::new(fields.iter().map(|(name, bytes)| (Some(name), bytes)))
            }
        }
    }
}
