//! Bytes as fields.

use super::Bad;
use crate::entry::{Access, Change, Event, Kind, Merged, Outcome, Record, Start, Switch, Verdict};
use crate::time::Time;

/// Reads fields one after the other.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Bad> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(Bad("the entry ends within a field"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| Bad("too short"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Bad> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Bad> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Bad> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Bad> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Bad> {
        let length = self.u16()?;
        self.take(length.into())
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Bad> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Bad("a text is not UTF-8"))
    }

    pub(super) fn record(&mut self, kind: u8) -> Result<Record<'a>, Bad> {
        Ok(match kind {
            1 => Record::Event(Event::Open(self.access()?)),
            2 => Record::Event(Event::Read(self.access()?)),
            3 => Record::Event(Event::Change(self.change()?)),
            4 => Record::Event(Event::Seal(self.change()?)),
            5 => Record::Event(Event::Unseal(self.change()?)),
            6 => Record::Start(Start {
                boot: self.array()?,
                pid: self.u32()?,
                program: self.text()?,
                found: self.text()?,
            }),
            7 => Record::Stop,
            8 => Record::Segment(Switch {
                boot: self.array()?,
                number: self.u64()?,
                oldest: self.u64()?,
                note: self.text()?,
            }),
            9 => Record::Merged(self.merged()?),
            _ => return Err(Bad("the kind of the entry is not known")),
        })
    }

    fn access(&mut self) -> Result<Access<'a>, Bad> {
        let [pid, tid, uid, instance, version, connection] = self.numbers()?;
        Ok(Access {
            pid,
            tid,
            uid,
            instance,
            version,
            connection,
            unique: self.u64()?,
            verdict: self.verdict()?,
            service: self.text()?,
            secret: self.text()?,
            field: Some(self.text()?).filter(|field| !field.is_empty()),
            why: self.text()?,
            comm: self.bytes()?,
            cgroup: self.bytes()?,
        })
    }

    fn change(&mut self) -> Result<Change<'a>, Bad> {
        let [uid, pid] = self.numbers()?;
        Ok(Change {
            uid,
            pid,
            outcome: match self.u8()? {
                1 => Outcome::Begun,
                2 => Outcome::Done,
                3 => Outcome::Denied,
                4 => Outcome::Failed,
                _ => return Err(Bad("the outcome is not known")),
            },
            operator: self.text()?,
            act: self.text()?,
            what: self.text()?,
            detail: self.text()?,
            why: self.text()?,
        })
    }

    fn merged(&mut self) -> Result<Merged<'a>, Bad> {
        let of = self.kind_of_event()?;
        let verdict = self.verdict()?;
        let slot = self.u16()?;
        let (since, count) = (self.u64()?, self.u64()?);
        let (first, last) = (Time(self.u64()?), Time(self.u64()?));
        let [pid, tid, uid, instance, version] = self.numbers()?;
        Ok(Merged {
            of,
            count,
            first,
            last,
            instance,
            version,
            verdict,
            pid,
            tid,
            uid,
            slot,
            since,
            service: self.text()?,
            secret: self.text()?,
            why: self.text()?,
            comm: self.bytes()?,
            operator: self.text()?,
            act: self.text()?,
        })
    }

    pub(crate) fn numbers<const N: usize>(&mut self) -> Result<[u32; N], Bad> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            *number = self.u32()?;
        }
        Ok(numbers)
    }

    pub(crate) fn verdict(&mut self) -> Result<Verdict, Bad> {
        match self.u8()? {
            1 => Ok(Verdict::Allowed),
            2 => Ok(Verdict::Denied),
            3 => Ok(Verdict::Failed),
            _ => Err(Bad("the verdict is not known")),
        }
    }

    pub(crate) fn kind_of_event(&mut self) -> Result<Kind, Bad> {
        match self.u8()? {
            1 => Ok(Kind::Open),
            2 => Ok(Kind::Read),
            3 => Ok(Kind::Change),
            4 => Ok(Kind::Seal),
            5 => Ok(Kind::Unseal),
            _ => Err(Bad("the kind of the merged events is not known")),
        }
    }
}
