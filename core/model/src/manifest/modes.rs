//! Permissions of a view.

use serde::{Deserialize, Serialize};

/// Permissions of an instance's files and folders. Nobody writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Modes {
    /// Files; 0400 unless the manifest says otherwise.
    pub file: u16,
    /// Folders; 0500 unless the manifest says otherwise.
    pub folder: u16,
}

/// Why permissions are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModesError {
    /// Not an octal number of three or four digits.
    #[error("expected permissions as an octal number, such as \"0440\"")]
    NotOctal,
    /// More than read and execute bits.
    #[error("a view is read-only: no write bit, and none beyond 0777")]
    TooMuch,
}

impl Default for Modes {
    fn default() -> Modes {
        Modes {
            file: 0o400,
            folder: 0o500,
        }
    }
}

impl Modes {
    /// Checks both.
    ///
    /// # Errors
    /// A write bit, or one beyond 0777.
    pub fn new(file: u16, folder: u16) -> Result<Modes, ModesError> {
        if (file | folder) & !0o555 != 0 {
            return Err(ModesError::TooMuch);
        }
        Ok(Modes { file, folder })
    }

    /// One mode as a manifest has it: `0440`, `440` or `0o440`.
    pub(super) fn parse_one(text: &str) -> Result<u16, ModesError> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        if !matches!(digits.len(), 3 | 4) || !digits.bytes().all(|b| matches!(b, b'0'..=b'7')) {
            return Err(ModesError::NotOctal);
        }
        let mode = u16::from_str_radix(digits, 8).map_err(|_| ModesError::NotOctal)?;
        Modes::new(mode, mode).map(|modes| modes.file)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    file: u16,
    folder: u16,
}

impl TryFrom<Unchecked> for Modes {
    type Error = ModesError;

    fn try_from(raw: Unchecked) -> Result<Modes, ModesError> {
        Modes::new(raw.file, raw.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reading_modes_are_taken() {
        for (text, mode) in [
            ("0440", 0o440),
            ("440", 0o440),
            ("0o444", 0o444),
            ("0555", 0o555),
        ] {
            assert_eq!(Modes::parse_one(text), Ok(mode), "{text}");
        }
        for text in ["0640", "0600", "4440", "1444", "0222"] {
            assert_eq!(Modes::parse_one(text), Err(ModesError::TooMuch), "{text}");
        }
        for text in [
            "", "0x44", "0o", "+440", "-440", "04400", "40", "0o04400", "0888", "r--",
        ] {
            assert_eq!(Modes::parse_one(text), Err(ModesError::NotOctal), "{text}");
        }
        assert!(serde_json::from_str::<Modes>(r#"{"file":384,"folder":320}"#).is_err());
        assert!(serde_json::from_str::<Modes>(r#"{"file":256,"folder":320}"#).is_ok());
    }
}
