//! The worker, seen from the test: orders go in, events come out.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use super::{Answer, Order};
use crate::{programs, wait};

/// What comes from a worker, or about it.
#[derive(Debug)]
pub enum Event {
    /// It said something.
    Said(Answer),
    /// The power went.
    Cut,
    /// It ended, and everything it said has come.
    Ended,
    /// Nothing came for longer than anything may take.
    Silence,
}

/// A process that holds a store. Killed when dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    events: Receiver<Event>,
    sender: Sender<Event>,
}

impl Worker {
    /// Starts one, which holds nothing yet.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start() -> Self {
        let mut child = Command::new(programs::program("worker"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, events) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let tells = sender.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The last line may be half of one.
                if let Ok(answer) = serde_json::from_str(&line) {
                    let _ = tells.send(Event::Said(answer));
                }
            }
            let _ = tells.send(Event::Ended);
        });
        Self {
            orders: child.stdin.take(),
            child,
            events,
            sender,
        }
    }

    /// Has an order carried out; whether it comes to that, its events say.
    ///
    /// # Panics
    /// Never.
    pub fn order(&mut self, order: &Order) {
        let mut line = serde_json::to_string(order).unwrap();
        line.push('\n');
        if let Some(orders) = &mut self.orders {
            // One that has ended says so by its events.
            let _ = orders.write_all(line.as_bytes());
        }
    }

    /// The next event.
    #[must_use]
    pub fn event(&self) -> Event {
        match self.events.recv_timeout(wait::LONG) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Event::Silence,
        }
    }

    /// Makes an event of a cut.
    pub fn hears_of_cut(&self) -> impl FnOnce() + Send + 'static {
        let sender = self.sender.clone();
        move || drop(sender.send(Event::Cut))
    }

    /// Kills it, and gives what it had said and nobody had heard yet.
    #[must_use]
    pub fn kill(mut self) -> Vec<Answer> {
        self.end();
        let mut said = Vec::new();
        loop {
            match self.event() {
                Event::Said(answer) => said.push(answer),
                Event::Cut => {}
                Event::Ended | Event::Silence => return said,
            }
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}
