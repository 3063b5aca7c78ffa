//! Reading the journal: verified from its first frame to its last, or refused by name.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::frame::{
    BODY, Before, ChangeHeader, HEADER, Header, Kind, Payload, SECTOR, STAMP, payload_of, stamp,
};
use crate::error::RecordsError;
use crate::index::Mark;
use crate::mac::{Chain, Keys, Tag, same};
use crate::name::NameHash;
use crate::table::Place;

/// What a journal goes on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begin {
    /// The journal's number, and that of its snapshot.
    pub(crate) number: u64,
    /// The last transaction in the snapshot.
    pub(crate) seq: u64,
    /// How many records it has.
    pub(crate) count: u64,
    /// Their digest ([`crate::table::Table::digest`]).
    pub(crate) digest: [u8; 32],
}

/// A change that the journal holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) name: NameHash,
    pub(crate) seq: u64,
    pub(crate) before: Before,
    /// Tag and place of the record; `None`: removed.
    pub(crate) put: Option<(Tag, Place)>,
}

/// Where the next frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) sector: u64,
    pub(crate) frame: u32,
    pub(crate) chain: Chain,
    pub(crate) file_len: u64,
}

/// A journal that verified.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) begin: Begin,
    pub(crate) changes: Vec<Found>,
    /// The last transaction of each commit frame, and the frame's MAC.
    pub(crate) commits: Vec<(u64, Chain)>,
    pub(crate) last_seq: u64,
    pub(crate) transactions: u64,
    /// The last frame closes the journal.
    pub(crate) closed: bool,
    /// The bytes of a frame that was cut short: to be zeroed before anything is written.
    pub(crate) torn: Option<u64>,
    pub(crate) end: End,
}

impl Scan {
    /// The last transaction, and the MAC of the frame that ended with it.
    pub(crate) fn mark(&self) -> Mark {
        let (seq, chain) = self
            .commits
            .last()
            .copied()
            .unwrap_or((self.begin.seq, [0; 32]));
        Mark { seq, chain }
    }

    /// Refuses a journal that an index shows to have been cut, or to be of another history.
    pub(crate) fn check(&self, mark: &Mark, path: &Path) -> Result<(), RecordsError> {
        if mark.seq > self.last_seq {
            let what = format!(
                "it ends with transaction {}, and the index has {}: it was cut, or is an older copy",
                self.last_seq, mark.seq
            );
            return Err(RecordsError::damaged(path, what));
        }
        // What the snapshot has folded in left no frame to compare with.
        let known = mark.seq <= self.begin.seq || self.commits.contains(&(mark.seq, mark.chain));
        if !known {
            let what = format!(
                "its transaction {} is not the one that the index has",
                mark.seq
            );
            return Err(RecordsError::damaged(path, what));
        }
        Ok(())
    }
}

pub(crate) fn scan(file: &File, path: &Path, keys: &Keys) -> Result<Scan, RecordsError> {
    let len = file
        .metadata()
        .map_err(RecordsError::at("could not read", path))?
        .len();
    let scanner = Scanner {
        file,
        path,
        keys,
        len,
    };
    let mut end = End {
        sector: 0,
        frame: 1,
        chain: [0; 32],
        file_len: len,
    };
    let Some(first) = scanner.frame(&end)?.whole() else {
        return Err(scanner.damaged(&end, "there is no first frame"));
    };
    let begin = scanner.begin(&end, &first)?;
    let mut found = Scan {
        begin,
        changes: Vec::new(),
        commits: Vec::new(),
        last_seq: begin.seq,
        transactions: 0,
        closed: false,
        torn: None,
        end,
    };
    first.go_beyond(&mut end);
    loop {
        match scanner.frame(&end)? {
            Step::End => break,
            Step::Torn(bytes) => {
                found.torn = Some(bytes);
                break;
            }
            Step::Frame(frame) => {
                scanner.take(&end, &frame, &mut found)?;
                frame.go_beyond(&mut end);
            }
        }
    }
    found.end = end;
    Ok(found)
}

enum Step {
    Frame(Read),
    /// Cut short, and nothing behind it; so many bytes are not zero.
    Torn(u64),
    End,
}

impl Step {
    fn whole(self) -> Option<Read> {
        match self {
            Self::Frame(frame) => Some(frame),
            Self::Torn(_) | Self::End => None,
        }
    }
}

/// A frame whose stamps and header are right; its MAC is yet to be checked.
struct Read {
    header: Header,
    mac: Chain,
    payload: Vec<u8>,
}

impl Read {
    fn go_beyond(&self, end: &mut End) {
        end.sector += u64::from(self.header.sectors);
        end.frame += 1;
        end.chain = self.mac;
    }
}

struct Scanner<'a> {
    file: &'a File,
    path: &'a Path,
    keys: &'a Keys,
    len: u64,
}

impl Scanner<'_> {
    fn damaged(&self, at: &End, what: &str) -> RecordsError {
        let byte = at.sector * SECTOR;
        RecordsError::damaged(
            self.path,
            format!("frame {} at byte {byte}: {what}", at.frame),
        )
    }

    fn read(&self, offset: u64, bytes: usize) -> Result<Vec<u8>, RecordsError> {
        let mut buffer = vec![0; bytes];
        self.file
            .read_exact_at(&mut buffer, offset)
            .map_err(RecordsError::at("could not read", self.path))?;
        Ok(buffer)
    }

    /// The frame that begins where the last one ended.
    fn frame(&self, at: &End) -> Result<Step, RecordsError> {
        let start = at.sector * SECTOR;
        // A writer leaves at least one sector behind each frame.
        if start + SECTOR > self.len {
            return Err(self.damaged(at, "the file was cut here"));
        }
        let first = self.read(start, SECTOR as usize)?;
        if is_zero(&first) {
            // Sectors reach the disk in any order: the first may be the one that did not.
            let reach = self.rest(at, at.sector, true)?;
            return Ok(if reach == 0 {
                Step::End
            } else {
                Step::Torn(reach)
            });
        }
        if first[..STAMP] != stamp(at.frame, 0) {
            return Err(self.damaged(at, "a sector's stamp is wrong"));
        }
        // A sector is written whole: what is not zero is all there.
        let Some((header, mac)) = Header::read(&mut Payload(&first[STAMP..])) else {
            return Err(self.damaged(at, "its header is not one of this version"));
        };
        let bytes = u64::from(header.sectors) * SECTOR;
        if header.file_len > self.len || start + bytes + SECTOR > self.len {
            return Err(self.damaged(at, "the file is shorter than it was"));
        }
        let sectors = self.read(start, bytes as usize)?;
        if sectors.chunks_exact(SECTOR as usize).any(is_zero) {
            self.torn(at, &sectors)?;
            return Ok(Step::Torn(bytes));
        }
        let mut payload = payload_of(&sectors, at.frame)
            .map_err(|_| self.damaged(at, "a sector's stamp is wrong"))?;
        let padding = payload.split_off(HEADER + header.body as usize);
        if !is_zero(&padding) {
            return Err(self.damaged(at, "it has more bytes than it should"));
        }
        Ok(Step::Frame(Read {
            header,
            mac,
            payload,
        }))
    }

    /// A frame with zero sectors: it was cut short if its other sectors are its own, and if it is the
    /// last. It would not be if it had ever been synced.
    fn torn(&self, at: &End, sectors: &[u8]) -> Result<(), RecordsError> {
        let own = |(sector, number): (&[u8], u32)| {
            is_zero(sector) || sector[..STAMP] == stamp(at.frame, number)
        };
        if !sectors.chunks_exact(SECTOR as usize).zip(0..).all(own) {
            return Err(self.damaged(at, "a sector's stamp is wrong"));
        }
        let behind = at.sector + sectors.len() as u64 / SECTOR;
        self.rest(at, behind, false).map(drop)
    }

    /// Looks at everything from a sector on. All of it must be zero, or, where a frame's first sector
    /// may be missing, stamped as that frame's. Gives how many bytes are not zero.
    fn rest(&self, at: &End, from: u64, stamped: bool) -> Result<u64, RecordsError> {
        const CHUNK: u64 = 128 * SECTOR;
        let (mut offset, mut reach) = (from * SECTOR, 0);
        while offset < self.len {
            let chunk = self.read(offset, CHUNK.min(self.len - offset) as usize)?;
            for (sector, number) in chunk.chunks(SECTOR as usize).zip(offset / SECTOR..) {
                if is_zero(sector) {
                    continue;
                }
                let own = u32::try_from(number - at.sector)
                    .is_ok_and(|own| sector.starts_with(&stamp(at.frame, own)));
                if !stamped || !own {
                    let what = format!("something lies behind it, at byte {}", number * SECTOR);
                    return Err(self.damaged(at, &what));
                }
                reach = (number - at.sector + 1) * SECTOR;
            }
            offset += chunk.len() as u64;
        }
        Ok(reach)
    }

    fn begin(&self, at: &End, first: &Read) -> Result<Begin, RecordsError> {
        let mut body = Payload(&first.payload[HEADER..]);
        let mut read = || {
            let store: [u8; 16] = body.take()?;
            let (number, count) = (body.u64()?, body.u64()?);
            let begin = Begin {
                number,
                seq: first.header.seq,
                count,
                digest: body.take()?,
            };
            body.0.is_empty().then_some((store, begin))
        };
        let (store, begin) = read()
            .filter(|_| first.header.kind == Kind::Begin && first.header.transactions == 0)
            .ok_or_else(|| self.damaged(at, "it does not begin a journal"))?;
        if store != *self.keys.store() {
            return Err(self.damaged(at, "it is the journal of another store"));
        }
        let mut mac = self.keys.frame();
        mac.add(&at.chain);
        mac.add(&first.payload[HEADER..]);
        if !same(&first.header.seal(mac), &first.mac) {
            return Err(self.damaged(at, "its MAC is wrong"));
        }
        Ok(begin)
    }

    /// Takes a frame that is not the first.
    fn take(&self, at: &End, frame: &Read, found: &mut Scan) -> Result<(), RecordsError> {
        let Read {
            header, payload, ..
        } = frame;
        let structure = || self.damaged(at, "its content is not what its kind holds");
        let commit = header.kind == Kind::Commit;
        let follows = header.seq == found.last_seq + u64::from(commit);
        if !follows || header.kind == Kind::Begin || commit == (header.transactions == 0) {
            return Err(structure());
        }
        let mut mac = self.keys.frame();
        mac.add(&at.chain);
        let mut changes = Vec::new();
        let mut body = Payload(&payload[HEADER..]);
        for seq in (header.seq..).take(header.transactions as usize) {
            let count = body.u32().ok_or_else(structure)?;
            mac.add(&count.to_le_bytes());
            for _ in 0..count {
                let bytes = body.0;
                let offset = (payload.len() - bytes.len()) as u64;
                let change = ChangeHeader::read(&mut body).ok_or_else(structure)?;
                mac.add(&bytes[..bytes.len() - body.0.len()]);
                let record = match change.put {
                    Some((len, _)) => body.bytes(len as usize).ok_or_else(structure)?,
                    None => &[],
                };
                let place = Place::journal(found.begin.number, at.sector * BODY as u64 + offset);
                let put = change.put.map(|(_, tag)| (tag, place));
                let whole = change
                    .put
                    .is_none_or(|(_, tag)| same(&self.keys.tag(&change.name, seq, record), &tag));
                if !whole {
                    return Err(self.damaged(at, "a record's tag is wrong"));
                }
                changes.push(Found {
                    name: change.name,
                    seq,
                    before: change.before,
                    put,
                });
            }
        }
        if !same(&header.seal(mac), &frame.mac) {
            return Err(self.damaged(at, "its MAC is wrong"));
        }
        if !body.0.is_empty() {
            return Err(structure());
        }
        if commit {
            found.last_seq += u64::from(header.transactions);
            found.transactions += u64::from(header.transactions);
            found.commits.push((found.last_seq, frame.mac));
        }
        found.changes.append(&mut changes);
        found.closed = header.kind == Kind::Close;
        Ok(())
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
