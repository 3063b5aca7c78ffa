//! io.deploy.Audit

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use audit::{Anchor, Anchored, Filter, Follow, Kind, Time};
use control::ControlError;
use control::calls::{AuditEntries, AuditQuery, AuditVerified, AuditVerify};
use serde_json::Value;
use store::Operator;

use super::calls::Exchange;
use crate::host::Host;

/// Entries of one reply.
const OF_A_REPLY: usize = 256;
/// Without `more`, and without `last`: the newest so many.
const WITHOUT_MORE: usize = 1000;
/// Between two looks at the log of one who follows it.
const PAUSE: Duration = Duration::from_millis(200);

const KINDS: [Kind; 9] = [
    Kind::Open,
    Kind::Read,
    Kind::Change,
    Kind::Seal,
    Kind::Unseal,
    Kind::Start,
    Kind::Stop,
    Kind::Segment,
    Kind::Merged,
];

pub(super) fn query(exchange: &Exchange<'_>) -> io::Result<()> {
    let asked = exchange
        .call
        .parameters::<AuditQuery>()
        .and_then(|asked| Ok((filter(&asked)?, asked)));
    let (mut filter, asked) = match asked {
        Ok(asked) => asked,
        Err(error) => return exchange.answer(Err::<AuditEntries, _>(error)),
    };
    let more = exchange.call.more;
    filter.last = match asked.last {
        Some(last) => Some(last as usize),
        None if more => None,
        None => Some(WITHOUT_MORE),
    };
    // What is only counted yet is told too.
    if let Ok(log) = exchange.host.audit.log() {
        log.flush();
    }
    let folder = exchange.host.audit.folder();
    let mut rest = Vec::new();
    let mut hung_up = Ok(());
    let goes_on = asked.follow && more;
    // Before the look at what is there: nothing may come between the two.
    let mut follow = match goes_on.then(|| Follow::from_end(folder)).transpose() {
        Ok(follow) => follow,
        Err(error) => return exchange.answer(Err::<AuditEntries, _>(unreadable(&error))),
    };
    let found = audit::query(folder, &filter, |entry| {
        rest.push(entry.json());
        if more && rest.len() >= OF_A_REPLY {
            hung_up = exchange.answer_more(&entries(&mut rest));
        }
        match &hung_up {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    hung_up?;
    let seen = match found {
        Ok(seen) => seen,
        Err(error) => return exchange.answer(Err::<AuditEntries, _>(unreadable(&error))),
    };
    let Some(follow) = &mut follow else {
        return exchange.answer(Ok(entries(&mut rest)));
    };
    filter.after = seen;
    loop {
        if !rest.is_empty() {
            exchange.answer_more(&entries(&mut rest))?;
        } else if exchange.has_hung_up() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
        follow.read(|entry| {
            if filter.takes(entry) {
                rest.push(entry.json());
            }
            Ok(())
        })?;
    }
}

fn unreadable(error: &io::Error) -> ControlError {
    ControlError::failed(format!("the audit log cannot be read: {error}"))
}

fn entries(lines: &mut Vec<String>) -> AuditEntries {
    let parsed = lines
        .drain(..)
        .filter_map(|line| serde_json::from_str(&line).ok());
    AuditEntries {
        entries: parsed.collect::<Vec<Value>>(),
    }
}

fn filter(asked: &AuditQuery) -> Result<Filter, ControlError> {
    let kind = match &asked.kind {
        None => None,
        Some(name) => {
            let known = KINDS.into_iter().find(|kind| kind.as_str() == name);
            Some(known.ok_or_else(|| {
                let names = KINDS.map(Kind::as_str).join(", ");
                ControlError::invalid(format!("`kind` is one of {names}"))
            })?)
        }
    };
    Ok(Filter {
        service: asked.service.clone(),
        secret: asked.secret.clone(),
        kind,
        verdict: asked.verdict.clone(),
        operator: asked.operator.clone(),
        pid: asked.pid,
        from: asked.from.map(Time::from),
        // The whole second.
        to: asked.to.map(|to| Time(Time::from(to.plus(1)).0 - 1)),
        after: 0,
        last: None,
    })
}

pub(super) fn verify(
    host: &Host,
    _: &Operator,
    asked: AuditVerify,
) -> Result<AuditVerified, ControlError> {
    let anchor: Option<Anchor> = match &asked.anchor {
        Some(text) => Some(
            text.parse()
                .map_err(|error| ControlError::invalid(format!("{error}")))?,
        ),
        None => None,
    };
    let verified =
        audit::verify(host.audit.folder(), anchor).map_err(|error| unreadable(&error))?;
    Ok(verified_info(&verified))
}

/// What was found, as the control socket and `secretsd audit-verify` say it.
pub(crate) fn verified_info(verified: &audit::Verified) -> AuditVerified {
    let anchored = verified.anchored.map(|anchored| match anchored {
        Anchored::Fits => "fits",
        Anchored::Differs => "differs",
        Anchored::Cut => "cut",
        Anchored::TooOld => "too-old",
    });
    AuditVerified {
        whole: verified.is_whole(),
        entries: verified.entries,
        segments: verified.segments,
        first: verified.first,
        anchor: verified.last.to_string(),
        damage: verified.damage.iter().map(ToString::to_string).collect(),
        anchored: anchored.map(str::to_owned),
    }
}
