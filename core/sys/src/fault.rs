//! Threads that die of a fault of their own, told apart from those that somebody killed.
//!
//! A thread may name a word of shared memory. When it dies of SIGSEGV, SIGBUS, SIGILL, SIGFPE or
//! SIGABRT, the word has a value of its choice from then on; a SIGKILL leaves the word as it is.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a program does to itself.
const FAULTS: [libc::c_int; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
];

thread_local! {
    /// The word of this thread, and the value that it gets. Needs no destructor and no first use, so
    /// that a signal handler may look at it.
    static MARK: Cell<Option<(&'static AtomicU64, u64)>> = const { Cell::new(None) };
}

/// What the signals did before.
static BEFORE: OnceLock<[libc::sigaction; FAULTS.len()]> = OnceLock::new();

/// From now on, a fault of this thread stores `value` into `word`, and into no other. Without
/// [`watch`] it does not.
pub fn mark(word: &'static AtomicU64, value: u64) {
    MARK.set(Some((word, value)));
}

/// From now on, a fault of this thread is a fault and nothing else.
pub fn unmark() {
    MARK.set(None);
}

/// Begins to watch for faults, for the whole process. What a signal did before, it still does.
///
/// # Errors
/// As sigaction(2).
pub fn watch() -> io::Result<()> {
    if BEFORE.get().is_some() {
        return Ok(());
    }
    let mut before = Vec::with_capacity(FAULTS.len());
    for signal in FAULTS {
        let mut old = MaybeUninit::uninit();
        // SAFETY: asks only, and the kernel fills what is pointed to.
        check(unsafe { libc::sigaction(signal, ptr::null(), old.as_mut_ptr()) })?;
        // SAFETY: filled just now.
        before.push(unsafe { old.assume_init() });
    }
    let before = before.try_into().map_err(|_| io::ErrorKind::Other)?;
    if BEFORE.set(before).is_err() {
        return Ok(());
    }
    for signal in FAULTS {
        // SAFETY: all zeros is a sigaction without flags, mask and handler.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_fault as *const () as libc::sighandler_t;
        // On the stack that std has for it: the fault may be that the other one is used up.
        action.sa_flags = libc::SA_ONSTACK;
        // SAFETY: `on_fault` has the signature of a handler without SA_SIGINFO, and does nothing
        // that a signal handler may not.
        check(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) })?;
    }
    Ok(())
}

/// Marks, and steps back: what faulted is tried again and faults again, and abort(3) raises its
/// signal again, with what the signal did before us.
extern "C" fn on_fault(signal: libc::c_int) {
    if let Some((word, value)) = MARK.get() {
        word.store(value, Ordering::Release);
    }
    let at = FAULTS.iter().position(|fault| *fault == signal);
    if let (Some(before), Some(at)) = (BEFORE.get(), at) {
        // SAFETY: sigaction(2) may be called in a handler; what is set was there before.
        unsafe { libc::sigaction(signal, &raw const before[at], ptr::null_mut()) };
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
