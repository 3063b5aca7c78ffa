//! What outlives a secretsd, beside the device: a memfd.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `DSF2` |
//! | 4 | 4 | the connection's number, random; never 0 |
//! | 8 | | the INIT message as the kernel sent it; its first four bytes are its length |
//! | 65536 | 4096 | requests under way, see `inflight` |
//! | 131072 | | what is being changed, see secretsd's `host::untold` |
//!
//! `DSF1`, of earlier versions: INIT follows at offset 4, and the number is 0. All numbers are in the
//! host's byte order.

use std::io;
use std::os::fd::OwnedFd;

/// What outlives a secretsd, beside the device. Whoever holds the device holds this too.
#[derive(Debug)]
pub struct Handover {
    /// Nobody has served this connection yet.
    pub fresh: bool,
    /// A memfd, empty for a fresh connection. How it began is kept there, and what is under way.
    pub memfd: OwnedFd,
    /// Take over as from a kernel that cannot send requests again, whatever this one can.
    pub sweep: bool,
}

const MAGIC: &[u8; 4] = b"DSF2";
const EARLIER: &[u8; 4] = b"DSF1";
/// INIT is some hundred bytes at most.
const ROOM: usize = 4096;

/// How a connection began.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// Tells it from all others, for whoever counts its requests.
    pub connection: u32,
    /// What the kernel said first.
    pub init: Vec<u8>,
}

impl Beginning {
    /// Of a new connection.
    pub fn new(init: Vec<u8>) -> io::Result<Beginning> {
        let connection = getrandom::u32().map_err(io::Error::other)?.max(1);
        Ok(Beginning { connection, init })
    }

    pub fn keep(&self, memfd: &OwnedFd) -> io::Result<()> {
        let kept = [MAGIC, &self.connection.to_ne_bytes(), &*self.init].concat();
        rustix::io::pwrite(memfd, &kept, 0)?;
        Ok(())
    }

    pub fn load(memfd: &OwnedFd) -> io::Result<Beginning> {
        let mut kept = vec![0; ROOM];
        let length = rustix::io::pread(memfd, &mut kept[..], 0)?;
        parse(&kept[..length]).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "what was kept of the connection is damaged",
            )
        })
    }
}

fn parse(kept: &[u8]) -> Option<Beginning> {
    let (magic, rest) = kept.split_first_chunk()?;
    let (connection, rest) = match magic {
        MAGIC => {
            let (connection, rest) = rest.split_first_chunk()?;
            (u32::from_ne_bytes(*connection), rest)
        }
        EARLIER => (0, rest),
        _ => return None,
    };
    let size = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
    let init = rest.get(..size)?.to_vec();
    Some(Beginning { connection, init })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn memfd() -> OwnedFd {
        rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).unwrap()
    }

    fn init() -> Vec<u8> {
        let mut init = vec![7; 104];
        init[..4].copy_from_slice(&104_u32.to_ne_bytes());
        init
    }

    #[test]
    fn what_was_negotiated_comes_back_as_it_was() {
        let memfd = memfd();
        let begun = Beginning::new(init()).unwrap();
        assert_ne!(begun.connection, 0);
        begun.keep(&memfd).unwrap();
        assert_eq!(Beginning::load(&memfd).unwrap(), begun);
    }

    #[test]
    fn what_an_earlier_version_kept_is_read_still() {
        let memfd = memfd();
        rustix::io::pwrite(&memfd, &[EARLIER, &*init()].concat(), 0).unwrap();
        let begun = Beginning {
            connection: 0,
            init: init(),
        };
        assert_eq!(Beginning::load(&memfd).unwrap(), begun);
    }

    #[test]
    fn an_empty_or_damaged_memfd_is_refused() {
        let memfd = memfd();
        assert!(Beginning::load(&memfd).is_err());
        for damaged in [
            &b"DSF1\xff\xff\xff\xff"[..],
            b"DSF2\x01\x00\x00\x00\x68",
            b"DSF9",
        ] {
            rustix::io::pwrite(&memfd, damaged, 0).unwrap();
            assert!(Beginning::load(&memfd).is_err());
        }
    }
}
