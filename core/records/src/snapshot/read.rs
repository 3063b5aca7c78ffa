//! Reading a snapshot whole: verified, or refused by name.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::{END, END_REST, HEADER, PUT, PUT_REST, Put, REMOVE, header};
use crate::error::RecordsError;
use crate::mac::{Keys, Mac, same};
use crate::name::NameHash;
use crate::table::{Entry, Place, Table};

/// The records of snapshot `number`, and its length.
pub(crate) fn read(
    file: &File,
    path: &Path,
    keys: &Keys,
    number: u64,
) -> Result<(Table, u64), RecordsError> {
    let len = file
        .metadata()
        .map_err(RecordsError::at("could not read", path))?
        .len();
    let mut reader = Reader {
        file: BufReader::with_capacity(1 << 18, file),
        path,
        mac: keys.snapshot(),
        at: 0,
        len,
    };
    let found: [u8; HEADER] = reader.signed()?;
    if found != header(keys.store(), number) {
        let what = if found[16..32] == keys.store()[..] {
            "its header is not that of this snapshot"
        } else {
            "it is the snapshot of another store"
        };
        return Err(RecordsError::damaged(path, what));
    }
    let mut table = Table::default();
    let mut record = Vec::new();
    loop {
        let place = Place::snapshot(number, reader.at);
        let [kind] = reader.signed()?;
        match kind {
            PUT => {
                let put = Put::of(&reader.signed::<PUT_REST>()?);
                if u64::from(put.len) > len - reader.at {
                    return Err(reader.damaged("it is cut short"));
                }
                record.resize(put.len as usize, 0);
                reader.bytes(&mut record)?;
                if !same(&keys.tag(&put.name, put.seq, &record), &put.tag) {
                    return Err(reader.damaged("a record's tag is wrong"));
                }
                table.put(
                    put.name,
                    Entry {
                        seq: put.seq,
                        tag: put.tag,
                        place,
                    },
                );
            }
            REMOVE => {
                table.remove(&NameHash(reader.signed()?));
            }
            END => return Ok((reader.end(table)?, len)),
            _ => return Err(reader.damaged("it holds something unknown")),
        }
    }
}

struct Reader<'a> {
    file: BufReader<&'a File>,
    path: &'a Path,
    mac: Mac,
    at: u64,
    len: u64,
}

impl Reader<'_> {
    fn damaged(&self, what: &str) -> RecordsError {
        RecordsError::damaged(self.path, format!("at byte {}: {what}", self.at))
    }

    fn end(&mut self, mut table: Table) -> Result<Table, RecordsError> {
        let end: [u8; END_REST] = self.signed()?;
        let mac = self.mac.clone().finish();
        let mut found = [0; 32];
        self.bytes(&mut found)?;
        if !same(&mac, &found) {
            return Err(self.damaged("its MAC is wrong"));
        }
        if self.at != self.len {
            return Err(self.damaged("something lies behind its end"));
        }
        let mut seq = [0; 8];
        seq.copy_from_slice(&end[8..16]);
        table.last_seq = u64::from_le_bytes(seq);
        if end[..8] != (table.len() as u64).to_le_bytes() || end[16..] != table.digest() {
            return Err(self.damaged("it does not hold what it says"));
        }
        Ok(table)
    }

    fn signed<const N: usize>(&mut self) -> Result<[u8; N], RecordsError> {
        let mut bytes = [0; N];
        self.bytes(&mut bytes)?;
        self.mac.add(&bytes);
        Ok(bytes)
    }

    fn bytes(&mut self, into: &mut [u8]) -> Result<(), RecordsError> {
        match self.file.read_exact(into) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged("it is cut short"));
            }
            Err(error) => return Err(RecordsError::at("could not read", self.path)(error)),
        }
        self.at += into.len() as u64;
        Ok(())
    }
}
