//! The ways that older kernels need, as they are on Debian 12: without SO_PEERPIDFD (6.5) and pidfds of
//! threads (6.9). A seccomp filter plays the older kernel.

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::helper;

/// From now on one call with one value of one argument has this errno.
fn answer(call: i64, argument: u8, value: u64, errno: i32) {
    let condition =
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).unwrap();
    let rule = SeccompRule::new(vec![condition]).unwrap();
    let filter = SeccompFilter::new(
        [(call, vec![rule])].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        TargetArch::try_from(std::env::consts::ARCH).unwrap(),
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter_all_threads(&program).unwrap();
}

/// The part of [`readers_and_peers_are_named_on_older_kernels_too`] that cannot be undone.
pub fn helper() {
    let name = libc::SO_PEERPIDFD.unsigned_abs().into();
    answer(libc::SYS_getsockopt, 2, name, libc::ENOPROTOOPT);
    answer(
        libc::SYS_pidfd_open,
        1,
        libc::PIDFD_THREAD.into(),
        libc::EINVAL,
    );
    crate::peer::the_pidfd_is_of_the_process_that_connected();
    crate::reader::a_thread_is_of_its_process_and_of_nobody_once_it_has_ended();
    crate::reader::a_reader_that_is_moved_is_seen_where_it_is_now();
    crate::reader::who_has_the_number_of_a_reader_that_ended_is_not_taken_for_it();
}

#[test]
fn readers_and_peers_are_named_on_older_kernels_too() {
    helper::run(helper::spawn("old-kernel"));
}
