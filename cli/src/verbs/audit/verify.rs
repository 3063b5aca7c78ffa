//! deploy audit verify

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use control::calls::{AuditVerified, AuditVerify};
use injector::daemon_user::{DaemonCommand, as_daemon_user};

use crate::context::{Context, require_root};
use crate::failure::Failure;
use crate::table::facts;
use crate::verbs::{exit_code, installed};

/// Check that nothing was cut out of the audit log, changed or moved
///
/// The chain alone cannot show that its end was cut off, or that all of it was written anew. An anchor
/// can: keep the one that this prints on another machine, and give it the next time.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy audit verify\n  \
    deploy audit verify --anchor 4711:6f1e0c\n  \
    deploy audit verify --state-dir /mnt/var/lib/deploy-secrets")]
pub struct Verify {
    /// An anchor that was kept elsewhere
    #[arg(long, value_name = "NUMBER:HASH")]
    anchor: Option<String>,
    /// Check the log in this state folder, without a running secretsd; as root
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// secretsd's user, with --state-dir
    #[arg(
        long,
        value_name = "USER",
        default_value = "deploy-secrets",
        requires = "state_dir"
    )]
    user: String,
    /// The program secretsd, with --state-dir [default: the one that was installed with this one]
    #[arg(long, value_name = "PROGRAM", requires = "state_dir")]
    secretsd: Option<PathBuf>,
}

pub fn verify(args: &Verify, context: &Context) -> Result<ExitCode> {
    if let Some(state_dir) = &args.state_dir {
        return offline(args, state_dir.clone(), context);
    }
    let call = AuditVerify {
        anchor: args.anchor.clone(),
    };
    let verified = context.call(&call)?;
    context.show(&verified, text)?;
    if verified.whole {
        return Ok(ExitCode::SUCCESS);
    }
    let what = match verified.anchored.as_deref() {
        Some("cut") => "the end of the audit log was cut off: the anchor is beyond it",
        Some("differs") => "the audit log was written anew: the anchor is of another one",
        Some("too-old") => "the anchor is older than the oldest entry that is kept",
        _ => "the audit log is not whole",
    };
    Err(Failure::failed(what).into())
}

fn text(verified: &AuditVerified) -> String {
    let mut rows = vec![
        ("entries", verified.entries.to_string()),
        ("first", verified.first.to_string()),
        ("segments", verified.segments.to_string()),
        ("anchor", verified.anchor.clone()),
    ];
    rows.extend(
        verified
            .anchored
            .iter()
            .map(|how| ("given anchor", how.clone())),
    );
    rows.extend(verified.damage.iter().map(|what| ("damage", what.clone())));
    facts(rows)
}

/// secretsd does it, as its own user: this program reads nothing of the state folder.
fn offline(args: &Verify, state_dir: PathBuf, context: &Context) -> Result<ExitCode> {
    require_root("verify --state-dir")?;
    let program = match &args.secretsd {
        Some(program) => std::path::absolute(program)?,
        None => installed("secretsd")?,
    };
    let mut words = vec![
        "audit-verify".into(),
        "--state-dir".into(),
        state_dir.into(),
    ];
    if let Some(anchor) = &args.anchor {
        words.extend(["--anchor".into(), anchor.into()]);
    }
    if context.json {
        words.push("--json".into());
    }
    let command = DaemonCommand {
        program,
        args: words,
        env: Vec::new(),
    };
    let code = as_daemon_user(&args.user, &command)
        .with_context(|| format!("cannot run {}", command.program.display()))?;
    Ok(exit_code(code))
}
