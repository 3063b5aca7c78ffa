//! Writers that wait together share one frame and one sync: the first to find nobody writing takes
//! all that wait, its own transaction among them, and writes for all.

use std::collections::HashMap;
use std::mem;
use std::sync::{Condvar, Mutex, PoisonError};

use sys::lock::lock;

use crate::error::RecordsError;
use crate::records::Change;

/// Bytes of one frame, unless a single transaction has more.
const MAX_FRAME: usize = 8 << 20;

#[derive(Default)]
pub(crate) struct Group {
    queue: Mutex<Queue>,
    turn: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    done: HashMap<u64, Result<u64, RecordsError>>,
    next_ticket: u64,
    led: bool,
}

struct Waiting {
    ticket: u64,
    changes: Vec<Change>,
    bytes: usize,
}

impl Group {
    /// Has the changes written by whoever leads, by ourselves if nobody does. `write` is given the
    /// leader, takes what is there to be written when it is ready to, and says what became of it.
    pub(crate) fn commit(
        &self,
        changes: Vec<Change>,
        bytes: usize,
        write: impl Fn(&mut Leader<'_>),
    ) -> Result<u64, RecordsError> {
        let mut queue = lock(&self.queue);
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        queue.waiting.push(Waiting {
            ticket,
            changes,
            bytes,
        });
        loop {
            if let Some(done) = queue.done.remove(&ticket) {
                return done;
            }
            if queue.led {
                queue = self
                    .turn
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.led = true;
            drop(queue);
            let mut leader = Leader {
                group: self,
                tickets: Vec::new(),
                outcome: None,
            };
            write(&mut leader);
            drop(leader);
            queue = lock(&self.queue);
        }
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.queue).waiting.len()
    }
}

/// Who writes for all. Whatever becomes of it, nobody waits for it for ever.
pub(crate) struct Leader<'a> {
    group: &'a Group,
    tickets: Vec<u64>,
    outcome: Option<Result<u64, RecordsError>>,
}

impl Leader<'_> {
    /// Takes the transactions that wait, as many as go into a frame.
    pub(crate) fn take(&mut self) -> Vec<Vec<Change>> {
        let mut queue = lock(&self.group.queue);
        let mut bytes = 0;
        let fits = |one: &&Waiting| {
            bytes += one.bytes;
            bytes <= MAX_FRAME
        };
        let count = queue.waiting.iter().take_while(fits).count().max(1);
        let count = count.min(queue.waiting.len());
        let later = queue.waiting.split_off(count);
        let now = mem::replace(&mut queue.waiting, later);
        drop(queue);
        let split = |one: Waiting| {
            self.tickets.push(one.ticket);
            one.changes
        };
        now.into_iter().map(split).collect()
    }

    /// Says what became of the transactions that were taken: the number of the first, or why none of
    /// them is there.
    pub(crate) fn done(&mut self, outcome: Result<u64, RecordsError>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            Err(RecordsError::Stopped(
                "writing ended before it was done".into(),
            ))
        });
        let mut queue = lock(&self.group.queue);
        for (ticket, number) in self.tickets.iter().zip(0..) {
            queue
                .done
                .insert(*ticket, outcome.clone().map(|first| first + number));
        }
        queue.led = false;
        drop(queue);
        self.group.turn.notify_all();
    }
}
