//! `secretsd audit-verify`: checks an audit log without a store and without a running secretsd.

use anyhow::Context;
use audit::{Anchor, AnchorError};

use crate::args::AuditVerify;
use crate::serve::refuse_privileges;
use crate::server::verified_info;

/// Says what was found; false: something is wrong.
pub(crate) fn verify(options: &AuditVerify) -> anyhow::Result<bool> {
    sys::sandbox::harden().context("cannot give up core dumps and new privileges")?;
    refuse_privileges()?;
    let anchor = options.anchor.as_deref().map(str::parse::<Anchor>);
    let anchor = anchor.transpose().map_err(|error: AnchorError| error)?;
    let folder = options.state_dir.join("audit");
    let verified = audit::verify(&folder, anchor)
        .with_context(|| format!("cannot read {}", folder.display()))?;
    let info = verified_info(&verified);
    if options.json {
        println!("{}", serde_json::to_string(&info)?);
        return Ok(info.whole);
    }
    println!("entries   {}", info.entries);
    println!("first     {}", info.first);
    println!("segments  {}", info.segments);
    println!("anchor    {}", info.anchor);
    if let Some(how) = &info.anchored {
        println!("given anchor  {how}");
    }
    for what in &info.damage {
        println!("damage    {what}");
    }
    Ok(info.whole)
}
