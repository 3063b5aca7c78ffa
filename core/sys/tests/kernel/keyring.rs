//! Keys that outlive their writer.

use sys::keyring;

use crate::common::as_user;
use crate::helper;

const UID: u32 = 54321;
const OTHER: u32 = 54322;
/// KEYCTL_JOIN_SESSION_KEYRING
const JOIN_SESSION: i32 = 1;

/// Removes a key of [`UID`]'s, however the test ends.
struct Removed(String);

impl Removed {
    fn new(test: &str) -> Removed {
        Removed(format!("sys-test:{test}:{}", std::process::id()))
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = as_user(UID, &[], || keyring::remove(&self.0));
    }
}

fn get(uid: u32, description: &str) -> Option<Vec<u8>> {
    as_user(uid, &[], || {
        keyring::get(description)
            .unwrap()
            .map(|key| key.as_slice().to_vec())
    })
}

/// The writing part of [`a_key_outlives_its_writer_and_is_its_users_alone`], which ends.
pub fn put_helper() {
    let description = std::env::var("DESCRIPTION").unwrap();
    as_user(UID, &[], || {
        keyring::put(&description, b"thirty-two bytes of root key....").unwrap()
    });
}

#[test]
fn a_key_outlives_its_writer_and_is_its_users_alone() {
    let key = Removed::new("outlives");
    helper::run(helper::spawn("keyring-put").env("DESCRIPTION", &key.0));
    assert_eq!(
        get(UID, &key.0).unwrap(),
        b"thirty-two bytes of root key...."
    );
    assert_eq!(get(OTHER, &key.0), None);
    assert_eq!(get(0, &key.0), None);

    // By its number too, which everybody may know.
    let id = id_of(&key.0);
    let read = |uid| as_user(uid, &[UID], || read_by_number(id));
    assert_eq!(read(UID), Ok(32));
    assert_eq!(read(OTHER), Err(Some(libc::EACCES)));
}

/// From /proc/keys as the key's user sees it.
fn id_of(description: &str) -> i64 {
    let text = as_user(UID, &[], || std::fs::read_to_string("/proc/keys").unwrap());
    let line = text
        .lines()
        .find(|line| line.contains(description))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[4], "3f3f0000", "group and others have a part in it");
    i64::from_str_radix(words[0], 16).unwrap()
}

fn read_by_number(id: i64) -> Result<i64, Option<i32>> {
    let mut bytes = [0_u8; 64];
    let read = 11;
    // SAFETY: KEYCTL_READ writes at most 64 bytes into as many.
    match unsafe { libc::syscall(libc::SYS_keyctl, read, id, bytes.as_mut_ptr(), bytes.len()) } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error()),
        length => Ok(length),
    }
}

#[test]
fn a_session_that_does_not_lead_to_the_user_keyring_is_no_hindrance() {
    let key = Removed::new("session");
    let join = || {
        // SAFETY: no name, a new session keyring for this thread alone.
        let joined = unsafe {
            libc::syscall(
                libc::SYS_keyctl,
                JOIN_SESSION,
                std::ptr::null::<libc::c_char>(),
            )
        };
        assert!(joined > 0);
    };
    as_user(UID, &[], || {
        join();
        keyring::put(&key.0, b"first").unwrap();
        keyring::put(&key.0, b"second, longer").unwrap();
    });
    let found = as_user(UID, &[], || {
        join();
        keyring::get(&key.0)
            .unwrap()
            .map(|key| key.as_slice().to_vec())
    });
    assert_eq!(found.unwrap(), b"second, longer");
}

#[test]
fn removed_it_is_gone_for_those_too_who_had_found_it() {
    let key = Removed::new("removed");
    as_user(UID, &[], || keyring::put(&key.0, b"gone soon").unwrap());
    let id = id_of(&key.0);
    as_user(UID, &[], || {
        assert_eq!(read_by_number(id), Ok(9));
        keyring::remove(&key.0).unwrap();
        assert!(read_by_number(id).is_err());
        // Absent is fine.
        keyring::remove(&key.0).unwrap();
    });
    assert_eq!(get(UID, &key.0), None);
    // And the name is free again.
    as_user(UID, &[], || keyring::put(&key.0, b"again").unwrap());
    assert_eq!(get(UID, &key.0).unwrap(), b"again");
}

#[test]
fn no_thread_is_left_with_a_keyring_that_all_its_threads_would_inherit() {
    let key = Removed::new("threads");
    let thread_keyring = || {
        let (get_keyring_id, of_thread, no_create) = (0, -1, 0);
        // SAFETY: takes numbers alone.
        let id = unsafe { libc::syscall(libc::SYS_keyctl, get_keyring_id, of_thread, no_create) };
        (id != -1)
            .then_some(id)
            .ok_or_else(|| std::io::Error::last_os_error().raw_os_error())
    };
    as_user(UID, &[], || {
        keyring::put(&key.0, b"x").unwrap();
        assert!(keyring::get(&key.0).unwrap().is_some());
        keyring::remove(&key.0).unwrap();
        assert_eq!(thread_keyring(), Err(Some(libc::ENOKEY)));
    });
}
