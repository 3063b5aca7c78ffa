//! deploy reload

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use control::ClientError;
use control::ControlError;
use control::inner::{Link, RefusedKind, Reply, ToInjector};
use injector::supervisor::with_owners;
use model::{MAX_TEXT, Manifest};

use crate::context::{Context, require_root};
use crate::failure::Failure;

/// Take the configuration of a changed manifest into its running service
///
/// Values of `config` and `config_from` change in the files of /config; nothing is started again.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy reload web.yaml")]
pub struct Reload {
    /// The manifest
    manifest: PathBuf,
}

pub fn reload(args: &Reload, context: &Context) -> Result<()> {
    let manifest = read_manifest(&args.manifest)?;
    require_root("reload")?;
    let manifest = with_owners(&manifest).map_err(Failure::failed)?;
    let service = manifest.service.clone();
    let manifest_path = std::path::absolute(&args.manifest)?;
    let socket = context.run_dir.inject_socket();
    let no_injector = |why: String| {
        Failure::failed(format!(
            "the injector does not answer on {}: {why}",
            socket.display()
        ))
        .hint("start it: deploy-inject up; or name its folder with --run-dir or DEPLOY_RUN_DIR")
    };
    let link = Link::connect(&socket).map_err(|error| no_injector(error.to_string()))?;
    let answer = link.request(
        &ToInjector::Reload {
            manifest,
            manifest_path,
        },
        &[],
    );
    let (reply, _) = answer.map_err(|error| no_injector(error.to_string()))?;
    match reply {
        Reply::Ok => {
            let done = serde_json::json!({ "service": service });
            context.confirm(&done, |_| format!("{service} has its new configuration"))
        }
        Reply::Refused {
            kind,
            message,
            hint,
            ..
        } => Err(refusal(kind, message, hint).into()),
        Reply::Failed { message } => Err(Failure::failed(message).into()),
        _ => Err(Failure::failed("the injector answers something else").into()),
    }
}

fn refusal(kind: RefusedKind, message: String, hint: Option<String>) -> ClientError {
    let error = match kind {
        RefusedKind::Sealed => ControlError::sealed(),
        RefusedKind::Missing => ControlError::denied(message, "see its grants: deploy secret list"),
        RefusedKind::Config => ControlError::failed(message),
        RefusedKind::Conflict => ControlError::conflict(message),
    };
    match hint {
        Some(hint) => error.hint(hint).into(),
        None => error.into(),
    }
}

/// The manifest in a file.
pub fn read_manifest(path: &Path) -> Result<Manifest> {
    // One byte more than is allowed, so that it is seen, and no more of what may be endless.
    let most = u64::try_from(MAX_TEXT + 1)?;
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut text))
        .with_context(|| format!("cannot read the manifest {}", path.display()))?;
    Ok(Manifest::parse(&text, path).map_err(|error| Failure::usage(error.to_string()))?)
}
