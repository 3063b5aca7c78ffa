//! deploy completion

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::context::print_bytes;

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy completion bash > /etc/bash_completion.d/deploy\n  \
    deploy completion fish > ~/.config/fish/completions/deploy.fish")]
pub struct Completion {
    /// The shell
    shell: Shell,
}

pub fn completion(args: &Completion) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "deploy", &mut script);
    print_bytes(&script)
}
