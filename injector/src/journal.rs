//! A line in the journal that is of a unit's process, and so shows in `systemctl status` of that unit
//! (systemd.journal-fields(7), OBJECT_PID). Without a journal it is in our own log alone.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

const SOCKET: &str = "/run/systemd/journal/socket";
const VARLINK: &str = "/run/systemd/journal/io.systemd.journal";
/// Journald asks /proc for the process, which waits for us and ends soon after.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells why `pid` does not get what it waits for; one line.
pub(crate) fn tell(pid: i32, line: &str) {
    if let Err(error) = send(pid, line) {
        log::debug!("not in the journal: {error}");
    }
}

fn send(pid: i32, line: &str) -> io::Result<()> {
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    // Priority 3: error. The identifier is what stands before the line.
    let entry =
        format!("PRIORITY=3\nSYSLOG_IDENTIFIER=deploy-inject\nOBJECT_PID={pid}\nMESSAGE={line}\n");
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.send_to(entry.as_bytes(), SOCKET)?;
    // Until journald has taken it, the process must not end.
    let mut varlink = UnixStream::connect(VARLINK)?;
    varlink.set_read_timeout(Some(PATIENCE))?;
    varlink.write_all(b"{\"method\":\"io.systemd.Journal.Synchronize\"}\0")?;
    BufReader::new(varlink)
        .read_until(0, &mut Vec::new())
        .map(drop)
}
