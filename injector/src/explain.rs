//! Why a service does not start, in words.

use control::inner::MissingGrant;

/// Every missing grant, each with the command that gives it.
pub(crate) fn explain(
    service: &str,
    message: &str,
    hint: Option<&str>,
    missing: &[MissingGrant],
) -> String {
    let mut text = message.to_owned();
    for grant in missing {
        let (secret, reason) = (&grant.secret, &grant.reason);
        let mend = match &grant.mend {
            Some(mend) => mend.clone(),
            None => format!("deploy secret grant {service} {secret}"),
        };
        text.push_str(&format!("\n  {secret}: {reason}; {mend}"));
    }
    if let Some(hint) = hint {
        text.push_str("\n  ");
        text.push_str(hint);
    }
    text
}
