//! deploy import: a manifest out of what is there, and the commands that bring the values.

mod compose;
mod draft;
mod env;
mod systemd;
mod words;

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use model::ServiceName;
use zeroize::Zeroizing;

use self::draft::Draft;
use crate::context::{Context, print_bytes};
use crate::failure::Failure;

/// The longest file that is looked at, in bytes.
const MAX_TEXT: u64 = 1 << 20;

/// Make a manifest from a systemd unit, a compose file or an .env file
///
/// Prints the manifest, with the commands that set its secrets and grant them as comments before it.
/// Nothing is changed, and no value is printed or becomes an argument: commands read it from where
/// it is. What cannot be carried over is named.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy import systemd /etc/systemd/system/web.service > web.yaml\n  \
    deploy import compose compose.yaml --service web > web.yaml\n  \
    deploy import env .env --service web > web.yaml")]
pub struct Import {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// From a unit with LoadCredential=, LoadCredentialEncrypted= or SetCredential=
    #[command(after_help = "Example:\n  \
        systemctl cat web.service | deploy import systemd - --service web > web.yaml")]
    Systemd(Source),
    /// From a compose file with `secrets:`
    #[command(after_help = "Example:\n  deploy import compose compose.yaml --service web")]
    Compose(Source),
    /// From an .env file: each variable becomes a secret
    #[command(after_help = "Example:\n  \
        deploy import env .env --service web > web.yaml\n  \
        deploy import env .env --value DB_PASSWORD | deploy secret set db_password --file -")]
    Env(Source),
}

#[derive(Debug, Args)]
struct Source {
    /// The file; - is standard input
    file: PathBuf,
    /// The service [default: the file's name; of a compose file, its only service with secrets]
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// Print nothing but the value that the file has under this name, into a pipe or file
    #[arg(long, value_name = "NAME")]
    value: Option<String>,
}

pub fn import(args: &Import, context: &Context) -> Result<()> {
    let (From::Systemd(source) | From::Compose(source) | From::Env(source)) = &args.from;
    let text = read(&source.file)?;
    let stem = source.file.file_stem().unwrap_or_default();
    let stem = stem.to_string_lossy();
    let service = source.service.as_ref().map(ServiceName::as_str);
    let drafted = match &args.from {
        From::Systemd(_) => systemd::draft(&text, &source.file, service.unwrap_or(&stem)),
        From::Compose(_) => compose::draft(&text, &source.file, service),
        From::Env(_) => env::draft(&text, &source.file, service.unwrap_or(&stem)),
    };
    let mut draft = drafted.map_err(|why| {
        let file = source.file.display();
        Failure::usage(format!("{file}{why}"))
    })?;
    if let Some(name) = &source.value {
        return print_value(&mut draft, name);
    }
    let imported = draft.finish()?;
    context.show(&imported, draft::Imported::text)
}

fn print_value(draft: &mut Draft, name: &str) -> Result<()> {
    let Some(value) = draft.values.remove(name) else {
        let message = format!("the file itself has no value under the name {name}");
        return Err(Failure::not_found(message).into());
    };
    if io::stdout().is_terminal() {
        return Err(Failure::usage("the value would be seen on this terminal")
            .hint("pass it on: ... | deploy secret set NAME --file -")
            .into());
    }
    print_bytes(&value)
}

/// Wiped when dropped, as it may hold values.
fn read(path: &Path) -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let done = match path.as_os_str() == "-" {
        true => io::stdin()
            .lock()
            .take(MAX_TEXT + 1)
            .read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(MAX_TEXT + 1).read_to_end(&mut bytes)),
    };
    done.with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(Failure::usage(format!("{} is longer than 1 MiB", path.display())).into());
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Failure::usage(format!("{} is not UTF-8", path.display())).into()),
    }
}

/// Why a file cannot be imported: what follows its name in the message, `:LINE: what` or `: what`.
type Refused = String;

/// A place in a file, and what is wrong there; never with a value.
fn at(line: usize, what: impl std::fmt::Display) -> Refused {
    format!(":{line}: {what}")
}
