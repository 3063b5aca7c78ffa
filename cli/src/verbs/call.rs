//! deploy call

use anyhow::Result;
use clap::Args;
use control::calls::{METHODS, long_name};
use model::nearest;
use zeroize::Zeroizing;

use crate::context::{Context, print_bytes};
use crate::failure::Failure;
use crate::value::read_file;

/// Call a method of the control socket
///
/// Methods have a short name (`secret.get`) and one of varlink (`io.deploy.Secrets.Get`). A value in
/// the parameters would stand in the shell's history: give `-` and write them to standard input.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    deploy call secret.list '{\"prefix\":\"db.\"}'\n  \
    deploy call secret.create - < new-secret.json\n  \
    deploy call org.varlink.service.GetInterfaceDescription '{\"interface\":\"io.deploy.Secrets\"}'")]
pub struct Call {
    /// The method
    method: String,
    /// Its parameters, a JSON object; `-` reads them from standard input
    #[arg(value_name = "JSON", default_value = "{}")]
    parameters: String,
}

pub fn call(args: &Call, context: &Context) -> Result<()> {
    let method = match long_name(&args.method) {
        Some(method) => method,
        None if args.method.starts_with("org.varlink.service.") => &args.method,
        None => return Err(unknown(&args.method).into()),
    };
    let parameters = match args.parameters.as_str() {
        "-" => {
            let mut bytes = read_file("-".as_ref())?;
            String::from_utf8(std::mem::take(&mut *bytes))
                .map_err(|_| Failure::usage("standard input is not UTF-8 text"))?
        }
        text => text.to_owned(),
    };
    let parameters = Zeroizing::new(parameters);
    let reply = context.client()?.call_raw(method, &parameters)?;
    print_bytes(reply.as_bytes())?;
    print_bytes(b"\n")
}

fn unknown(method: &str) -> Failure {
    let names = METHODS.iter().flat_map(|(long, short)| [*short, *long]);
    let hint = match nearest(method, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let short: Vec<&str> = METHODS.iter().map(|(_, short)| *short).collect();
            format!("methods are {}", short.join(", "))
        }
    };
    Failure::usage("there is no such method").hint(hint)
}
