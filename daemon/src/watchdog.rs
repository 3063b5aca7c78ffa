//! What whoever started us hears while we serve: that we still do, and how we are (sd_notify(3),
//! `WatchdogSec=` and `systemctl status`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::host::Host;

/// How old the words of `systemctl status` may be. Sealing, and services that come and go, wake
/// nobody.
const ROUND: Duration = Duration::from_secs(1);

/// Tells from a thread of its own until the process ends; nothing, if nobody has asked for it.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn start(host: &Arc<Host>) -> io::Result<()> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    let host = Arc::clone(host);
    let limit = sd_notify::watchdog_enabled();
    let round = limit.map_or(ROUND, |limit| ROUND.min(limit / 3));
    std::thread::Builder::new()
        .name("watchdog".into())
        .spawn(move || {
            let mut told = String::new();
            loop {
                // Every answer to a service takes these two locks. Whoever does not give them back
                // stops this thread too, and so has us ended and started again.
                let status = describe(host.store.state(), host.views_status().instances);
                let mut states = Vec::new();
                if limit.is_some() {
                    states.push(NotifyState::Watchdog);
                }
                if status != told {
                    states.push(NotifyState::Status(&status));
                }
                if !states.is_empty() && sd_notify::notify(&states).is_ok() {
                    told = status;
                }
                std::thread::sleep(round);
            }
        })?;
    Ok(())
}

/// One line, with what a stop would do.
fn describe(state: store::State, instances: usize) -> String {
    let state = match state {
        store::State::Sealed => "SEALED: no secret can be opened until `deploy unseal`".to_owned(),
        store::State::Unsealed { generation } => format!("unsealed, key generation {generation}"),
    };
    let services = match instances {
        0 => "no service runs with secrets".to_owned(),
        1 => "1 service runs with secrets: a stop takes them from it, a start gives them back"
            .to_owned(),
        many => format!(
            "{many} services run with secrets: a stop takes them from all, a start gives them back"
        ),
    };
    format!("{state}; {services}; a restart disturbs nobody")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_say_whether_it_is_sealed_and_what_a_stop_does() {
        let sealed = describe(store::State::Sealed, 0);
        assert!(sealed.contains("SEALED") && sealed.contains("deploy unseal"));
        let three = describe(store::State::Unsealed { generation: 7 }, 3);
        assert!(three.contains("generation 7") && three.contains("3 services"));
        assert!(three.contains("a stop takes them"));
    }
}
