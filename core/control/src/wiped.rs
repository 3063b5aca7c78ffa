//! A buffer for frames that may hold values: wiped when dropped, and when it moves to grow.

use std::io;
use std::ops::Deref;

use zeroize::Zeroizing;

/// The first allocation; most frames are smaller.
const FIRST: usize = 4096;

/// A growing buffer that leaves no copy behind.
#[derive(Default)]
pub(crate) struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Makes room for `more` bytes. A `Vec` that grows by itself frees what it held unwiped.
    fn reserve(&mut self, more: usize) {
        let wanted = self.0.len() + more;
        if wanted > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(
                wanted.max(2 * self.0.capacity()).max(FIRST),
            ));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
    }

    /// Appends what one `read` gives, at most `most` bytes.
    pub fn fill(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let before = self.0.len();
        self.reserve(most);
        self.0.resize(before + most, 0);
        let result = read(&mut self.0[before..]);
        let got = *result.as_ref().unwrap_or(&0);
        self.0.truncate(before + got.min(most));
        result
    }

    /// Splits behind `at` bytes; what follows the next `skip` stays here.
    pub fn take(&mut self, at: usize, skip: usize) -> Zeroizing<Vec<u8>> {
        let mut rest = Wiped::default();
        let left = &self.0[at + skip..];
        if !left.is_empty() {
            rest.reserve(left.len());
            rest.0.extend_from_slice(left);
        }
        let mut taken = std::mem::replace(&mut self.0, rest.0);
        taken.truncate(at);
        taken
    }
}

impl Deref for Wiped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl io::Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.reserve(bytes.len());
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for Wiped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wiped({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    #[test]
    fn what_was_written_comes_out_whole_across_growth_and_splits() {
        let mut buffer = Wiped::default();
        let bytes: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
        for part in bytes.chunks(777) {
            buffer.write_all(part).unwrap();
        }
        let got = buffer.fill(10, |room| {
            room[..3].copy_from_slice(b"abc");
            Ok(3)
        });
        assert_eq!(got.unwrap(), 3);
        assert!(
            buffer
                .fill(10, |_| Err(io::ErrorKind::TimedOut.into()))
                .is_err()
        );
        assert_eq!(buffer.len(), bytes.len() + 3);
        let first = buffer.take(bytes.len(), 1);
        assert_eq!(*first, bytes);
        assert_eq!(&buffer[..], b"bc");
    }
}
