//! What `deploy run` adds to the start of a process.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::Pair;
use tests::claim::ClaimedUser;
use tests::manifest::Asked;

use crate::report::Report;

const PAIRS: usize = 31;

pub fn measure(report: &mut Report) {
    let pair = Pair::start();
    let user = ClaimedUser::claim();
    let names: Vec<String> = (0..10).map(|number| format!("secret-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        pair.set(name, "value");
    }
    pair.grant("true", &names);
    let asked = Asked::service("true")
        .user(user.uid())
        .secrets(&names)
        .command(&["/bin/true"]);
    let file = pair.manifest(&asked);
    let ours = || timed(pair.deploy_command(&["run", file.to_str().unwrap()]));
    let bare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "/bin/true"]);
        timed(unshare)
    };
    ours();
    bare();
    let pairs: Vec<(Duration, Duration)> = (0..PAIRS).map(|_| (ours(), bare())).collect();
    report.pairs(
        "`deploy run /bin/true` with ten secrets, against `unshare --mount /bin/true`",
        "",
        &pairs,
    );
}

fn timed(mut command: Command) -> Duration {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
    start.elapsed()
}
