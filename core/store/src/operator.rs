//! The proof that somebody may change secrets and grants.

use sys::peer::PeerCredentials;

/// An authenticated operator: root, or a member of the group `deploy`. Every act that changes the
/// store takes one; only [`Operator::authenticate`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    uid: u32,
    pid: u32,
    name: String,
}

impl Operator {
    /// Decides by what the kernel says of the other end of a socket (or of a FUSE request).
    ///
    /// `groups` are its supplementary groups, `deploy_gid` is the group `deploy` if there is one.
    /// The pid says nothing here.
    #[must_use]
    pub fn authenticate(
        peer: &PeerCredentials,
        groups: &[u32],
        deploy_gid: Option<u32>,
    ) -> Option<Self> {
        let member = deploy_gid.is_some_and(|gid| peer.gid == gid || groups.contains(&gid));
        if peer.uid != 0 && !member {
            return None;
        }
        Some(Self {
            uid: peer.uid,
            pid: u32::try_from(peer.pid).unwrap_or(0),
            name: format!("uid {}", peer.uid),
        })
    }

    /// Puts the account's name in the place of its number, for audit and messages.
    #[must_use]
    pub fn named(self, name: Option<String>) -> Self {
        match name {
            Some(name) => Self { name, ..self },
            None => self,
        }
    }

    /// Whom to name in the audit: the account's name, or `uid N`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process, as the kernel said it when it connected; it says nothing of who that is.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The user id.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, gid: u32) -> PeerCredentials {
        PeerCredentials { pid: 1, uid, gid }
    }

    #[test]
    fn root_and_members_of_deploy_are_operators_and_nobody_else() {
        assert!(Operator::authenticate(&peer(0, 0), &[], None).is_some());
        assert!(Operator::authenticate(&peer(1000, 70), &[], Some(70)).is_some());
        assert!(Operator::authenticate(&peer(1000, 1000), &[4, 70], Some(70)).is_some());
        assert!(Operator::authenticate(&peer(1000, 1000), &[4, 70], None).is_none());
        assert!(Operator::authenticate(&peer(1000, 1000), &[0, 4], Some(70)).is_none());
    }
}
