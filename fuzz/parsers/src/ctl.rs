//! The lines of `ctl` in the operators' tree.

use fuse_fs::CtlLine;

/// A line is one command or none; printed again it is the same command.
pub fn ctl(bytes: &[u8]) -> bool {
    let Some(line) = CtlLine::parse(bytes) else {
        return false;
    };
    let printed = match &line {
        CtlLine::Set { name, value } => {
            let mut printed = format!("set {name} ").into_bytes();
            printed.extend(value.expose());
            printed.push(b'\n');
            printed
        }
        CtlLine::Delete { name } => format!("delete {name}\n").into_bytes(),
        CtlLine::RotateKey => b"rotate-key\n".to_vec(),
    };
    assert_eq!(CtlLine::parse(&printed), Some(line));
    // A name has one spelling, so that a command has two: with a line feed, and without.
    assert!(bytes == printed || bytes == &printed[..printed.len() - 1]);
    true
}
