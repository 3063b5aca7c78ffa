//! What a start would find on this host, without starting anything: for `deploy plan`.

use std::io;

use model::Manifest;

use super::environment;
use super::instance::account;
use crate::apply::Namespace;
use crate::plan::Found;

/// What of a manifest depends on the host.
#[derive(Debug, Default)]
pub struct Preview {
    /// User and group of the service; `None`: there is no such user.
    pub user: Option<(u32, u32)>,
    /// What would keep the service from starting, each with what mends it.
    pub problems: Vec<String>,
}

/// Looks, and changes nothing.
pub fn preview(manifest: &Manifest) -> Preview {
    let mut preview = Preview::default();
    match account(manifest.user.as_deref().unwrap_or("0")) {
        Ok(account) => preview.user = Some((account.uid, account.gid)),
        Err(error) => preview.problems.push(error.to_string()),
    }
    let owners = manifest
        .secrets
        .iter()
        .filter_map(|one| one.owner.as_deref());
    let unknown = owners.filter_map(|owner| account(owner).err());
    preview
        .problems
        .extend(unknown.map(|error| error.to_string()));
    if let Some(program) = manifest.command.first()
        && let Err(error) = environment::find_program(program.as_ref())
    {
        let error = super::command::exec_error(program, error);
        preview.problems.push(error.to_string());
    }
    match targets(manifest) {
        Ok(blocked) => preview.problems.extend(blocked),
        Err(error) => preview
            .problems
            .push(format!("the targets cannot be looked at: {error}")),
    }
    preview
}

/// The number of a user; `None`: there is none of that name.
///
/// # Errors
/// The name service does not answer.
pub fn uid_of(user: &str) -> io::Result<Option<u32>> {
    Ok(sys::users::account(user)?.map(|account| account.uid))
}

/// The service's mount namespace begins as a copy of this one.
fn targets(manifest: &Manifest) -> io::Result<Vec<String>> {
    let namespace = Namespace::enter(&[])?;
    let mut blocked = Vec::new();
    let both = [&manifest.targets.secret, &manifest.targets.config];
    let placed = manifest
        .secrets
        .iter()
        .filter_map(|one| one.target.as_ref());
    for target in both.into_iter().chain(placed) {
        if let Found::Blocked { at, what } = namespace.find(target)? {
            blocked.push(format!(
                "{}: {} is {what}; name a target without it in `targets`",
                target.display(),
                at.display()
            ));
        }
    }
    Ok(blocked)
}
