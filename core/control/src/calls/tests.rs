#![allow(clippy::unwrap_used)]
use super::*;
use crate::Plain;

#[test]
fn the_calls_of_the_original_design_are_understood() {
    let create: Create = serde_json::from_str(
        r#"{"name":"db.password","data":{"username":"admin","password":"s3cret"},"allowed_workloads":["api-server"]}"#,
    )
    .unwrap();
    assert!(matches!(create.plain().unwrap(), Plain::Fields(fields) if fields.len() == 2));
    assert_eq!(create.allowed_workloads[0].as_str(), "api-server");
    let create: Create = serde_json::from_str(r#"{"name":"a","value":"1"}"#).unwrap();
    assert!(create.allowed_workloads.is_empty(), "left out: nobody");
    let rotate: Rotate =
        serde_json::from_str(r#"{"name":"db.password","newData":{"password":"new"}}"#).unwrap();
    assert!(rotate.plain().is_ok());
    let list: List = serde_json::from_str(r#"{"prefix":"db."}"#).unwrap();
    assert_eq!(list.prefix.as_deref(), Some("db."));
    let config: ConfigCreate = serde_json::from_str(
        r#"{"name":"app","data":{"LEVEL":"debug","max":1.10},"immutable":true}"#,
    )
    .unwrap();
    assert_eq!(config.data["max"].0, "1.10");
}

#[test]
fn a_member_or_a_name_that_is_not_known_is_refused() {
    for text in [
        r#"{"name":"a","value":"1","unknown":2}"#,
        r#"{"name":"a","value":"1","value":"2"}"#,
        r#"{"name":"../a","value":"1"}"#,
        r#"{"name":"a","data":{"x/y":"1"}}"#,
        r#"{"name":"a","data":{"x":"1","x":"2"}}"#,
        r#"{"name":"a","value":"1","encoding":"rot13"}"#,
        r#"{"name":"a","value":"1","allowed_workloads":["../b"]}"#,
        r#"{"name":"a","value":null,"keep":-1}"#,
    ] {
        assert!(serde_json::from_str::<Create>(text).is_err(), "{text}");
    }
    assert!(
        serde_json::from_str::<Rotate>(r#"{"name":"a","data":{"x":"1"},"newData":{"x":"2"}}"#)
            .is_err()
    );
    assert!(serde_json::from_str::<ConfigCreate>(r#"{"name":"a","data":[]}"#).is_err());
    assert!(serde_json::from_str::<Status>(r#"{"x":1}"#).is_err());
}

#[test]
fn no_debug_of_parameters_shows_a_value() {
    let texts = [
        format!(
            "{:?}",
            serde_json::from_str::<Create>(r#"{"name":"a","value":"hush"}"#).unwrap()
        ),
        format!(
            "{:?}",
            serde_json::from_str::<Set>(r#"{"name":"a","data":{"x":"hush"}}"#).unwrap()
        ),
        format!(
            "{:?}",
            serde_json::from_str::<Rotate>(r#"{"name":"a","newData":{"x":"hush"}}"#).unwrap()
        ),
        format!(
            "{:?}",
            serde_json::from_str::<Unseal>(r#"{"passphrase":"hush"}"#).unwrap()
        ),
        format!(
            "{:?}",
            serde_json::from_str::<SlotAdd>(r#"{"kind":"passphrase","passphrase":"hush"}"#)
                .unwrap()
        ),
        format!(
            "{:?}",
            serde_json::from_str::<Got>(r#"{"name":"a","version":1,"created":1,"value":"hush"}"#)
                .unwrap()
        ),
        format!(
            "{:?}",
            serde_json::from_str::<ConfigUpdate>(r#"{"name":"a","data":{"x":"hush"}}"#).unwrap()
        ),
    ];
    for text in texts {
        assert!(!text.contains("hush"), "{text}");
    }
}

#[test]
fn a_method_has_two_names() {
    assert_eq!(long_name("secret.create"), Some("io.deploy.Secrets.Create"));
    assert_eq!(
        long_name("io.deploy.Keys.SlotAdd"),
        Some("io.deploy.Keys.SlotAdd")
    );
    assert_eq!(long_name("no.such"), None);
    let mut names: Vec<&str> = METHODS
        .iter()
        .flat_map(|(long, short)| [*long, *short])
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 2 * METHODS.len());
}
