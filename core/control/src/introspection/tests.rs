#![allow(clippy::unwrap_used)]
use super::*;
use crate::calls::METHODS;

#[test]
fn every_method_is_described_and_every_description_is_a_method() {
    let mut described = Vec::new();
    for (interface, text) in &INTERFACES[1..] {
        assert!(text.contains(&format!("interface {interface}\n")));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("method ") {
                let name = rest.split('(').next().unwrap();
                described.push(format!("{interface}.{name}"));
            }
        }
    }
    let mut known: Vec<String> = METHODS.iter().map(|(long, _)| (*long).to_owned()).collect();
    described.sort();
    known.sort();
    assert_eq!(described, known);
}

#[test]
fn every_error_is_described() {
    let text = interface("io.deploy.Secrets").unwrap();
    for name in [
        "NotFound", "Conflict", "Denied", "Sealed", "Invalid", "Busy", "Failed",
    ] {
        assert!(text.contains(&format!("error {name} (")), "{name}");
    }
}

#[test]
fn a_client_may_ask_what_there_is() {
    let ask = |text: &str| introspect(&Call::parse(text.as_bytes()).unwrap());
    let info = ask(r#"{"method":"org.varlink.service.GetInfo"}"#)
        .unwrap()
        .unwrap();
    assert_eq!(
        info["interfaces"].as_array().unwrap().len(),
        INTERFACES.len()
    );
    let description = |interface: &str| {
        ask(&format!(
            r#"{{"method":"org.varlink.service.GetInterfaceDescription","parameters":{{"interface":"{interface}"}}}}"#
        ))
        .unwrap()
    };
    let keys = description("io.deploy.Keys").unwrap();
    assert!(
        keys["description"]
            .as_str()
            .unwrap()
            .contains("method Rotate")
    );
    assert!(description("io.deploy.None").is_err());
    assert!(ask(r#"{"method":"io.deploy.Daemon.Status"}"#).is_none());
}
