//! What may happen, and what is known of it.

use tests::soak::Random;

/// The secrets that the service asks for.
pub const NAMES: [&str; 3] = ["first", "second", "third"];
/// Its instances.
pub const INSTANCES: usize = 2;

/// One step. Numbers are taken modulo what there is, so that any part of a sequence is one.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// A new version, of so many lines.
    Set(usize, u64),
    /// Granted to the service.
    Grant(usize),
    /// Taken back.
    Revoke(usize),
    /// An instance opens and reads a name.
    Read(usize, usize),
    /// An instance opens a name and keeps it.
    Open(usize, usize),
    /// An instance maps a name and keeps it.
    Map(usize, usize),
    /// Reads something that is kept.
    Look(usize),
    /// The same by a forked child.
    Fork(usize),
    /// Closes it.
    Close(usize),
    /// An instance lists its folder.
    List(usize),
    /// secretsd dies.
    KillSecretsd,
    /// The injector dies.
    KillInjector,
    /// Both die.
    KillBoth,
    /// The connection of the secrets is lost.
    Lose,
}

impl Act {
    /// One that nobody chose.
    pub fn random(random: &mut Random) -> Act {
        let mut below = |end| usize::try_from(random.below(end)).unwrap();
        let (kind, name, who) = (below(100), below(3), below(2));
        let (thing, lines) = (below(1000), below(400) as u64);
        match kind {
            0..18 => Act::Set(name, lines),
            18..28 => Act::Grant(name),
            28..36 => Act::Revoke(name),
            36..46 => Act::Read(who, name),
            46..58 => Act::Open(who, name),
            58..66 => Act::Map(who, name),
            66..80 => Act::Look(thing),
            80..85 => Act::Fork(thing),
            85..89 => Act::Close(thing),
            89..93 => Act::List(who),
            93..95 => Act::KillSecretsd,
            95..97 => Act::KillInjector,
            97..98 => Act::KillBoth,
            _ => Act::Lose,
        }
    }
}

/// Something that an instance keeps.
#[derive(Debug, Clone)]
pub struct Kept {
    pub instance: usize,
    pub number: u64,
    pub name: usize,
    pub value: String,
    pub is_map: bool,
    /// It was revoked, or its connection lost, since it was opened.
    pub was_taken: bool,
    /// Its connection is lost.
    pub is_lost: bool,
}

/// What is known.
#[derive(Debug, Default)]
pub struct Model {
    pub values: [String; 3],
    pub granted: [bool; 3],
    pub kept: Vec<Kept>,
    pub version: u64,
}

impl Model {
    /// Names that show, in order.
    pub fn shown(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = (0..3).filter(|at| self.granted[*at]).collect();
        names.sort_by_key(|at| NAMES[*at]);
        names.into_iter().map(|at| NAMES[at]).collect()
    }

    /// Whether a look at something that is kept may end like this.
    pub fn allows(&self, kept: &Kept, seen: &serde_json::Value) -> bool {
        let whole = seen["bytes"] == kept.value.as_str();
        let refused = if kept.is_map {
            seen["signal"] == "SIGBUS"
        } else {
            let errnos = ["EKEYREVOKED", "EIO", "ENOTCONN", "ECONNABORTED"];
            seen["errno"].as_str().is_some_and(|e| errnos.contains(&e))
        };
        match (self.granted[kept.name], kept.was_taken, kept.is_lost) {
            (_, _, true) | (false, _, false) => refused,
            (true, false, false) => whole,
            // Granted again: its own version, or nothing, as it was out of reach meanwhile.
            (true, true, false) => whole || refused,
        }
    }
}
