//! Memory for keys and values: never swapped, in no core dump, in no child, wiped at its end.

use std::fmt;
use std::io;
use std::ptr::{self, NonNull};

use zeroize::Zeroize;

/// Gives memory that was freed back to the kernel: after something large, of which little stays. The
/// allocator keeps it otherwise, in case there is something as large again.
pub fn give_back() {
    // SAFETY: it touches nothing that is allocated.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes in pages of their own that are locked (mlock(2)), left out of core dumps, zero in forked
/// children, and wiped before they are given back.
///
/// Each takes whole pages of the process's RLIMIT_MEMLOCK: short-lived, or few.
pub struct LockedBytes {
    pages: Pages,
    length: usize,
}

impl LockedBytes {
    /// `length` zero bytes.
    ///
    /// # Errors
    /// The kernel gives no memory, or no more of it may be locked; the message says which.
    pub fn new_zeroed(length: usize) -> io::Result<LockedBytes> {
        let pages = Pages::map(length)?;
        pages.lock()?;
        Ok(LockedBytes { pages, length })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping is readable for at least `length` bytes, initialised (the kernel gives
        // zeros), and lives as long as `self`; nobody writes while `self` is borrowed shared.
        unsafe { std::slice::from_raw_parts(self.pages.start.as_ptr(), self.length) }
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and writable; `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.pages.start.as_ptr(), self.length) }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.length
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        // Before the fields: the mapping is still there.
        self.as_mut_slice().zeroize();
    }
}

impl fmt::Debug for LockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedBytes([redacted])")
    }
}

/// A private anonymous mapping, unmapped when dropped.
struct Pages {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping belongs to its `Pages` alone, and is not tied to a thread.
unsafe impl Send for Pages {}
// SAFETY: shared access only reads; see `LockedBytes`.
unsafe impl Sync for Pages {}

impl Pages {
    fn map(length: usize) -> io::Result<Pages> {
        // The kernel rounds up to whole pages, here and wherever `size` is named again.
        let size = length.max(1);
        isize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a new mapping at an address of the kernel's choice touches no other one.
        let start = unsafe { libc::mmap(ptr::null_mut(), size, access, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Pages { start, size })
    }

    fn lock(&self) -> io::Result<()> {
        let start = self.start.as_ptr().cast();
        // SAFETY: exactly the pages of this mapping; locking does not change what they hold.
        if unsafe { libc::mlock(start, self.size) } != 0 {
            return Err(not_locked(self.size, &io::Error::last_os_error()));
        }
        for advice in [libc::MADV_DONTDUMP, libc::MADV_WIPEONFORK] {
            // SAFETY: as above; both change only what others get to see.
            if unsafe { libc::madvise(start, self.size, advice) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing refers to it any more. munmap also unlocks.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.size) };
    }
}

fn not_locked(size: usize, error: &io::Error) -> io::Error {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    let limit = limit.map_or("none".to_owned(), |bytes| format!("{bytes} bytes"));
    io::Error::new(
        error.kind(),
        format!("cannot lock {size} bytes of memory: {error}; RLIMIT_MEMLOCK is {limit}"),
    )
}
