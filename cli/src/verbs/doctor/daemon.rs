//! secretsd, and what it says of its store, its key slots and its audit log.

use std::io;
use std::time::Duration;

use control::calls::{AuditVerify, Method, SlotKind, State, Status, StatusReport};
use control::{Client, ClientError};
use injector::run_dir::RunDir;

use super::finding::{Finding, within};

const PATIENCE: Duration = Duration::from_secs(5);
/// A full audit log is half a gigabyte.
const AUDIT_PATIENCE: Duration = Duration::from_secs(60);

pub fn look(run_dir: &RunDir) -> (Vec<Finding>, Option<StatusReport>) {
    let report = match ask(run_dir, Status {}, PATIENCE) {
        Some(Ok(report)) => report,
        Some(Err(error)) => return (vec![refused(&error)], None),
        None => return (vec![silent()], None),
    };
    let mut findings = vec![state(&report)];
    if !report.injector {
        findings.push(
            Finding::error(
                "injector",
                "it is not there: no service can be started or told",
            )
            .mend("see the log of `deploy-inject up`, which starts it again"),
        );
    }
    if report.version != env!("CARGO_PKG_VERSION") {
        let (theirs, ours) = (&report.version, env!("CARGO_PKG_VERSION"));
        findings.push(
            Finding::warning(
                "version",
                format!("secretsd is {theirs}, and this is {ours}"),
            )
            .mend("end secretsd with SIGTERM: its keeper starts the one that is installed"),
        );
    }
    if report
        .records
        .as_ref()
        .is_some_and(|records| !records.writable)
    {
        findings.push(
            Finding::error("store", "it takes no changes; what is stored can be read")
                .mend("make room or mend the disk, then end secretsd with SIGTERM: it opens again"),
        );
    }
    let warnings = report.warnings.iter();
    findings.extend(warnings.map(|warning| Finding::warning("store", warning)));
    findings.push(slots(&report));
    findings.push(audit(run_dir));
    (findings, Some(report))
}

/// `None`: no answer in time.
fn ask<M>(
    run_dir: &RunDir,
    parameters: M,
    patience: Duration,
) -> Option<Result<M::Reply, ClientError>>
where
    M: Method + Send + 'static,
    M::Reply: Send + 'static,
{
    let socket = run_dir.control_socket();
    within(patience, move || {
        Client::connect(&socket)?.call(&parameters)
    })
}

fn refused(error: &ClientError) -> Finding {
    let mend = error.hint().unwrap_or("see the log of secretsd");
    match error {
        ClientError::Connect { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Finding::error("secretsd", "it cannot be asked by this user").mend(mend)
        }
        error => Finding::error("secretsd", error.to_string()).mend(mend),
    }
}

fn silent() -> Finding {
    let seconds = PATIENCE.as_secs();
    Finding::error("secretsd", format!("it has not answered for {seconds} s")).mend(
        "pkill -KILL -x secretsd; its keeper starts the next one, and services see nothing of it",
    )
}

fn state(report: &StatusReport) -> Finding {
    let generation = report.generation.unwrap_or_default();
    match report.state {
        State::Sealed => {
            Finding::error("secretsd", "sealed: no secret can be opened").mend("deploy unseal")
        }
        State::Unsealed => Finding::ok(
            "secretsd",
            format!(
                "unsealed, key generation {generation}; {} secrets, {} instances",
                report.secrets, report.instances
            ),
        ),
    }
}

fn slots(report: &StatusReport) -> Finding {
    let of = |kind| report.slots.iter().filter(|slot| slot.kind == kind).count();
    let (files, passphrases) = (of(SlotKind::File), of(SlotKind::Passphrase));
    let says = format!("{files} in files, {passphrases} by passphrase");
    match (files, passphrases) {
        (0, 0) => Finding::error(
            "key slots",
            "there is none: after a restart of the host nothing opens",
        )
        .mend("deploy key slot add --passphrase"),
        (1, 0) => Finding::note(
            "key slots",
            format!("{says}: with that file the store is lost"),
        )
        .mend("deploy key slot add --passphrase"),
        (0, _) => Finding::note(
            "key slots",
            format!("{says}: after a restart of the host somebody has to unseal"),
        ),
        _ => Finding::ok("key slots", says),
    }
}

fn audit(run_dir: &RunDir) -> Finding {
    match ask(run_dir, AuditVerify::default(), AUDIT_PATIENCE) {
        Some(Ok(verified)) if verified.whole => {
            let (entries, segments) = (verified.entries, verified.segments);
            Finding::ok(
                "audit log",
                format!("{entries} entries in {segments} segments fit"),
            )
        }
        Some(Ok(verified)) => Finding::error("audit log", verified.damage.join("; "))
            .mend("keep a copy of its folder; see docs/audit.md, and `deploy audit verify`"),
        Some(Err(error)) => {
            Finding::error("audit log", error.to_string()).mend("deploy audit verify")
        }
        None => {
            Finding::warning("audit log", "it was not checked in time").mend("deploy audit verify")
        }
    }
}
