//! deploy config get

use std::ffi::OsString;
use std::io::{self, IsTerminal};

use anyhow::Result;
use clap::Args;
use control::calls::{ConfigData, ConfigGet};
use model::{ConfigKey, ConfigName, nearest};

use crate::context::{Context, print};
use crate::failure::Failure;
use crate::names::name;

/// Print a config, or one key of it as it is
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy config get app.settings\n  \
    deploy config get app.settings log_level")]
pub struct Get {
    /// The config
    name: OsString,
    /// One key of it
    key: Option<OsString>,
}

pub fn get(args: &Get, context: &Context) -> Result<()> {
    let config: ConfigName = name(&args.name)?;
    let key: Option<ConfigKey> = args.key.as_deref().map(name).transpose()?;
    let call = ConfigGet {
        name: config.clone(),
    };
    let data = context.call_about_config(&call, config.as_str())?;
    let Some(key) = key else {
        return context.show(&data, text);
    };
    let Some(value) = data.data.get(&key) else {
        let near = nearest(key.as_str(), data.data.keys().map(ConfigKey::as_str));
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("see all: deploy config get {config}"),
        };
        return Err(Failure::not_found(format!("{config} has no key `{key}`"))
            .hint(hint)
            .into());
    };
    if context.json {
        return context.show(value, |_| String::new());
    }
    print(&value.0)?;
    if io::stdout().is_terminal() && !value.0.ends_with('\n') {
        print("\n")?;
    }
    Ok(())
}

/// Lines that `--from-env` takes back.
fn text(config: &ConfigData) -> String {
    config
        .data
        .iter()
        .map(|(key, value)| format!("{key}={}\n", quoted(&value.0)))
        .collect()
}

fn quoted(value: &str) -> String {
    let plain = |c: char| !c.is_control() && c != '\'' && c != '"';
    if value.chars().all(plain) && value.trim() == value {
        return value.to_owned();
    }
    let escape = |c: char| match c {
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        '"' | '\\' | '$' => format!("\\{c}"),
        c => c.to_string(),
    };
    format!("\"{}\"", value.chars().map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pairs::fields;

    #[test]
    fn what_get_prints_is_what_from_env_takes_back() {
        for value in [
            "", "plain", " blank ", "a\nb", "it's", "\"\\$x", "a=b#c", "\\n", "tab\t",
        ] {
            let line = format!("key={}\n", quoted(value));
            let back = fields(line.as_bytes()).unwrap();
            assert_eq!(&back["key"][..], value.as_bytes(), "{line}");
        }
    }
}
