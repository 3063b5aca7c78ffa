//! One frame of the journal, as bytes: `docs/format.md`, Journal.

use crate::mac::{Chain, Mac, Tag};
use crate::name::NameHash;

/// The unit in which a disk writes whole or not at all.
pub(crate) const SECTOR: u64 = 512;
/// What each sector of a frame begins with: the frame's number and the sector's place in it.
pub(crate) const STAMP: usize = 8;
/// What is left of a sector.
pub(crate) const BODY: usize = SECTOR as usize - STAMP;
/// Payload bytes before a frame's body.
pub(crate) const HEADER: usize = 72;
const MAC_AT: usize = 40;
const FORMAT: u8 = 1;

/// What a frame is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first: which snapshot all others go on from.
    Begin,
    /// Transactions.
    Commit,
    /// The records were opened, and the disk takes writes.
    Open,
    /// The records were closed: nothing comes after it until the next `Open`.
    Close,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Self::Begin, Self::Commit, Self::Open, Self::Close]
            .into_iter()
            .find(|kind| kind.byte() == byte)
    }

    fn byte(self) -> u8 {
        match self {
            Self::Begin => 1,
            Self::Commit => 2,
            Self::Open => 3,
            Self::Close => 4,
        }
    }
}

/// A frame's header, without its MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) sectors: u32,
    /// Bytes of the file when the frame was written; it never has fewer again.
    pub(crate) file_len: u64,
    /// A commit: its first transaction; else the last one there is.
    pub(crate) seq: u64,
    pub(crate) transactions: u32,
    pub(crate) body: u64,
}

impl Header {
    fn bytes(&self) -> [u8; MAC_AT] {
        let mut bytes = [0; MAC_AT];
        bytes[0] = FORMAT;
        bytes[1] = self.kind.byte();
        bytes[4..8].copy_from_slice(&self.sectors.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.file_len.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.seq.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.transactions.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.body.to_le_bytes());
        bytes
    }

    /// Reads a header, and the MAC beside it.
    pub(crate) fn read(payload: &mut Payload<'_>) -> Option<(Self, Chain)> {
        let bytes: [u8; MAC_AT] = payload.take()?;
        let mac = payload.take()?;
        let mut fields = Payload(&bytes);
        let [format, kind, 0, 0] = fields.take()? else {
            return None;
        };
        let header = Self {
            kind: Kind::of(kind)?,
            sectors: fields.u32()?,
            file_len: fields.u64()?,
            seq: fields.u64()?,
            transactions: fields.u32()?,
            body: {
                fields.u32()?;
                fields.u64()?
            },
        };
        (format == FORMAT && header.bytes() == bytes && header.sectors == header.fits())
            .then_some((header, mac))
    }

    /// How many sectors header and body take.
    fn fits(&self) -> u32 {
        let payload = self.body.saturating_add(HEADER as u64);
        payload.div_ceil(BODY as u64).try_into().unwrap_or(u32::MAX)
    }

    /// The frame's MAC, when `mac` has taken the chain and the body.
    pub(crate) fn seal(&self, mut mac: Mac) -> Chain {
        mac.add(&self.bytes());
        mac.finish()
    }
}

/// The sector's stamp.
pub(crate) fn stamp(frame: u32, sector: u32) -> [u8; STAMP] {
    let mut stamp = [0; STAMP];
    stamp[..4].copy_from_slice(&frame.to_le_bytes());
    stamp[4..].copy_from_slice(&sector.to_le_bytes());
    stamp
}

/// Fields one after another; `None` where there are not enough bytes.
pub(crate) struct Payload<'a>(pub(crate) &'a [u8]);

impl<'a> Payload<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// What a change found in its place: enough to undo it.
pub(crate) type Before = Option<(u64, Tag)>;

/// A change's bytes before its record; the record's own are covered by its tag.
pub(crate) struct ChangeHeader {
    pub(crate) name: NameHash,
    pub(crate) before: Before,
    /// A put: length and tag of the record.
    pub(crate) put: Option<(u32, Tag)>,
}

impl ChangeHeader {
    /// Bytes of a put before its record.
    pub(crate) const PUT: usize = 1 + 32 + 24 + 20;

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::PUT);
        bytes.push(if self.put.is_some() { 1 } else { 2 });
        bytes.extend(self.name.0);
        let (seq, tag) = self.before.unwrap_or_default();
        bytes.extend(seq.to_le_bytes());
        bytes.extend(tag);
        if let Some((len, tag)) = self.put {
            bytes.extend(len.to_le_bytes());
            bytes.extend(tag);
        }
        bytes
    }

    pub(crate) fn read(payload: &mut Payload<'_>) -> Option<Self> {
        let [kind] = payload.take()?;
        let name = NameHash(payload.take()?);
        let before = (payload.u64()?, payload.take()?);
        let put = match kind {
            1 => Some((payload.u32()?, payload.take()?)),
            2 => None,
            _ => return None,
        };
        // Transactions count from 1: no seq, nothing before.
        Some(Self {
            name,
            before: (before.0 != 0).then_some(before),
            put,
        })
    }
}

/// A frame in the making.
pub(crate) struct Frame {
    bytes: Vec<u8>,
    number: u32,
    payload: u64,
    mac: Mac,
    pub(crate) header: Header,
}

impl Frame {
    /// Begins a frame in a buffer that is used again and again.
    pub(crate) fn begin(
        mut buffer: Vec<u8>,
        number: u32,
        kind: Kind,
        seq: u64,
        mut mac: Mac,
        chain: &Chain,
    ) -> Self {
        buffer.clear();
        mac.add(chain);
        let header = Header {
            kind,
            sectors: 0,
            file_len: 0,
            seq,
            transactions: 0,
            body: 0,
        };
        let mut frame = Self {
            bytes: buffer,
            number,
            payload: 0,
            mac,
            header,
        };
        frame.push(&[0; HEADER]);
        frame
    }

    /// Bytes that the frame's MAC covers.
    pub(crate) fn signed(&mut self, bytes: &[u8]) {
        self.mac.add(bytes);
        self.push(bytes);
    }

    /// Begins a transaction.
    pub(crate) fn transaction(&mut self, changes: u32) {
        self.header.transactions += 1;
        self.signed(&changes.to_le_bytes());
    }

    /// A change of the transaction. Gives its place in the frame's payload.
    pub(crate) fn change(&mut self, change: &ChangeHeader, record: &[u8]) -> u64 {
        let at = self.payload;
        self.signed(&change.bytes());
        self.push(record);
        at
    }

    fn push(&mut self, mut bytes: &[u8]) {
        self.payload += bytes.len() as u64;
        while !bytes.is_empty() {
            let into = self.bytes.len() % SECTOR as usize;
            if into == 0 {
                let sector = (self.bytes.len() as u64 / SECTOR) as u32;
                self.bytes.extend(stamp(self.number, sector));
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(SECTOR as usize - into));
            self.bytes.extend(now);
            bytes = later;
        }
    }

    /// Bytes that the frame takes in the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        (self.bytes.len() as u64).next_multiple_of(SECTOR)
    }

    /// Completes the frame: its bytes and its MAC, which the next frame goes on from.
    pub(crate) fn finish(mut self, file_len: u64) -> (Vec<u8>, Chain) {
        let whole = self.file_bytes();
        self.bytes.resize(whole as usize, 0);
        self.header.file_len = file_len;
        self.header.sectors = (whole / SECTOR) as u32;
        self.header.body = self.payload - HEADER as u64;
        let mac = self.header.seal(self.mac);
        self.bytes[STAMP..STAMP + MAC_AT].copy_from_slice(&self.header.bytes());
        self.bytes[STAMP + MAC_AT..STAMP + HEADER].copy_from_slice(&mac);
        (self.bytes, mac)
    }
}

/// The payload of stamped sectors, and the first whose stamp is wrong.
pub(crate) fn payload_of(sectors: &[u8], frame: u32) -> Result<Vec<u8>, u32> {
    let mut payload = Vec::with_capacity(sectors.len());
    for (sector, number) in sectors.chunks_exact(SECTOR as usize).zip(0..) {
        if sector[..STAMP] != stamp(frame, number) {
            return Err(number);
        }
        payload.extend(&sector[STAMP..]);
    }
    Ok(payload)
}
