//! Fields as bytes.

use super::limit;
use crate::entry::{Access, Change, Event, Merged, Record};

/// Writes fields one after the other.
pub(crate) struct Writer<'a> {
    bytes: &'a mut [u8],
    pub(crate) at: usize,
    pub(crate) cut: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        let (at, cut) = (0, false);
        Self { bytes, at, cut }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8], limit: usize) {
        let kept = &bytes[..bytes.len().min(limit)];
        self.cut |= kept.len() < bytes.len();
        self.u16(kept.len() as u16);
        self.put(kept);
    }

    pub(crate) fn text(&mut self, text: &str, limit: usize) {
        self.cut |= text.len() > limit;
        let mut end = text.len().min(limit);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes(&text.as_bytes()[..end], limit);
    }

    pub(super) fn record(&mut self, record: &Record<'_>) {
        match record {
            Record::Event(Event::Open(access) | Event::Read(access)) => self.access(access),
            Record::Event(Event::Change(change) | Event::Seal(change) | Event::Unseal(change)) => {
                self.change(change);
            }
            Record::Start(start) => {
                self.put(&start.boot);
                self.u32(start.pid);
                self.text(start.program, limit::NAME);
                self.text(start.found, limit::LONG);
            }
            Record::Stop => {}
            Record::Segment(switch) => {
                self.put(&switch.boot);
                self.u64(switch.number);
                self.u64(switch.oldest);
                self.text(switch.note, limit::LONG);
            }
            Record::Merged(merged) => self.merged(merged),
        }
    }

    fn access(&mut self, access: &Access<'_>) {
        self.u32(access.pid);
        self.u32(access.tid);
        self.u32(access.uid);
        self.u32(access.instance);
        self.u32(access.version);
        self.u32(access.connection);
        self.u64(access.unique);
        self.u8(access.verdict as u8 + 1);
        self.text(access.service, limit::NAME);
        self.text(access.secret, limit::NAME);
        self.text(access.field.unwrap_or_default(), limit::NAME);
        self.text(access.why, limit::NAME);
        self.bytes(access.comm, limit::COMM);
        // Its end is what tells, the unit's name.
        let keep = access.cgroup.len().min(limit::LONG);
        self.cut |= keep < access.cgroup.len();
        self.bytes(&access.cgroup[access.cgroup.len() - keep..], limit::LONG);
    }

    fn change(&mut self, change: &Change<'_>) {
        self.u32(change.uid);
        self.u32(change.pid);
        self.u8(change.outcome as u8 + 1);
        self.text(change.operator, limit::NAME);
        self.text(change.act, limit::ACT);
        self.text(change.what, limit::WHAT);
        self.text(change.detail, limit::LONG);
        self.text(change.why, limit::WHAT);
    }

    fn merged(&mut self, merged: &Merged<'_>) {
        self.u8(merged.of as u8);
        self.u8(merged.verdict as u8 + 1);
        self.u16(merged.slot);
        for number in [merged.since, merged.count, merged.first.0, merged.last.0] {
            self.u64(number);
        }
        for number in [
            merged.pid,
            merged.tid,
            merged.uid,
            merged.instance,
            merged.version,
        ] {
            self.u32(number);
        }
        self.text(merged.service, limit::NAME);
        self.text(merged.secret, limit::NAME);
        self.text(merged.why, limit::NAME);
        self.bytes(merged.comm, limit::COMM);
        self.text(merged.operator, limit::NAME);
        self.text(merged.act, limit::ACT);
    }
}
