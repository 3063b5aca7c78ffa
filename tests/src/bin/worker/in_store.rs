//! Changes of a store, and all that it holds.

use std::collections::BTreeMap;
use std::path::Path;

use model::{ConfigKey, FieldName, Pins, SecretName, ServiceName, Timestamp};
use store::{
    Cipher, InitOptions, NewSlot, Operator, Reader, SecretBytes, SetOptions, SlotId, State, Store,
    Unlock, Value,
};
use sys::peer::PeerCredentials;
use tests::trial::{Bytes, Lines, Op, describe};

fn operator() -> Operator {
    let root = PeerCredentials {
        pid: 1,
        uid: 0,
        gid: 0,
    };
    Operator::authenticate(&root, &[], None).unwrap()
}

pub fn init(folder: &Path) -> Result<(), String> {
    let slot = NewSlot::File {
        path: None,
        label: String::new(),
    };
    let cipher = Cipher::default();
    Store::init(folder, InitOptions { cipher, slot })
        .map(drop)
        .map_err(|error| error.to_string())
}

pub fn open(folder: &Path) -> Result<(Store, String), String> {
    let store = Store::open(folder).map_err(|error| error.to_string())?;
    let report = store
        .unseal(Unlock::FileSlots)
        .map_err(|error| error.to_string())?;
    forget_keys(&store);
    let opened = report.opened.map(|opened| opened.to_string());
    let mut found = opened.unwrap_or_default();
    if !report.leftovers.is_empty() {
        found.push_str("; leftovers");
    }
    for warning in report.warnings {
        found.push_str("; ");
        found.push_str(&warning);
    }
    Ok((store, found))
}

/// The keyring is not needed here, and would keep the key of a store that is gone.
pub fn forget_keys(store: &Store) {
    if let State::Unsealed { generation } = store.state() {
        for generation in [generation, generation.saturating_sub(1), generation + 1] {
            let _ = sys::keyring::remove(&format!("deploy-secrets:{}:{generation}", store.id()));
        }
    }
}

pub fn change(store: &Store, op: &Op) -> Result<(), String> {
    let who = operator();
    let text = |error: store::WriteError| error.to_string();
    match op {
        Op::Set(name, value, keep) => {
            let options = SetOptions {
                keep: *keep,
                reshape: false,
            };
            let done = store.set(&who, &secret(name), made(value), options);
            done.map(drop).map_err(text)
        }
        Op::Rotate(name, value) => {
            let done = store.rotate(&who, &secret(name), made(value));
            done.map(drop).map_err(text)
        }
        Op::Rollback(name, to) => {
            let done = store.rollback(&who, &secret(name), *to);
            done.map(drop).map_err(text)
        }
        Op::Create(name, value, services) => {
            let services: Vec<ServiceName> = services.iter().map(|name| service(name)).collect();
            let done = store.create(&who, &secret(name), made(value), None, &services);
            done.map(drop).map_err(text)
        }
        Op::Delete(name) => store
            .delete(&who, &secret(name))
            .and_then(|deletion| deletion.commit())
            .map_err(text),
        Op::Grant(name, secrets, until) => {
            let until = until.map(Timestamp);
            let done = store.grant(&who, &service(name), &all(secrets), until, Pins::default());
            done.map_err(text)
        }
        Op::Revoke(name, secrets) => store
            .revoke(&who, &service(name), &all(secrets))
            .and_then(|revocation| revocation.commit())
            .map_err(text),
        Op::ConfigCreate(name, data) => {
            let done = store.config_create(&who, &name.parse().unwrap(), pairs(data), false);
            done.map(drop).map_err(text)
        }
        Op::ConfigUpdate(name, data) => {
            let done = store.config_update(&who, &name.parse().unwrap(), pairs(data));
            done.map(drop).map_err(text)
        }
        Op::ConfigDelete(name) => store
            .config_delete(&who, &name.parse().unwrap())
            .map_err(text),
        Op::RotateRoot => {
            let done = store.rotate_root(&who, &|_, _| {});
            forget_keys(store);
            done.map(drop).map_err(text)
        }
        Op::SlotAdd(path) => {
            let slot = NewSlot::File {
                path: Some(path.into()),
                label: path.clone(),
            };
            store.slot_add(&who, slot).map(drop).map_err(text)
        }
        Op::SlotRemove(number) => {
            let done = store.slot_remove(&who, SlotId(*number));
            forget_keys(store);
            done.map_err(text)
        }
        Op::Commit(_) | Op::Snapshot => panic!("{op:?} is of records"),
    }
}

fn secret(name: &str) -> SecretName {
    name.parse().unwrap()
}

fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

fn all(names: &[String]) -> Vec<SecretName> {
    names.iter().map(|name| secret(name)).collect()
}

fn made(value: &[(String, Bytes)]) -> Value {
    match value {
        [(field, bytes)] if field.is_empty() => Value::Single(SecretBytes::new(bytes.make())),
        fields => {
            let each = fields
                .iter()
                .map(|(name, bytes)| (name.parse().unwrap(), SecretBytes::new(bytes.make())));
            Value::Fields(each.collect::<BTreeMap<FieldName, SecretBytes>>())
        }
    }
}

fn pairs(data: &[(String, String)]) -> BTreeMap<ConfigKey, String> {
    data.iter()
        .map(|(key, value)| (key.parse().unwrap(), value.clone()))
        .collect()
}

/// Everything that the store holds, by each way in which it gives it.
pub fn lines(store: &Store) -> Lines {
    let who = operator();
    let mut lines = Lines::new();
    let mut names = Vec::new();
    for meta in store.list(&who, "").unwrap() {
        let name = &meta.name;
        lines.insert(format!("{name}/keep"), meta.keep.to_string());
        for version in store.history(&who, name).unwrap() {
            for (field, size) in &version.sizes {
                let label = field.as_ref().map_or("", FieldName::as_str);
                let how = store
                    .permit(Reader::Operator(&who), name)
                    .map_err(|denied| denied.to_string())
                    .and_then(|permit| {
                        let value = store.open_value(&permit, version.number, field.as_ref());
                        value.map_err(|error| error.to_string())
                    })
                    .map(|value| match value.len() as u64 == *size {
                        true => describe(&value),
                        false => "of another size than its head says".into(),
                    });
                let line = format!("{name}/{}/{label}", version.number);
                lines.insert(line, how.unwrap_or_else(|error| format!("error: {error}")));
            }
        }
        names.push(name.clone());
    }
    let grants = store.grants(&who, None).unwrap();
    for meta in &grants {
        let (service, grant) = (&meta.service, &meta.grant);
        let until = grant.until.map(|until| until.0);
        lines.insert(format!("{service}/{}", grant.secret), format!("{until:?}"));
    }
    for meta in &grants {
        for name in &names {
            let reader = Reader::Instance {
                service: &meta.service,
                number: 1,
                identity: &Default::default(),
            };
            let permitted = store.permit(reader, name).is_ok();
            if permitted != lines.contains_key(&format!("{}/{name}", meta.service)) {
                let how = format!("listed otherwise than permitted ({permitted})");
                lines.insert(format!("{}/{name}", meta.service), how);
            }
        }
    }
    for meta in store.config_list(&who, "").unwrap() {
        let how = match store.config_get(&who, &meta.name) {
            Ok(config) => {
                let data: BTreeMap<&str, &String> = config
                    .data
                    .iter()
                    .map(|(key, value)| (key.as_str(), value))
                    .collect();
                format!("{} {data:?}", config.meta.version)
            }
            Err(error) => format!("error: {error}"),
        };
        lines.insert(format!("{}/config", meta.name), how);
    }
    match store.slot_list(&who) {
        Ok(slots) => lines.extend(
            slots
                .into_iter()
                .map(|slot| (format!("admin/slot {}", slot.id), slot.label)),
        ),
        Err(error) => {
            lines.insert("admin/slots".into(), format!("error: {error}"));
        }
    }
    if let State::Unsealed { generation } = store.state() {
        lines.insert("admin/generation".into(), generation.to_string());
    }
    lines
}
