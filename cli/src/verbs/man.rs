//! deploy man

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory};
use clap_mangen::Man as Page;

use crate::arguments::Arguments;
use crate::context::print_bytes;

/// Print the man page, or write one for each verb into a folder
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  deploy man | man -l -\n  deploy man --dir /usr/local/share/man/man1"
)]
pub struct Man {
    /// Write the pages of all verbs here
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn man(args: &Man) -> Result<()> {
    let command = Arguments::command();
    if let Some(dir) = &args.dir {
        return clap_mangen::generate_to(command, dir)
            .with_context(|| format!("cannot write man pages into {}", dir.display()));
    }
    let mut page = Vec::new();
    Page::new(command).render(&mut page)?;
    print_bytes(&page)
}
