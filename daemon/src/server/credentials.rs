//! The credentials socket: what systemd reads for `LoadCredential=NAME:/run/deploy/credentials.sock`.
//!
//! systemd connects from an abstract name that says for which unit, and which credential, it asks
//! (systemd.exec(5)); anybody could bind such a name, so it is believed of uid 0 alone. Whoever
//! connects sends nothing, and reads to the end: the value is all that there is to say. So there is no
//! way to say "refused", and one who reads nothing takes that for an empty credential: systemd (tried
//! with 252) starts the unit with an empty file. What it does refuse is more than a credential may
//! have, and that is what it gets then: see [`refuse`].

use std::fmt;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use audit::{Access, Event, Verdict};
use model::FieldName;
use store::{Credential, Denied, NoCredential, Opened, ReadError};
use sys::peer::PeerCredentials;

use super::calls::Timed;
use super::{TRIES, WRITE_LIMIT};
use crate::audit::Unaudited;
use crate::host::Host;

/// As the audit log calls it.
const SOCKET: &str = "credentials socket";
/// Units that are answered at once; others wait in the socket's queue. A reader that takes nothing
/// keeps one of these for [`WRITE_LIMIT`] at most.
const THREADS: usize = 8;
/// systemd takes no more for all credentials of a unit.
const TOO_MUCH: usize = 1024 * 1024;

/// Serves `listener` from threads of its own until the process ends.
///
/// # Errors
/// A thread cannot be started.
pub(crate) fn start(listener: UnixListener, host: &Arc<Host>) -> io::Result<()> {
    let listener = Arc::new(listener);
    for _ in 0..THREADS {
        let (listener, host) = (Arc::clone(&listener), Arc::clone(host));
        let serve = move || {
            for stream in listener.incoming() {
                match stream {
                    Ok(stream) => answer(&stream, &host),
                    Err(error) => {
                        // EMFILE and the like pass.
                        log::warn!("credentials socket: {error}");
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("credentials".into());
        thread.spawn(serve)?;
    }
    Ok(())
}

fn answer(stream: &UnixStream, host: &Host) {
    let Ok(peer) = sys::peer::credentials(stream) else {
        return;
    };
    if peer.uid != 0 {
        log::warn!(
            "credentials socket: uid {} is not believed; systemd asks as root",
            peer.uid
        );
        return host.audit.stranger(&peer, SOCKET, "not root");
    }
    let address = stream.peer_addr();
    let name = address.as_ref().ok().and_then(|it| it.as_abstract_name());
    let Some(asked) = name.and_then(Asked::parse) else {
        log::warn!(
            "credentials socket: process {} has no name such as systemd has that asks for a unit; \
             write LoadCredential=SECRET:/run/deploy/credentials.sock into the unit",
            peer.pid
        );
        host.audit
            .stranger(&peer, SOCKET, "no name such as systemd's");
        return refuse(stream, Some(WRITE_LIMIT));
    };
    // Who is not given a value is refused by it, also if we are killed on the way.
    let guard = match host.guard(stream) {
        Ok(guard) => guard,
        Err(error) => {
            log::error!("{asked}: refused: its connection cannot be kept: {error}");
            return refuse(stream, Some(WRITE_LIMIT));
        }
    };
    let mut answer = Answer::find(host, &asked);
    if let Err(error) = answer.witness(host, &peer, &asked) {
        answer.value = Err(Refused::Unaudited(error));
    }
    match answer.value {
        Ok(value) => {
            let (service, version) = (&answer.service, answer.version);
            log::info!("{asked}: service {service} gets version {version}");
            if let Err(error) = give(stream, &value) {
                log::warn!("{asked}: not taken whole: {error}");
                return;
            }
        }
        Err(why) => {
            log::warn!("{asked}: refused: {}", why.with_mend(&asked));
            return;
        }
    }
    guard.release();
}

/// The value, straight from locked memory, and the end.
fn give(stream: &UnixStream, value: &Opened) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_LIMIT))?;
    Timed::new(stream).write_all(value)?;
    stream.shutdown(Shutdown::Both)
}

/// More than a credential may have, so that the unit fails instead of getting an empty one, or what it
/// has got of one so far. A value is nowhere in it. Takes as long as `limit` between two reads.
pub(crate) fn refuse(stream: &UnixStream, limit: Option<Duration>) {
    static NOTHING: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut stream = stream;
    let mut refuse = || -> io::Result<()> {
        stream.set_write_timeout(limit)?;
        for _ in 0..=TOO_MUCH / NOTHING.len() {
            stream.write_all(&NOTHING)?;
        }
        stream.shutdown(Shutdown::Both)
    };
    // systemd hangs up as soon as it has had enough.
    if let Err(error) = refuse() {
        log::debug!("a refused credential was not read to its end: {error}");
    }
}

/// Who asks for what.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    unit: &'a str,
    credential: &'a str,
}

impl<'a> Asked<'a> {
    /// `RANDOM/unit/UNIT/CREDENTIAL`, without the NUL before it.
    fn parse(name: &'a [u8]) -> Option<Asked<'a>> {
        let mut parts = std::str::from_utf8(name).ok()?.split('/');
        let (random, kind) = (parts.next()?, parts.next()?);
        let (unit, credential) = (parts.next()?, parts.next()?);
        let is_random = !random.is_empty() && random.bytes().all(|one| one.is_ascii_hexdigit());
        // What systemd takes for the name of a credential, and can be shown.
        let is_name =
            credential.bytes().all(|one| one.is_ascii_graphic()) && !credential.is_empty();
        let all = is_random && kind == "unit" && model::is_unit(unit) && is_name;
        (all && parts.next().is_none()).then_some(Asked { unit, credential })
    }
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "credential {} of {}", self.credential, self.unit)
    }
}

/// Why a value is not given.
#[derive(Debug)]
enum Refused {
    Denied(NoCredential),
    Read(ReadError),
    Unaudited(Unaudited),
}

impl Refused {
    /// Why, with the command that mends it.
    fn with_mend(&self, asked: &Asked<'_>) -> String {
        let unit = asked.unit;
        match self {
            Refused::Denied(NoCredential { grant, why }) => match (grant, why) {
                (Some((service, secret)), Denied::Expired | Denied::NotGranted) => {
                    let words = format!("{service} {secret} --unit {unit}");
                    format!("{why}; give it anew: deploy secret grant {words}")
                }
                (None, Denied::NotGranted) => {
                    let field = match asked.credential.contains('.') {
                        true => "; if that is SECRET.FIELD, of SECRET",
                        false => "",
                    };
                    let words = format!("SERVICE {} --unit {unit}{field}", asked.credential);
                    format!(
                        "no grant is pinned to this unit and nothing else; give one: deploy secret \
                         grant {words}"
                    )
                }
                // The rest says itself what is to be done.
                (_, why) => why.to_string(),
            },
            Refused::Read(error @ ReadError::NoField(secret, _)) => format!(
                "{error}; ask for {secret} if it has a single value, else for {secret}.FIELD; see \
                 deploy secret list {secret}"
            ),
            Refused::Read(error) => error.to_string(),
            Refused::Unaudited(error) => error.to_string(),
        }
    }

    /// For the audit log.
    fn in_short(&self) -> (Verdict, &'static str) {
        match self {
            Refused::Denied(refused) => match refused.why {
                Denied::Sealed => (Verdict::Failed, "sealed"),
                Denied::Expired => (Verdict::Denied, "the grant has expired"),
                _ => (Verdict::Denied, "not granted"),
            },
            Refused::Read(ReadError::Sealed) => (Verdict::Failed, "sealed"),
            Refused::Read(ReadError::NoField(..)) => (Verdict::Denied, "no such field"),
            Refused::Read(ReadError::Revoked) => (Verdict::Denied, "revoked"),
            Refused::Read(ReadError::Expired) => (Verdict::Denied, "the grant has expired"),
            Refused::Read(_) | Refused::Unaudited(_) => (Verdict::Failed, "failed"),
        }
    }
}

/// What a unit gets, and what is written down of it.
#[derive(Debug)]
struct Answer {
    /// Empty: nobody's grant.
    service: String,
    /// As the credential is called, if it is nobody's.
    secret: String,
    field: Option<FieldName>,
    /// 0: none.
    version: u32,
    value: Result<Opened, Refused>,
}

impl Answer {
    fn find(host: &Host, asked: &Asked<'_>) -> Answer {
        match host.store.credential(asked.unit, asked.credential) {
            Ok(found) => {
                let mut version = 0;
                let value = newest(host, &found, &mut version).map_err(Refused::Read);
                Answer {
                    service: found.service.to_string(),
                    secret: found.permit.secret().to_string(),
                    field: found.field,
                    version,
                    value,
                }
            }
            Err(refused) => {
                let (service, secret) = match &refused.grant {
                    Some((service, secret)) => (service.to_string(), secret.to_string()),
                    None => (String::new(), asked.credential.to_owned()),
                };
                Answer {
                    service,
                    secret,
                    field: None,
                    version: 0,
                    value: Err(Refused::Denied(refused)),
                }
            }
        }
    }

    /// Writes it down: what cannot be is not given.
    fn witness(
        &self,
        host: &Host,
        peer: &PeerCredentials,
        asked: &Asked<'_>,
    ) -> Result<(), Unaudited> {
        let (verdict, why) = match &self.value {
            Ok(_) => (Verdict::Allowed, "a copy"),
            Err(refused) => refused.in_short(),
        };
        let pid = u32::try_from(peer.pid).unwrap_or(0);
        // It waits for us, but nobody is refused because /proc is not.
        let identity = host.identity_of(pid).ok();
        let access = Access {
            pid,
            tid: pid,
            uid: peer.uid,
            comm: identity.as_ref().map_or(&[], |one| one.comm()),
            cgroup: identity.as_ref().map_or(&[], |one| one.cgroup.as_bytes()),
            service: &self.service,
            // Of none: what it gets is no view.
            instance: 0,
            secret: &self.secret,
            field: self.field.as_ref().map(FieldName::as_str),
            version: if verdict == Verdict::Allowed {
                self.version
            } else {
                0
            },
            verdict,
            why: &format!("{why}, LoadCredential= of {}", asked.unit),
            connection: 0,
            unique: 0,
        };
        match host.audit.append(&Event::Open(access), false) {
            Err(error) if !host.audit.fails_open => Err(error),
            _ => Ok(()),
        }
    }
}

/// A version that is chosen can go before it is read, under `keep` 0.
fn newest(host: &Host, found: &Credential, version: &mut u32) -> Result<Opened, ReadError> {
    let mut tries = 0;
    loop {
        tries += 1;
        *version = host.store.secret(&found.permit)?.newest().number;
        match host
            .store
            .open_value(&found.permit, *version, found.field.as_ref())
        {
            Err(ReadError::NoVersion(..)) if tries < TRIES => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_systemd_s_or_none() {
        let asked = |unit, credential| Some(Asked { unit, credential });
        let good: [(&[u8], _); 3] = [
            (
                b"3d6270fb42f44d1d/unit/web.service/db",
                asked("web.service", "db"),
            ),
            (
                b"0/unit/web@1.service/tls.key",
                asked("web@1.service", "tls.key"),
            ),
            (b"ab/unit/a\\x2db.service/D", asked("a\\x2db.service", "D")),
        ];
        for (name, expected) in good {
            assert_eq!(Asked::parse(name), expected);
        }
        for bad in [
            &b""[..],
            b"/unit/web.service/db",
            b"xyz/unit/web.service/db",
            b"3d/unit/web.service",
            b"3d/unit/web.service/",
            b"3d/unit/web.service/db/more",
            b"3d/user/web.service/db",
            b"3d/unit/web@.service/db",
            b"3d/unit/web/db",
            b"3d/unit/web.service/d\nb",
            b"3d/unit/web.service/d b",
            b"3d/unit/web.service/d\xff",
            b"3d/unit/../db",
        ] {
            let shown = String::from_utf8_lossy(bad);
            assert_eq!(Asked::parse(bad), None, "{shown}");
        }
    }
}
