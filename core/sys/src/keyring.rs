//! The user keyring (user-keyring(7)): keys that outlive every process of a user, in kernel memory,
//! and that no other user reads.

use std::ffi::CString;
use std::io;
use std::ptr;

use crate::memory::LockedBytes;

/// KEY_SPEC_THREAD_KEYRING
const THREAD_KEYRING: i32 = -1;
/// KEY_SPEC_USER_KEYRING
const USER_KEYRING: i32 = -4;

const KEYCTL_REVOKE: i32 = 3;
const KEYCTL_SETPERM: i32 = 5;
const KEYCTL_LINK: i32 = 8;
const KEYCTL_UNLINK: i32 = 9;
const KEYCTL_SEARCH: i32 = 10;
const KEYCTL_READ: i32 = 11;

/// All of view, read, write, search, link and setattr, for whoever possesses the key and for its
/// user; nothing for group and others (keyctl_setperm(3)).
const OWN_USER_ALONE: u32 = 0x3f3f_0000;

/// Somebody may put a longer key while we read; not for ever.
const TRIES: usize = 16;

/// Keeps `key` under `description`, in place of what was there.
///
/// # Errors
/// The quota of the user's keys is used up (EDQUOT), or there is no keyring here (ENOSYS).
pub fn put(description: &str, key: &[u8]) -> io::Result<()> {
    apart(|| put_here(description, key))
}

fn put_here(description: &str, key: &[u8]) -> io::Result<()> {
    let description = name(description)?;
    reach_user_keyring();
    // SAFETY: type and description end with NUL, and the kernel reads `key.len()` bytes of the key.
    let id = checked(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            description.as_ptr(),
            key.as_ptr(),
            key.len(),
            USER_KEYRING,
        )
    })?;
    keyctl(KEYCTL_SETPERM, [id, i64::from(OWN_USER_ALONE)])?;
    Ok(())
}

/// What is kept under `description`; `None` if nothing is.
///
/// # Errors
/// It is there, and we may not read it; or its bytes cannot be locked in memory.
pub fn get(description: &str) -> io::Result<Option<LockedBytes>> {
    apart(|| get_here(description))
}

fn get_here(description: &str) -> io::Result<Option<LockedBytes>> {
    let Some(id) = find(description)? else {
        return Ok(None);
    };
    for _ in 0..TRIES {
        let Some(length) = read(id, None)? else {
            return Ok(None);
        };
        let mut key = LockedBytes::new_zeroed(length)?;
        match read(id, Some(key.as_mut_slice()))? {
            None => return Ok(None),
            Some(now) if now == length => return Ok(Some(key)),
            Some(_) => {}
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Wipes what is kept under `description`, for everybody who has found it before, too.
///
/// # Errors
/// It is there, and we may not. That it is absent is fine.
pub fn remove(description: &str) -> io::Result<()> {
    apart(|| remove_here(description))
}

fn remove_here(description: &str) -> io::Result<()> {
    let Some(id) = find(description)? else {
        return Ok(());
    };
    // Revoking frees the bytes; unlinking alone would leave them to whoever else links the key.
    let revoked = keyctl(KEYCTL_REVOKE, [id, 0]);
    let unlinked = keyctl(KEYCTL_UNLINK, [id, i64::from(USER_KEYRING)]);
    for done in [revoked, unlinked] {
        match done {
            Err(error) if !is_absent(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// On a thread of its own that ends with `f`. A thread that has a keyring hands one to every thread
/// that it starts, and so do those: each costs a key of the user's 200, until clone(2) fails.
fn apart<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("keyring".to_owned())
            .spawn_scoped(scope, f)?;
        // A panic of `f` is a panic of the caller.
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Under some login managers the session's keyring does not lead to the user's; our own thread's
/// then does, and with it we possess the user's keys.
fn reach_user_keyring() {
    let user = i64::from(USER_KEYRING);
    let _ = keyctl(KEYCTL_LINK, [user, i64::from(THREAD_KEYRING)]);
}

fn find(description: &str) -> io::Result<Option<i64>> {
    let description = name(description)?;
    reach_user_keyring();
    // SAFETY: type and description end with NUL.
    let found = checked(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_SEARCH,
            USER_KEYRING,
            c"user".as_ptr(),
            description.as_ptr(),
            0,
        )
    });
    match found {
        Ok(id) => Ok(Some(id)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Copies as much as fits, and says how long the key is.
fn read(id: i64, into: Option<&mut [u8]>) -> io::Result<Option<usize>> {
    let (start, room) = match into {
        Some(room) => (room.as_mut_ptr(), room.len()),
        None => (ptr::null_mut(), 0),
    };
    // SAFETY: the kernel writes at most `room` bytes from `start`, which is writable for as many.
    let length = checked(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_READ, id, start, room) });
    match length {
        Ok(length) => Ok(usize::try_from(length).ok()),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The operations that take numbers alone.
fn keyctl(operation: i32, [first, second]: [i64; 2]) -> io::Result<i64> {
    // SAFETY: the operations that this is called with read and write no memory of ours.
    checked(unsafe { libc::syscall(libc::SYS_keyctl, operation, first, second) })
}

fn checked(done: libc::c_long) -> io::Result<i64> {
    match done {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

fn is_absent(error: &io::Error) -> bool {
    let absent = [
        libc::ENOKEY,
        libc::EKEYREVOKED,
        libc::EKEYEXPIRED,
        libc::ENOENT,
    ];
    error
        .raw_os_error()
        .is_some_and(|errno| absent.contains(&errno))
}

fn name(description: &str) -> io::Result<CString> {
    if description.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    CString::new(description).map_err(|_| io::ErrorKind::InvalidInput.into())
}
