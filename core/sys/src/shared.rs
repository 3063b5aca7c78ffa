//! Memory that outlives a process: a part of a file that several processes map one after the other.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::sync::atomic::AtomicU64;

/// How many words a part has.
pub const WORDS: usize = 512;
const SIZE: usize = WORDS * size_of::<u64>();

/// [`WORDS`] words of a file, written and read without a system call. Whoever maps them anew, in this
/// process or the next one, sees what was written last. They stay mapped until the process ends, so
/// that a signal handler may write to them.
#[derive(Debug, Clone, Copy)]
pub struct SharedWords(&'static [AtomicU64; WORDS]);

impl SharedWords {
    /// Maps the part of `file` that begins at `offset`, a multiple of the page size. A file that ends
    /// before grows, with zeros. Nobody may make it shorter while it is mapped.
    ///
    /// # Errors
    /// As fstat(2), ftruncate(2) and mmap(2).
    pub fn map(file: impl AsFd, offset: u64) -> io::Result<SharedWords> {
        let file = file.as_fd();
        let end = offset + SIZE as u64;
        let length = rustix::fs::fstat(file)?.st_size;
        if u64::try_from(length).unwrap_or_default() < end {
            rustix::fs::ftruncate(file, end)?;
        }
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice touches no other one.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), SIZE, access, libc::MAP_SHARED, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is readable and writable for `SIZE` bytes, aligned to a page, all of its
        // bits are words, and it is never unmapped; everybody accesses it by atomics.
        Ok(SharedWords(unsafe { &*start.cast() }))
    }

    /// The words.
    pub fn words(self) -> &'static [AtomicU64; WORDS] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_was_written_is_there_for_whoever_maps_it_next() {
        let file = rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::pwrite(&file, b"before", 0).unwrap();
        let offset = 64 * 1024;
        let words = SharedWords::map(&file, offset).unwrap();
        assert!(
            words
                .words()
                .iter()
                .all(|word| word.load(Ordering::SeqCst) == 0)
        );
        words.words()[WORDS - 1].store(7, Ordering::SeqCst);
        let again = SharedWords::map(&file, offset).unwrap();
        assert_eq!(again.words()[WORDS - 1].load(Ordering::SeqCst), 7);
        let mut before = [0; 6];
        rustix::io::pread(&file, &mut before[..], 0).unwrap();
        assert_eq!(&before, b"before");
        assert_eq!(
            rustix::fs::fstat(&file).unwrap().st_size as u64,
            offset + SIZE as u64
        );
    }

    #[test]
    fn what_begins_within_a_page_is_refused() {
        let file = rustix::fs::memfd_create("t", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert!(SharedWords::map(&file, 8).is_err());
    }
}
