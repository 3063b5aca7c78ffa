//! Questions at a terminal. What is typed at a hidden one is not echoed, also between two of them,
//! has no length limit of the terminal's own (a line of a terminal ends at 4095 bytes, in silence),
//! and is wiped.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};

use anyhow::{Context as _, Result};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// The longest answer.
const LONGEST: usize = 1 << 20;

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL_LINE: u8 = 0x15;
const DELETE: u8 = 0x7f;

/// Asks twice without echo, and takes the answer if it was the same.
pub fn hidden_twice(what: &str, instead: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut terminal = Hidden::open(instead)?;
    let first = terminal.ask(&format!("{what}: "))?;
    let second = terminal.ask("The same again: ")?;
    if first != second {
        return Err(Failure::failed("the two are not the same; nothing was done").into());
    }
    Ok(first)
}

/// Asks once without echo.
pub fn hidden(what: &str, instead: &str) -> Result<Zeroizing<Vec<u8>>> {
    Hidden::open(instead)?.ask(&format!("{what}: "))
}

/// Asks whether to go on; `instead` says how to do without the question.
pub fn confirm(question: &str, instead: &str) -> Result<()> {
    let mut terminal = terminal(instead)?;
    write!(terminal, "{question} [y/N] ")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was done").into()),
    }
}

/// The terminal, if somebody sits there: a script must not hang on a question.
fn terminal(instead: &str) -> Result<File> {
    let nobody = || Failure::usage("there is no terminal to ask at").hint(instead);
    if !io::stdin().is_terminal() {
        return Err(nobody().into());
    }
    Ok(File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(|_| nobody())?)
}

/// A terminal that shows nothing and hands on each key; as it was before when dropped.
struct Hidden {
    terminal: File,
    before: Termios,
}

impl Hidden {
    fn open(instead: &str) -> Result<Hidden> {
        let terminal = terminal(instead)?;
        let before = tcgetattr(&terminal).context("cannot ask the terminal for its modes")?;
        let mut modes = before.clone();
        // Ctrl-C as a key, not a signal, which would leave the terminal as it is now.
        modes.local_modes -=
            LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&terminal, OptionalActions::Now, &modes).context("cannot turn the echo off")?;
        Ok(Hidden { terminal, before })
    }

    fn ask(&mut self, prompt: &str) -> Result<Zeroizing<Vec<u8>>> {
        self.terminal.write_all(prompt.as_bytes())?;
        let answer = read_line(&mut self.terminal);
        self.terminal.write_all(b"\n")?;
        answer
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

/// One line, edited as far as one can without seeing it.
fn read_line(from: &mut impl Read) -> Result<Zeroizing<Vec<u8>>> {
    // All of its room at once: a vector that grows leaves unwiped copies.
    let mut line = Zeroizing::new(Vec::with_capacity(LONGEST));
    loop {
        let mut key = Zeroizing::new([0]);
        match from.read(&mut *key) {
            Ok(0) => return Err(Failure::interrupted().into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("cannot read from the terminal"),
        }
        match key[0] {
            b'\n' | b'\r' => return Ok(line),
            INTERRUPT => return Err(Failure::interrupted().into()),
            END if line.is_empty() => return Err(Failure::interrupted().into()),
            BACKSPACE | DELETE => {
                // A whole character: what follows its first byte starts with the bits 10.
                while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            KILL_LINE => line.clear(),
            _ if line.len() == LONGEST => {
                return Err(Failure::failed("that is more than 1 MiB; nothing was done").into());
            }
            byte => line.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn typed(keys: &[u8]) -> Result<Vec<u8>> {
        read_line(&mut &keys[..]).map(|line| line.to_vec())
    }

    #[test]
    fn a_line_is_what_was_typed_after_its_corrections() {
        assert_eq!(typed(b"abc\n").unwrap(), b"abc");
        assert_eq!(typed(b"\r").unwrap(), b"");
        assert_eq!(typed("aä\u{7f}b\u{8}c\n".as_bytes()).unwrap(), b"ac");
        assert_eq!(typed(b"\x7f\x7fa\n").unwrap(), b"a");
        assert_eq!(typed(b"wrong\x15right\n").unwrap(), b"right");
        assert_eq!(typed(b"a\x04b\n").unwrap(), b"a\x04b");
        let long = [&[b'x'; 10_000][..], b"\n"].concat();
        assert_eq!(typed(&long).unwrap().len(), 10_000);
    }

    #[test]
    fn ctrl_c_ctrl_d_and_a_terminal_that_goes_away_do_nothing() {
        for keys in [&b"ab\x03"[..], b"\x04", b"", b"half"] {
            let error = typed(keys).unwrap_err();
            assert_eq!(error.downcast_ref::<Failure>().unwrap().code, 130);
        }
    }
}
