//! Pins of a grant against what a reader is: so that naming oneself `web` is not being `web`.

use model::{Identity, Pins};

use crate::error::Denied;

/// Whether the reader is all that the grant is pinned to.
pub(crate) fn check(pins: &Pins, identity: &Identity) -> Result<(), Denied> {
    if let Some(user) = &pins.user {
        let uid = identity.uid;
        let shown = match uid_of(user) {
            Ok(Some(pinned)) if pinned == uid => None,
            Ok(Some(_)) => Some(format!("this one runs as uid {uid}")),
            Ok(None) => Some("there is no such user here".to_owned()),
            Err(error) => Some(format!("who that is cannot be looked up: {error}")),
        };
        refuse("user", user, shown)?;
    }
    let what = [
        ("unit", &pins.unit, &identity.unit),
        ("image", &pins.image, &identity.image),
    ];
    for (kind, pin, is) in what {
        let Some(pin) = pin else { continue };
        let shown = match is {
            Some(is) if is == pin => None,
            Some(is) => Some(format!("this one runs in {kind} {is}")),
            None => Some(format!("this one runs in no {kind} that is known")),
        };
        refuse(kind, pin, shown)?;
    }
    Ok(())
}

fn refuse(kind: &str, pin: &str, shown: Option<String>) -> Result<(), Denied> {
    match shown {
        None => Ok(()),
        Some(shown) => Err(Denied::Pinned {
            pin: format!("{kind} {pin}"),
            shown,
        }),
    }
}

/// The name is looked up each time: a grant is to a user, whatever number it has on this host.
fn uid_of(user: &str) -> std::io::Result<Option<u32>> {
    match user.parse() {
        Ok(uid) => Ok(Some(uid)),
        Err(_) => Ok(sys::users::account(user)?.map(|account| account.uid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(pins: &Pins, identity: &Identity) -> String {
        match check(pins, identity) {
            Ok(()) => "granted".to_owned(),
            Err(denied) => denied.to_string(),
        }
    }

    #[test]
    fn each_pin_is_asked_and_each_refusal_names_it() {
        let web = Identity {
            uid: 4_000_000,
            unit: Some("nginx.service".into()),
            image: None,
        };
        let user = |user: &str| Pins {
            user: Some(user.into()),
            ..Pins::default()
        };
        assert_eq!(pinned(&user("4000000"), &web), "granted");
        assert_eq!(
            pinned(&user("root"), &web),
            "the grant is pinned to user root, and this one runs as uid 4000000"
        );
        let root = Identity::default();
        assert_eq!(pinned(&user("root"), &root), "granted");
        assert_eq!(
            pinned(&user("no-such-user"), &root),
            "the grant is pinned to user no-such-user, and there is no such user here"
        );
        let unit = |unit: &str| Pins {
            unit: Some(unit.into()),
            ..Pins::default()
        };
        assert_eq!(pinned(&unit("nginx.service"), &web), "granted");
        assert_eq!(
            pinned(&unit("redis.service"), &web),
            "the grant is pinned to unit redis.service, and this one runs in unit nginx.service"
        );
        assert_eq!(
            pinned(&unit("redis.service"), &root),
            "the grant is pinned to unit redis.service, and this one runs in no unit that is known"
        );
        let image = Pins {
            image: Some("sha256:0a".into()),
            ..Pins::default()
        };
        assert!(pinned(&image, &web).contains("image sha256:0a"));
        let both = Pins {
            user: Some("0".into()),
            ..unit("nginx.service")
        };
        assert!(pinned(&both, &web).contains("user 0"), "all of them hold");
    }
}
