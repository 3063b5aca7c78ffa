//! What each reader may see, as docs/semantics.md has it: no kernel, no daemon, a few maps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a process that has opened one field is kept to its version.
const PIN: Duration = Duration::from_secs(2);

pub const SERVICES: [&str; 2] = ["web", "api"];
pub const SECRETS: [&str; 3] = ["key", "large", "tls"];
/// Of which service each reader is.
pub const READERS: [usize; 3] = [0, 0, 1];

/// A file of a view: a secret by its place in [`SECRETS`], and its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    pub secret: usize,
    pub field: Option<&'static str>,
}

pub const FILES: [File; 4] = [
    File {
        secret: 0,
        field: None,
    },
    File {
        secret: 1,
        field: None,
    },
    File {
        secret: 2,
        field: Some("cert"),
    },
    File {
        secret: 2,
        field: Some("key"),
    },
];

impl File {
    pub fn path(self) -> String {
        let secret = SECRETS[self.secret];
        match self.field {
            Some(field) => format!("/secret/{secret}/{field}"),
            None => format!("/secret/{secret}"),
        }
    }

    /// What a version of it says: of which file and version each line is.
    pub fn content(self, version: u64) -> String {
        let line = format!("{}:{version};", self.path());
        let most = [40, 200_000, 3000][self.secret];
        let size = usize::try_from(version).unwrap() * 7919 % most + 20;
        let mut all = line.repeat(size / line.len() + 1);
        all.truncate(size);
        all
    }
}

/// What a look may give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum May {
    /// A version, of these.
    Give(Vec<u64>),
    /// Nothing, for one of these reasons.
    Refuse(&'static [&'static str]),
}

/// How something is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By a descriptor.
    Open,
    /// By the descriptor of a forked child.
    Inherited,
    /// By a forked child's mapping.
    Mapped,
}

#[derive(Debug, Clone, Copy)]
pub struct Held {
    pub file: File,
    pub version: u64,
    pub how: How,
    /// Of a connection that was lost.
    pub lost: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Watched {
    pub file: File,
    /// The file's own watch goes when its name is unlinked.
    pub has_file: bool,
    /// The kernel has the name, and so tells when it goes.
    pub has_name: bool,
}

/// The version that a reader is kept to, and which fields it has opened of it.
#[derive(Debug, Clone)]
struct Pin {
    version: u64,
    opened: Vec<Option<&'static str>>,
    /// Just before and just after it began.
    since: (Instant, Instant),
}

#[derive(Debug, Default)]
pub struct Sight {
    pub held: BTreeMap<u32, Held>,
    pub watched: BTreeMap<u32, Watched>,
    pin: Option<Pin>,
}

#[derive(Debug, Default)]
pub struct Model {
    /// The newest version of each secret.
    pub newest: [u64; SECRETS.len()],
    /// Services and secrets.
    pub granted: BTreeSet<(usize, usize)>,
    /// Where the kernel may have names that lead elsewhere by now: secretsd died before it said so.
    pub torn: BTreeSet<(usize, usize)>,
    pub sights: [Sight; READERS.len()],
}

impl Model {
    pub fn may_read(&self, reader: usize, secret: usize) -> bool {
        self.granted.contains(&(READERS[reader], secret))
    }

    /// What an open of a name may give, that was asked for at `start` and is answered now.
    pub fn open(&self, reader: usize, file: File, start: Instant) -> May {
        if !self.may_read(reader, file.secret) {
            let torn = self.is_torn(reader, file.secret);
            return May::Refuse(if torn {
                &["ENOENT", "EKEYREVOKED"]
            } else {
                &["ENOENT"]
            });
        }
        let newest = self.newest[file.secret];
        let pin = self.sights[reader].pin.as_ref();
        let pin = pin.filter(|pin| file.field.is_some() && !pin.opened.contains(&file.field));
        May::Give(match pin {
            Some(pin) if pin.since.0.elapsed() < PIN => vec![pin.version],
            // It ended before, or after, or in between.
            Some(pin) if start.duration_since(pin.since.1) < PIN => vec![pin.version, newest],
            _ => vec![newest],
        })
    }

    /// A version of a file was opened.
    pub fn opened(&mut self, reader: usize, file: File, version: u64, start: Instant) {
        if file.field.is_none() {
            return;
        }
        let begun = Pin {
            version,
            opened: vec![file.field],
            since: (start, Instant::now()),
        };
        let pin = &mut self.sights[reader].pin;
        match pin {
            Some(pin) if pin.version == version && !pin.opened.contains(&file.field) => {
                if pin.since.0.elapsed() < PIN {
                    pin.opened.push(file.field);
                } else if start.duration_since(pin.since.1) < PIN {
                    // It goes on, or is a new one.
                    pin.opened.clear();
                    pin.since.1 = Instant::now();
                } else {
                    *pin = begun;
                }
            }
            _ => *pin = Some(begun),
        }
    }

    /// Whether a change of this was torn for a reader, which then may see the name as it was, until
    /// what torn.rs shows holds. An open gives no older value all the same.
    pub fn is_torn(&self, reader: usize, secret: usize) -> bool {
        self.torn.contains(&(READERS[reader], secret))
    }

    /// What stat(2) may say of a name: the size of one of these versions.
    pub fn size(&self, reader: usize, file: File) -> May {
        if !self.may_read(reader, file.secret) {
            return May::Refuse(&["ENOENT"]);
        }
        let pinned = self.sights[reader].pin.iter().map(|pin| pin.version);
        let pinned = pinned.filter(|_| file.field.is_some());
        May::Give(pinned.chain([self.newest[file.secret]]).collect())
    }

    /// What is held may give.
    pub fn look(&self, reader: usize, held: &Held) -> May {
        let stands = self.may_read(reader, held.file.secret);
        match held.how {
            How::Mapped if held.lost || !stands => May::Refuse(&["SIGBUS"]),
            _ if held.lost => May::Refuse(&["ENOTCONN", "EIO", "ECONNABORTED"]),
            _ if !stands => May::Refuse(&["EKEYREVOKED", "EIO"]),
            _ => May::Give(vec![held.version]),
        }
    }

    /// Names of /secret.
    pub fn names(&self, reader: usize) -> Vec<&'static str> {
        let all = SECRETS.iter().enumerate();
        all.filter(|(secret, _)| self.may_read(reader, *secret))
            .map(|(_, name)| *name)
            .collect()
    }

    /// Watches of a secret by readers that may read it.
    pub fn watches(&self, secret: usize) -> Vec<(usize, u32, Watched)> {
        let mut found = Vec::new();
        for (reader, sight) in self.sights.iter().enumerate() {
            if self.may_read(reader, secret) {
                let watched = sight.watched.iter();
                let of_it = watched.filter(|(_, watched)| watched.file.secret == secret);
                found.extend(of_it.map(|(number, watched)| (reader, *number, *watched)));
            }
        }
        found
    }

    /// Changes what is known of the watches of a secret in a service.
    pub fn watched(&mut self, service: usize, secret: usize, change: impl Fn(&mut Watched)) {
        for (reader, sight) in self.sights.iter_mut().enumerate() {
            if READERS[reader] == service {
                let watched = sight.watched.values_mut();
                watched
                    .filter(|watched| watched.file.secret == secret)
                    .for_each(&change);
            }
        }
    }

    /// Secretsd keeps nobody to a version any more.
    pub fn no_pins(&mut self) {
        self.sights.iter_mut().for_each(|sight| sight.pin = None);
    }

    /// A revoke ends the pins of its secret, and only one secret has fields. What was revoked already
    /// is not told of again.
    pub fn revoked(&mut self, service: usize, secret: usize) {
        if !self.granted.remove(&(service, secret)) {
            return;
        }
        self.torn.remove(&(service, secret));
        let mut fields = FILES.iter().filter(|file| file.field.is_some());
        if fields.any(|file| file.secret == secret) {
            self.no_pins();
        }
    }

    /// The connection of all views is another one.
    pub fn lost(&mut self) {
        self.torn.clear();
        for sight in &mut self.sights {
            sight.watched.clear();
            sight.held.values_mut().for_each(|held| held.lost = true);
        }
    }
}
