//! A snapshot: all records at one moment, in one file that is written once. `docs/format.md`.
//!
//! Record bytes are covered by their tags, everything else by one MAC over the file.

mod read;
mod write;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub(crate) use read::read;
pub(crate) use write::Writer;

use crate::mac::Tag;
use crate::name::NameHash;

const MAGIC: [u8; 8] = *b"dplysnap";
const FORMAT: u32 = 1;
const HEADER: usize = 64;
const PUT: u8 = 1;
const REMOVE: u8 = 2;
const END: u8 = 0xff;
/// Bytes of a put behind its first, before its record.
const PUT_REST: usize = 32 + 8 + 4 + 16;
const PUT_BYTES: usize = 1 + PUT_REST;
/// Bytes of the end behind its first, before its MAC.
const END_REST: usize = 8 + 8 + 32;

fn header(store: &[u8; 16], number: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[16..32].copy_from_slice(store);
    header[32..40].copy_from_slice(&number.to_le_bytes());
    header
}

/// What a put says of its record.
struct Put {
    name: NameHash,
    seq: u64,
    len: u32,
    tag: Tag,
}

impl Put {
    fn bytes(&self) -> [u8; PUT_BYTES] {
        let mut bytes = [0; PUT_BYTES];
        bytes[0] = PUT;
        bytes[1..33].copy_from_slice(&self.name.0);
        bytes[33..41].copy_from_slice(&self.seq.to_le_bytes());
        bytes[41..45].copy_from_slice(&self.len.to_le_bytes());
        bytes[45..].copy_from_slice(&self.tag);
        bytes
    }

    fn of(bytes: &[u8; PUT_REST]) -> Self {
        let mut put = Self {
            name: NameHash([0; 32]),
            seq: 0,
            len: 0,
            tag: [0; 16],
        };
        let (mut seq, mut len) = ([0; 8], [0; 4]);
        put.name.0.copy_from_slice(&bytes[..32]);
        seq.copy_from_slice(&bytes[32..40]);
        len.copy_from_slice(&bytes[40..44]);
        put.tag.copy_from_slice(&bytes[44..]);
        put.seq = u64::from_le_bytes(seq);
        put.len = u32::from_le_bytes(len);
        put
    }
}

/// Reads the record of the put at `offset`.
pub(crate) fn read_put(file: &File, offset: u64, name: &NameHash) -> io::Result<Vec<u8>> {
    let other = || io::Error::new(io::ErrorKind::InvalidData, "another record lies there");
    let mut kind = [0];
    let mut rest = [0; PUT_REST];
    file.read_exact_at(&mut kind, offset)?;
    file.read_exact_at(&mut rest, offset + 1)?;
    let put = Put::of(&rest);
    if kind != [PUT] || put.name != *name || u64::from(put.len) > file.metadata()?.len() {
        return Err(other());
    }
    let mut record = vec![0; put.len as usize];
    file.read_exact_at(&mut record, offset + PUT_BYTES as u64)?;
    Ok(record)
}
