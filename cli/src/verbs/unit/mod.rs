//! deploy unit: systemd units that exist already

mod apparmor;
mod disable;
mod enable;
mod status;
mod systemd;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use injector::unit::drop_in;

use crate::context::{Context, require_root};
use crate::failure::Failure;

/// Give systemd units that exist their secrets, by a drop-in
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  deploy unit enable nginx.service --manifest /etc/deploy/nginx.yaml\n  \
    deploy unit status"
)]
pub struct Unit {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Enable(enable::Enable),
    Disable(disable::Disable),
    Status(status::Status),
}

/// Where drop-ins are.
#[derive(Debug, Args)]
struct Place {
    /// Folder of units that operators write
    #[arg(long, value_name = "DIR", default_value = drop_in::SYSTEM, hide = true)]
    system_dir: PathBuf,
}

pub fn unit(args: &Unit, context: &Context) -> Result<()> {
    require_root("unit")?;
    match &args.verb {
        Verb::Enable(args) => enable::enable(args, context),
        Verb::Disable(args) => disable::disable(args, context),
        Verb::Status(args) => status::status(args, context),
    }
}

/// `nginx` is nginx.service; templates have a name too.
fn unit_name(text: &str) -> Result<String, String> {
    let name = match text.contains('.') {
        true => text.to_owned(),
        false => format!("{text}.service"),
    };
    let template = name
        .strip_suffix("@.service")
        .map(|stem| format!("{stem}@x.service"));
    let is_service = name.ends_with(".service")
        && !name.starts_with('@')
        && model::is_unit(template.as_deref().unwrap_or(&name));
    if is_service {
        Ok(name)
    } else {
        Err("a unit is its whole name, such as nginx.service, web@1.service or web@.service".into())
    }
}

/// What is in the place of our drop-in, which only we write.
fn written(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::failed(format!("{}: {error}", path.display())).into()),
    }
}

/// It is as we wrote it: what somebody has added is not ours to lose.
fn require_ours(path: &Path, text: &str) -> Result<drop_in::DropIn> {
    let ours = drop_in::DropIn::parse(path, text).ok();
    ours.filter(|ours| ours.to_string() == text).ok_or_else(|| {
        Failure::conflict(format!("{} was changed by hand", path.display()))
            .hint("look at it, and remove it or move what was added to a drop-in of its own")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::unit_name;

    #[test]
    fn units_have_whole_names_and_services_short_ones() {
        for (text, unit) in [
            ("nginx", "nginx.service"),
            ("nginx.service", "nginx.service"),
            ("web@1.service", "web@1.service"),
            ("web@.service", "web@.service"),
        ] {
            assert_eq!(unit_name(text).as_deref(), Ok(unit));
        }
        for text in ["", "a/b", "nginx.socket", "..", "@.service", "a b"] {
            assert!(unit_name(text).is_err(), "{text}");
        }
    }
}
