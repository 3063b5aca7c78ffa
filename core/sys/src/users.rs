//! Users and groups, as the host's name service knows them (getpwnam(3), getgrnam(3)).

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

/// No entry is larger than this; a group may have many members.
const ENTRY_MAX: usize = 1 << 20;

/// Whom a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The login name, if the number has one.
    pub name: Option<String>,
    /// The user.
    pub uid: u32,
    /// The first group.
    pub gid: u32,
    /// All supplementary groups.
    pub groups: Vec<u32>,
    /// The home folder; `/` if there is none.
    pub home: PathBuf,
}

/// Looks up a login name, a number, or `UID:GID`. A number that nobody has is a user without a name,
/// in the group of the same number; `UID:GID` has no other group. `None`: there is no such user.
///
/// # Errors
/// The name service does not answer.
pub fn account(user: &str) -> io::Result<Option<Account>> {
    if let Some((uid, gid)) = user.split_once(':') {
        let (Some(uid), Some(gid)) = (number(uid), number(gid)) else {
            return Ok(None);
        };
        let known = by_uid(uid)?;
        return Ok(Some(Account {
            gid,
            groups: Vec::new(),
            ..known.map_or_else(|| nameless(uid), |(account, _)| account)
        }));
    }
    if user.bytes().all(|byte| byte.is_ascii_digit()) {
        let Some(uid) = number(user) else {
            return Ok(None);
        };
        return match by_uid(uid)? {
            Some(found) => with_groups(found).map(Some),
            None => Ok(Some(nameless(uid))),
        };
    }
    match by_name(user)? {
        Some(found) => with_groups(found).map(Some),
        None => Ok(None),
    }
}

/// The number of a group.
pub fn group_id(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    look_up::<libc::group, _>(
        |entry, buffer, found| {
            // SAFETY: the name ends with NUL; `look_up` gives room that outlives the call.
            unsafe {
                libc::getgrnam_r(
                    name.as_ptr(),
                    entry,
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    found,
                )
            }
        },
        |entry| entry.gr_gid,
    )
    .ok()
    .flatten()
}

/// The login name of a user.
pub fn name_of(uid: u32) -> Option<String> {
    by_uid(uid).ok().flatten()?.0.name
}

/// Digits alone, and not the number that means "leave as it is" to setresuid(2).
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten()?;
    (number != u32::MAX).then_some(number)
}

fn nameless(uid: u32) -> Account {
    Account {
        name: None,
        uid,
        gid: uid,
        groups: Vec::new(),
        home: PathBuf::from("/"),
    }
}

/// An account without its groups yet, and its name as the name service spells it.
type Found = (Account, CString);

fn by_name(name: &str) -> io::Result<Option<Found>> {
    let Ok(name) = CString::new(name) else {
        return Ok(None);
    };
    let found = look_up(
        |entry, buffer, found| {
            // SAFETY: the name ends with NUL; `look_up` gives room that outlives the call.
            unsafe {
                libc::getpwnam_r(
                    name.as_ptr(),
                    entry,
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    found,
                )
            }
        },
        take,
    )?;
    Ok(found)
}

fn by_uid(uid: u32) -> io::Result<Option<Found>> {
    look_up(
        |entry, buffer, found| {
            // SAFETY: `look_up` gives room that outlives the call.
            unsafe { libc::getpwuid_r(uid, entry, buffer.as_mut_ptr().cast(), buffer.len(), found) }
        },
        take,
    )
}

fn take(entry: &libc::passwd) -> Found {
    let text = |field: *const libc::c_char| {
        if field.is_null() {
            return CString::default();
        }
        // SAFETY: a field of a filled entry ends with NUL, and `look_up` keeps its buffer until we
        // are done.
        unsafe { CStr::from_ptr(field) }.to_owned()
    };
    let (name, home) = (text(entry.pw_name), text(entry.pw_dir));
    let home = match home.as_bytes() {
        [] => PathBuf::from("/"),
        path => PathBuf::from(OsStr::from_bytes(path)),
    };
    let account = Account {
        name: Some(name.to_string_lossy().into_owned()),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        groups: Vec::new(),
        home,
    };
    (account, name)
}

fn with_groups((mut account, name): Found) -> io::Result<Account> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut count = i32::try_from(groups.len()).unwrap_or(i32::MAX);
        // SAFETY: the name ends with NUL, and there is room for `count` groups.
        let done = unsafe {
            libc::getgrouplist(name.as_ptr(), account.gid, groups.as_mut_ptr(), &mut count)
        };
        let count = usize::try_from(count).unwrap_or(0);
        if done >= 0 {
            groups.truncate(count);
            account.groups = groups;
            return Ok(account);
        }
        if groups.len() >= ENTRY_MAX {
            return Err(io::Error::other("the user is in too many groups"));
        }
        groups.resize(count.max(groups.len() * 2), 0);
    }
}

/// Calls one of the `get..._r` functions with a buffer that grows as it needs, and lets `take` copy
/// what it wants out of the entry while the buffer lives.
fn look_up<E, T>(
    mut ask: impl FnMut(*mut E, &mut [u8], *mut *mut E) -> i32,
    take: impl Fn(&E) -> T,
) -> io::Result<Option<T>> {
    let mut buffer = vec![0_u8; 1024];
    loop {
        let mut entry = MaybeUninit::<E>::uninit();
        let mut found = ptr::null_mut();
        match ask(entry.as_mut_ptr(), &mut buffer, &mut found) {
            // SAFETY: not null, so that it is `entry`, and filled in.
            0 => return Ok(unsafe { found.as_ref() }.map(take)),
            libc::ERANGE if buffer.len() < ENTRY_MAX => {
                let larger = buffer.len() * 4;
                buffer.resize(larger, 0);
            }
            libc::EINTR => {}
            // What getpwnam(3) lists for a name that is not there.
            libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => return Ok(None),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}
