//! Frames and records of a journal, found by docs/format.md alone.

const SECTOR: usize = 512;
const STAMP: usize = 8;

/// A frame: its bytes in the file.
#[derive(Debug, Clone)]
pub struct Frame {
    pub at: usize,
    pub bytes: usize,
    /// 1 begin, 2 commit, 3 open, 4 close.
    pub kind: u8,
    pub last_seq: u64,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut all = [0; 8];
    all[..N].copy_from_slice(&bytes[at..at + N]);
    u64::from_le_bytes(all)
}

pub fn frames(journal: &[u8]) -> Vec<Frame> {
    let (mut found, mut at) = (Vec::new(), 0);
    while number::<4>(journal, at) != 0 {
        assert_eq!(number::<4>(journal, at), found.len() as u64 + 1);
        let header = &journal[at + STAMP..];
        let bytes = number::<4>(header, 4) as usize * SECTOR;
        let transactions = number::<4>(header, 24);
        found.push(Frame {
            at,
            bytes,
            kind: header[1],
            last_seq: number::<8>(header, 16) + transactions.saturating_sub(1),
        });
        at += bytes;
    }
    assert_eq!(found[0].kind, 1);
    found
}

/// Where in the file each byte of a frame's payload is.
fn payload(frame: &Frame) -> Vec<usize> {
    (frame.at..frame.at + frame.bytes)
        .filter(|at| at % SECTOR >= STAMP)
        .collect()
}

/// Every record of a journal: where its name and its own bytes are in the file.
pub fn records(journal: &[u8]) -> Vec<(Vec<usize>, Vec<usize>)> {
    let mut found = Vec::new();
    for frame in frames(journal).iter().filter(|frame| frame.kind == 2) {
        let places = payload(frame);
        let bytes: Vec<u8> = places.iter().map(|at| journal[*at]).collect();
        let mut at = 72;
        for _ in 0..number::<4>(&bytes, 24) {
            let changes = number::<4>(&bytes, at);
            at += 4;
            for _ in 0..changes {
                let put = bytes[at] == 1;
                let name = places[at + 1..at + 33].to_vec();
                at += 1 + 32 + 8 + 16;
                if put {
                    let length = number::<4>(&bytes, at) as usize;
                    at += 4 + 16;
                    found.push((name, places[at..at + length].to_vec()));
                    at += length;
                }
            }
        }
        assert_eq!(at, 72 + number::<8>(&bytes, 32) as usize);
    }
    found
}

/// Every record of a snapshot: where its own bytes are.
pub fn snapshot_records(snapshot: &[u8]) -> Vec<Vec<usize>> {
    let (mut found, mut at) = (Vec::new(), 64);
    while snapshot[at] != 0xff {
        assert_eq!(snapshot[at], 1);
        let length = number::<4>(snapshot, at + 41) as usize;
        at += 1 + 32 + 8 + 4 + 16;
        found.push((at..at + length).collect());
        at += length;
    }
    found
}

/// Two places of the same length change their bytes.
pub fn swap(bytes: &mut [u8], one: &[usize], other: &[usize]) {
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(other) {
        bytes.swap(*one, *other);
    }
}

/// Two frames of the same length change places, and each gets the stamps of its new one.
pub fn swap_frames(journal: &mut [u8], one: &Frame, other: &Frame) {
    assert_eq!(one.bytes, other.bytes);
    for offset in (0..one.bytes).filter(|offset| offset % SECTOR >= STAMP) {
        journal.swap(one.at + offset, other.at + offset);
    }
}
