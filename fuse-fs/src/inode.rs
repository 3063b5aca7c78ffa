//! Inode numbers: made of fixed fields, so that they come out the same after a restart.
//!
//! | bits | field |
//! |---|---|
//! | 63..44 | the instance's number, from 1; 0: what belongs to no instance |
//! | 43..28 | the entry's number within the instance and tree, from 1; 0: the instance's own folder |
//! | 27..0 | the version; 0: a folder |
//!
//! The kernel's root, 1, is thus version 1 of nothing, and `.inode` is 2. Version 1 of an instance's
//! own folder is the link by which a unit finds it.

use std::fmt;

const VERSION_BITS: u32 = 28;
const ENTRY_BITS: u32 = 16;

/// An inode number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ino(pub u64);

impl Ino {
    /// The root of a master mount.
    pub const ROOT: Ino = Ino(1);
    /// The folder that leads to every inode by its number, in the master mount alone.
    pub const ALIAS: Ino = Ino(2);

    /// The folder of an instance.
    pub fn instance_folder(instance: u32) -> Ino {
        Ino::new(instance, 0, 0)
    }

    /// The link to an instance's folder, which has the name of a unit.
    pub fn link(instance: u32) -> Ino {
        Ino::new(instance, 0, 1)
    }

    /// Is it such a link?
    pub fn is_link(self) -> bool {
        self.instance() != 0 && self == Ino::link(self.instance())
    }

    /// From its fields. Versions are below 2^28 and instances below 2^20, which store and registry
    /// keep; higher bits are cut off.
    pub fn new(instance: u32, entry: u16, version: u32) -> Ino {
        let version = version & ((1 << VERSION_BITS) - 1);
        Ino(u64::from(instance) << (VERSION_BITS + ENTRY_BITS)
            | u64::from(entry) << VERSION_BITS
            | u64::from(version))
    }

    /// The same entry, whichever version.
    pub fn any_version(self) -> Ino {
        Ino(self.0 >> VERSION_BITS << VERSION_BITS)
    }

    /// The instance's number.
    pub fn instance(self) -> u32 {
        (self.0 >> (VERSION_BITS + ENTRY_BITS)) as u32
    }

    /// The entry's number.
    pub fn entry(self) -> u16 {
        (self.0 >> VERSION_BITS) as u16
    }

    /// The version.
    pub fn version(self) -> u32 {
        (self.0 as u32) & ((1 << VERSION_BITS) - 1)
    }
}

impl fmt::Debug for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.instance(), self.entry(), self.version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_none_of_the_others() {
        assert!(Ino::link(7).is_link());
        for other in [
            Ino::ROOT,
            Ino::ALIAS,
            Ino::instance_folder(7),
            Ino::new(7, 1, 1),
        ] {
            assert!(!other.is_link(), "{other:?}");
        }
    }

    #[test]
    fn fields_come_out_as_they_went_in() {
        for (instance, entry, version) in [
            (1, 0, 0),
            ((1 << 20) - 1, u16::MAX, (1 << 28) - 1),
            (7, 1, 300),
            (0, 0, 1),
        ] {
            let ino = Ino::new(instance, entry, version);
            assert_eq!(
                (ino.instance(), ino.entry(), ino.version()),
                (instance, entry, version)
            );
        }
        assert_eq!(Ino::new(0, 0, 1), Ino::ROOT);
        assert_eq!(Ino::new(0, 0, 2), Ino::ALIAS);
    }
}
