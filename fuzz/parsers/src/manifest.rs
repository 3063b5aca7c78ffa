//! Manifests, both forms.

use std::path::Path;

use model::{MAX_TEXT, Manifest};

use crate::check_refusal;

/// Either form: what is refused has a place and few words, what is taken comes back from YAML and
/// from JSON.
pub fn manifest(bytes: &[u8]) -> bool {
    let parse = |text: &[u8]| Manifest::parse(text, Path::new("web.yaml"));
    let manifest = match parse(bytes) {
        Ok(manifest) => manifest,
        Err(error) => {
            check_refusal(&error);
            let place = error.place();
            assert!(place.is_none_or(|(line, column)| line >= 1 && column >= 1));
            return false;
        }
    };
    let json = serde_json::to_string(&manifest).unwrap();
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    let yaml = as_yaml(&manifest);
    // Escapes may make it longer than a manifest is.
    if yaml.len() <= MAX_TEXT {
        assert_eq!(parse(yaml.as_bytes()).unwrap(), manifest, "{yaml}");
    }
    true
}

/// JSON is YAML, but for characters that YAML has in escapes alone.
fn as_yaml(m: &Manifest) -> String {
    let mut document = serde_json::json!({
        "service": m.service, "secrets": m.secrets, "config": m.config,
        "config_from": m.config_from, "restart": m.restart, "targets": m.targets,
        "file_mode": format!("{:04o}", m.modes.file),
        "folder_mode": format!("{:04o}", m.modes.folder),
    });
    if let Some(user) = &m.user {
        document["user"] = user.clone().into();
    }
    if !m.command.is_empty() {
        document["command"] = m.command.clone().into();
    }
    if let Some(on_change) = &m.on_change {
        document["on_change"] = serde_json::to_value(on_change).unwrap();
    }
    let escaped = |c: char| match u32::from(c) {
        0x20..=0x7e => c.to_string(),
        code @ ..=0xffff => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    };
    document.to_string().chars().map(escaped).collect()
}
