//! Refusals, and the only place where they become errnos. docs/semantics.md says what a program
//! sees of each.

use fuser::Errno;

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No such name for this caller.
    #[error("no such name")]
    NoEntry,
    /// Look the name up again: it leads elsewhere by now. The kernel does that by itself, and no
    /// program sees this.
    #[error("superseded")]
    Superseded,
    /// What was open is revoked.
    #[error("revoked")]
    Revoked,
    /// The caller is not of the instance.
    #[error("not of the instance")]
    Foreign,
    /// The store is sealed.
    #[error("sealed")]
    Sealed,
    /// Views do not change by their users.
    #[error("read-only")]
    ReadOnly,
    /// A name longer than any.
    #[error("name too long")]
    TooLong,
    /// A name below a file.
    #[error("not a folder")]
    NotFolder,
    /// The store could not read what it has.
    #[error("unreadable")]
    Unreadable,
    /// It could not be written into the audit log.
    #[error("not written down")]
    Unwritten,
    /// Not something that these files have.
    #[error("no terminal")]
    NoTerminal,
    /// A command that is not understood (`ctl`).
    #[error("not understood")]
    Invalid,
    /// Too much is waiting (`ctl`).
    #[error("busy")]
    Busy,
    /// Known to exist, and never readable (`key`).
    #[error("never readable")]
    NeverReadable,
    /// Two processes have ended in answering it.
    #[error("crashes its handler")]
    Crashes,
    /// The kernel goes on by itself, and does not ask again.
    #[error("left to the kernel")]
    LeftToKernel,
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Errno {
        let number = match refusal {
            Refusal::NoEntry => libc::ENOENT,
            Refusal::Superseded => libc::ESTALE,
            Refusal::Revoked => libc::EKEYREVOKED,
            Refusal::Foreign | Refusal::NeverReadable => libc::EACCES,
            Refusal::Sealed => libc::ENOKEY,
            Refusal::ReadOnly => libc::EROFS,
            Refusal::TooLong => libc::ENAMETOOLONG,
            Refusal::NotFolder => libc::ENOTDIR,
            Refusal::Unreadable | Refusal::Unwritten | Refusal::Crashes => libc::EIO,
            Refusal::NoTerminal => libc::ENOTTY,
            Refusal::Invalid => libc::EINVAL,
            Refusal::Busy => libc::EBUSY,
            Refusal::LeftToKernel => libc::ENOSYS,
        };
        Errno::from_i32(number)
    }
}
