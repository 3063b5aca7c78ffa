//! io.deploy.Secrets

use std::collections::BTreeMap;
use std::time::Duration;

use control::calls::{
    Adopted, Adoption, Create, Delete, Deleted, Done, Get, Got, Grant, GrantInfo, Granted, Grants,
    History, Late, List, Listed, Reader, Readers, ReadersFound, Revoke, Revoked, Rollback, Rotate,
    SecretInfo, Set, Shape, VersionInfo, Versions, Written,
};
use control::{ControlError, Plain};
use model::FieldName;
use store::{Operator, Permit, ReadError, SecretBytes, SecretMeta, SetOptions, Value, VersionMeta};
use zeroize::Zeroizing;

use super::{TRIES, refusal};
use crate::host::acts::Published;
use crate::host::{self, Host};

pub(super) fn create(
    host: &Host,
    operator: &Operator,
    asked: Create,
) -> Result<Written, ControlError> {
    let value = value(asked.plain()?);
    host.create(
        operator,
        &asked.name,
        value,
        asked.keep,
        &asked.allowed_workloads,
    )
    .map(written)
    .map_err(refusal::of_act)
}

pub(super) fn set(host: &Host, operator: &Operator, asked: Set) -> Result<Written, ControlError> {
    let value = value(asked.plain()?);
    let options = SetOptions {
        keep: asked.keep,
        reshape: asked.reshape,
    };
    host.set(operator, &asked.name, value, options)
        .map(written)
        .map_err(refusal::of_act)
}

pub(super) fn rotate(
    host: &Host,
    operator: &Operator,
    asked: Rotate,
) -> Result<Written, ControlError> {
    let value = value(asked.plain()?);
    let grace = asked.grace.map(Duration::from_secs);
    host.rotate(operator, &asked.name, value, grace)
        .map(written)
        .map_err(refusal::of_act)
}

pub(super) fn rollback(
    host: &Host,
    operator: &Operator,
    asked: Rollback,
) -> Result<Written, ControlError> {
    host.rollback(operator, &asked.name, asked.version)
        .map(written)
        .map_err(refusal::of_act)
}

pub(super) fn get(host: &Host, operator: &Operator, asked: Get) -> Result<Got, ControlError> {
    let reader = store::Reader::Operator(operator);
    let permit = host
        .store
        .permit(reader, &asked.name)
        .map_err(|denied| refusal::of_denied(denied, &asked.name))?;
    let mut tries = 0;
    let (version, plain) = loop {
        tries += 1;
        match read(host, &permit, &asked) {
            Err(ReadError::NoVersion(..)) if asked.version.is_none() && tries < TRIES => {}
            other => break other.map_err(|error| refusal::of_read(error, &asked.name))?,
        }
    };
    log::info!(
        "{}: reads version {} of {}",
        operator.name(),
        version.number,
        asked.name
    );
    let coded = plain.encode(asked.encoding)?;
    host.value_read(operator, &asked.name, version.number)
        .map_err(|error| ControlError::failed(error.to_string()))?;
    Ok(Got::new(asked.name, version.number, version.created, coded))
}

fn read(host: &Host, permit: &Permit, asked: &Get) -> Result<(VersionMeta, Plain), ReadError> {
    let secret = host.store.secret(permit)?;
    let version = match asked.version {
        Some(number) => secret
            .version(number)
            .ok_or_else(|| ReadError::NoVersion(secret.name.clone(), number))?,
        None => secret.newest(),
    };
    let open = |field: Option<&FieldName>| {
        let opened = host.store.open_value(permit, version.number, field)?;
        Ok::<_, ReadError>(Zeroizing::new(opened.to_vec()))
    };
    let plain = match (&asked.field, version.shape()) {
        (Some(field), _) => Plain::Single(open(Some(field))?),
        (None, store::Shape::Single) => Plain::Single(open(None)?),
        (None, store::Shape::Fields) => {
            let fields = version.sizes.iter().filter_map(|(field, _)| field.as_ref());
            let read = fields.map(|field| Ok((field.clone(), open(Some(field))?)));
            Plain::Fields(read.collect::<Result<_, ReadError>>()?)
        }
    };
    Ok((version.clone(), plain))
}

pub(super) fn list(host: &Host, operator: &Operator, asked: List) -> Result<Listed, ControlError> {
    let prefix = asked.prefix.unwrap_or_default();
    let secrets = host
        .store
        .list(operator, &prefix)
        .map_err(refusal::of_write)?;
    Ok(Listed {
        secrets: secrets.into_iter().map(secret_info).collect(),
    })
}

pub(super) fn history(
    host: &Host,
    operator: &Operator,
    asked: History,
) -> Result<Versions, ControlError> {
    let versions = host
        .store
        .history(operator, &asked.name)
        .map_err(refusal::of_write)?;
    let info = |version: &VersionMeta| VersionInfo {
        version: version.number,
        created: version.created,
        bytes: version.total_bytes(),
        fields: fields(version),
    };
    Ok(Versions {
        name: asked.name,
        versions: versions.iter().map(info).collect(),
    })
}

pub(super) fn delete(
    host: &Host,
    operator: &Operator,
    asked: Delete,
) -> Result<Deleted, ControlError> {
    let services = host
        .delete(operator, &asked.name)
        .map_err(refusal::of_act)?;
    Ok(Deleted { services })
}

pub(super) fn grant(host: &Host, operator: &Operator, asked: Grant) -> Result<Done, ControlError> {
    if asked.names.is_empty() {
        return Err(ControlError::invalid(
            "`names` is empty; name at least one secret",
        ));
    }
    let until = match (asked.until, asked.ttl) {
        (Some(_), Some(_)) => {
            return Err(ControlError::invalid(
                "both `until` and `ttl`: give one of them",
            ));
        }
        (None, Some(ttl)) => Some(store::now().plus(ttl)),
        (until, None) => until,
    };
    if until.is_some_and(|until| until <= store::now()) {
        return Err(ControlError::invalid("the grant would have ended already"));
    }
    host.grant(operator, &asked.service, &asked.names, until, asked.pins)
        .map(|()| Done {})
        .map_err(refusal::of_act)
}

pub(super) fn revoke(
    host: &Host,
    operator: &Operator,
    asked: Revoke,
) -> Result<Revoked, ControlError> {
    if asked.names.is_empty() {
        return Err(ControlError::invalid(
            "`names` is empty; name at least one secret",
        ));
    }
    let done = host
        .revoke(operator, &asked.service, &asked.names)
        .map_err(refusal::of_act)?;
    Ok(Revoked {
        revoked: done.revoked,
        not_granted: done.not_granted,
    })
}

pub(super) fn readers(
    host: &Host,
    operator: &Operator,
    asked: Readers,
) -> Result<ReadersFound, ControlError> {
    // For its error too: a name that is not there has no readers, but that is no answer.
    let history = host
        .store
        .history(operator, &asked.name)
        .map_err(refusal::of_write)?;
    let grants = host
        .store
        .grants(operator, None)
        .map_err(refusal::of_write)?;
    let showing = host.readers_of(&asked.name);
    let services = grants
        .into_iter()
        .filter(|one| one.grant.secret == asked.name)
        .map(|one| {
            let own = showing
                .iter()
                .filter(|(service, _)| *service == one.service);
            Reader {
                instances: own.map(|(_, instance)| instance.clone()).collect(),
                service: one.service,
                until: one.grant.until,
                left: one.left,
                pins: one.grant.pins,
            }
        });
    Ok(ReadersFound {
        services: services.collect(),
        version: history.last().map_or(0, |version| version.number),
        name: asked.name,
    })
}

/// The longest wait for readers.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn adopted(
    host: &Host,
    operator: &Operator,
    asked: Adopted,
) -> Result<Adoption, ControlError> {
    host.store
        .history(operator, &asked.name)
        .map_err(refusal::of_write)?;
    let patience = Duration::from_secs(asked.wait).min(LONGEST_WAIT);
    let (adopted, behind) = host.adopted(&asked.name, asked.version, patience);
    Ok(Adoption {
        adopted,
        behind: late(behind),
    })
}

/// Instances, as the control socket names them.
pub(super) fn late(instances: host::acts::Late) -> Vec<Late> {
    let one = |(instance, service)| Late { instance, service };
    instances.into_iter().map(one).collect()
}

pub(super) fn grants(
    host: &Host,
    operator: &Operator,
    asked: Grants,
) -> Result<Granted, ControlError> {
    let grants = host
        .store
        .grants(operator, asked.service.as_ref())
        .map_err(refusal::of_write)?;
    let info = |one: store::GrantMeta| GrantInfo {
        service: one.service,
        secret: one.grant.secret,
        until: one.grant.until,
        left: one.left,
        pins: one.grant.pins,
    };
    Ok(Granted {
        grants: grants.into_iter().map(info).collect(),
    })
}

fn value(plain: Plain) -> Value {
    match plain {
        Plain::Single(bytes) => Value::Single(bytes.into()),
        Plain::Fields(fields) => {
            let fields = fields.into_iter().map(|(name, bytes)| (name, bytes.into()));
            Value::Fields(fields.collect::<BTreeMap<_, SecretBytes>>())
        }
    }
}

fn written(published: Published) -> Written {
    let newest = published.meta.newest();
    Written {
        version: newest.number,
        created: newest.created,
        late: late(published.late),
        name: published.meta.name,
    }
}

fn secret_info(meta: SecretMeta) -> SecretInfo {
    let newest = meta.newest();
    SecretInfo {
        shape: match meta.shape {
            store::Shape::Single => Shape::Single,
            store::Shape::Fields => Shape::Fields,
        },
        version: newest.number,
        created: newest.created,
        fields: fields(newest),
        keep: meta.keep,
        versions: u32::try_from(meta.versions.len()).unwrap_or(u32::MAX),
        name: meta.name,
    }
}

fn fields(version: &VersionMeta) -> Vec<FieldName> {
    version
        .sizes
        .iter()
        .filter_map(|(field, _)| field.clone())
        .collect()
}
