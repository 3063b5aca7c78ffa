//! A place in the chain that is kept elsewhere.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// SHA-256 over an entry and the hash of the one before, and so over all before. Displayed as 64
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// Of what comes after `before`.
    pub(crate) fn chain(before: &Hash, bytes: &[u8]) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(before.0);
        hasher.update(bytes);
        Hash(hasher.finalize().into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The number of an entry and its hash: whoever kept it can show later that the log up to there is
/// the one that it was. One line of text, `SEQ:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Anchor {
    /// Of the entry; 0 before the first.
    pub seq: u64,
    /// Of the entry, and of all before it.
    pub hash: Hash,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// Why a text is no anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an anchor is `SEQ:HASH`: a decimal number, a colon, 64 hexadecimal digits")]
pub struct AnchorError;

impl FromStr for Anchor {
    type Err = AnchorError;

    fn from_str(text: &str) -> Result<Anchor, AnchorError> {
        let (seq, hash) = text.trim().split_once(':').ok_or(AnchorError)?;
        let digits = |text: &str, radix| text.chars().all(|c| c.is_digit(radix));
        if hash.len() != 64 || !digits(hash, 16) || !digits(seq, 10) {
            return Err(AnchorError);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = hash.get(2 * at..2 * at + 2).ok_or(AnchorError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| AnchorError)?;
        }
        let seq = seq.parse().map_err(|_| AnchorError)?;
        Ok(Anchor {
            seq,
            hash: Hash(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_anchor_that_is_printed_is_read_again() {
        for seq in [0, 1, u64::MAX] {
            let hash = Hash::chain(&Hash::default(), &seq.to_le_bytes());
            let anchor = Anchor { seq, hash };
            let text = anchor.to_string();
            assert_eq!(text.lines().count(), 1);
            assert_eq!(format!(" {text}\n").parse::<Anchor>().unwrap(), anchor);
        }
    }

    #[test]
    fn what_is_no_anchor_is_refused() {
        let hash = "0".repeat(64);
        for text in [
            String::new(),
            "7".into(),
            format!(":{}", &hash[1..]),
            format!("-1:{hash}"),
            format!("+1:{hash}"),
            format!("1:{}", &hash[1..]),
            format!("1:{hash}0"),
            format!("1:+{}", &hash[1..]),
            format!("18446744073709551616:{hash}"),
            format!("1:{}ä", &hash[2..]),
        ] {
            assert_eq!(text.parse::<Anchor>(), Err(AnchorError), "{text}");
        }
        assert_eq!(format!("1:{hash}").parse::<Anchor>().unwrap().seq, 1);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_anchor_or_is_refused(text in ".*", seq in 0..u64::MAX, at in 0..90_usize) {
            let hash = Hash::chain(&Hash::default(), text.as_bytes());
            let good = Anchor { seq, hash }.to_string();
            let at = at.min(good.len());
            let longer = format!("{}{text}{}", &good[..at], &good[at..]);
            for text in [text, longer] {
                if let Ok(read) = text.parse::<Anchor>() {
                    proptest::prop_assert_eq!(read.to_string().parse(), Ok(read));
                }
            }
            for length in 0..good.len() {
                proptest::prop_assert_eq!(good[..length].parse::<Anchor>(), Err(AnchorError));
            }
        }
    }
}
