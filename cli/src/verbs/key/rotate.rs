//! deploy key rotate

use anyhow::Result;
use clap::Args;
use control::calls::KeyRotate;
use indicatif::ProgressStyle;

use super::progress;
use crate::context::Context;

/// Make a new root key, and seal every record with it
///
/// Reads and writes go on meanwhile. Nobody is asked for anything: key slots open the new key as
/// they opened the old one.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  deploy key rotate")]
pub struct Rotate {}

pub fn rotate(_: &Rotate, context: &Context) -> Result<()> {
    let bar = progress(context, "sealing records anew");
    let rotated = context.client()?.call_more(&KeyRotate {}, |told| {
        if bar.length() != Some(told.total) {
            bar.set_length(told.total);
            if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} {eta}") {
                bar.set_style(style);
            }
        }
        bar.set_position(told.done);
    });
    bar.finish_and_clear();
    let rotated = rotated?;
    context.confirm(&rotated, |rotated| {
        let generation = rotated
            .generation
            .map_or("the next".to_owned(), |g| g.to_string());
        format!(
            "{} records are under key generation {generation}",
            rotated.done
        )
    })
}
