#![allow(clippy::unwrap_used)]
use std::path::Path;

use control::calls::Shape;

use super::*;

fn manifest(text: &str) -> Manifest {
    Manifest::parse(text.as_bytes(), Path::new("web.yaml")).unwrap()
}

fn info(name: &str, fields: &[&str]) -> (SecretName, SecretInfo) {
    let name: SecretName = name.parse().unwrap();
    let info = SecretInfo {
        name: name.clone(),
        shape: Shape::Single,
        version: 7,
        created: Timestamp(0),
        fields: fields.iter().map(|field| field.parse().unwrap()).collect(),
        keep: 10,
        versions: 1,
    };
    (name, info)
}

fn granted(name: &str, pins: Pins, left: Option<u64>) -> (SecretName, GrantInfo) {
    let secret: SecretName = name.parse().unwrap();
    let info = GrantInfo {
        service: "web".parse().unwrap(),
        secret: secret.clone(),
        until: None,
        left,
        pins,
    };
    (secret, info)
}

fn user(user: &str) -> Pins {
    Pins {
        user: Some(user.into()),
        ..Pins::default()
    }
}

#[test]
fn every_secret_says_how_it_stands_and_what_mends_it() {
    let manifest = manifest(
        "user: '33'\ncommand: [a]\nsecrets:\n  - good\n  - {name: tls, target: /etc/tls}\n  - none\n  - {name: maybe, optional: true}\n  - \
         ended\n  - other\n  - ungranted\n",
    );
    let fields = ["cert.pem", "key.pem"];
    let names = ["good", "ended", "other", "ungranted"];
    let mut facts = Facts {
        user: Some((33, 33)),
        secrets: names.iter().map(|name| info(name, &[])).collect(),
        grants: [
            granted("good", user("www-data"), None),
            granted("tls", Pins::default(), Some(60)),
            granted("ended", Pins::default(), Some(0)),
            granted("other", user("postgres"), None),
        ]
        .into(),
        users: [("www-data".into(), Some(33)), ("postgres".into(), None)].into(),
        ..Facts::default()
    };
    facts.secrets.extend([info("tls", &fields)]);
    let plan = decide(&manifest, &facts);
    use SecretState::*;
    let states: Vec<_> = plan.secrets.iter().map(|one| one.state).collect();
    let expected = [
        Granted,
        Granted,
        NoSuchSecret,
        NoSuchSecret,
        Ended,
        Pinned,
        NotGranted,
    ];
    assert_eq!(states, expected);
    let [good, tls, none, ..] = &plan.secrets[..] else {
        panic!();
    };
    assert_eq!((good.version, &*good.paths[0]), (Some(7), "/secret/good"));
    let paths = ["/secret/tls/", "/etc/tls/"].map(|at| fields.map(|field| format!("{at}{field}")));
    assert_eq!(tls.paths, paths.concat());
    assert_eq!(none.version, None);
    let mends: Vec<_> = plan
        .problems
        .iter()
        .filter_map(|one| one.mend.as_deref())
        .collect();
    assert_eq!(
        mends,
        [
            "deploy secret set none; deploy secret grant web none",
            "deploy secret grant web ended",
            "see the grant: deploy secret readers other",
            "deploy secret grant web ungranted",
        ]
    );
    assert!(plan.warnings[0].contains("maybe: there is no such secret; it is optional"));
    assert_eq!((plan.starts, plan.exit_code()), (false, 3));
}

#[test]
fn a_plan_that_starts_has_no_problem_and_its_warnings() {
    let manifest = manifest(
        "secrets:\n  - {name: key, env: API_KEY}\nconfig: {b: 1}\nconfig_from: [app, late]\n",
    );
    let unit = Pins {
        unit: Some("web.service".into()),
        ..Pins::default()
    };
    let key = |key: &str| key.parse::<ConfigKey>().unwrap();
    let mut facts = Facts {
        user: Some((0, 0)),
        secrets: [info("key", &[])].into(),
        grants: [granted("key", unit, None)].into(),
        configs: [
            (
                "app".parse().unwrap(),
                Some(vec![key("a"), key("b"), key("c")]),
            ),
            ("late".parse().unwrap(), Some(vec![key("c")])),
        ]
        .into(),
        ..Facts::default()
    };
    let plan = decide(&manifest, &facts);
    assert_eq!((plan.starts, plan.exit_code()), (true, 0));
    let from: Vec<_> = plan
        .config
        .iter()
        .map(|one| (one.key.as_str(), &*one.from))
        .collect();
    assert_eq!(from, [("a", "app"), ("b", "manifest"), ("c", "late")]);
    let warnings = plan.warnings.join("\n");
    for word in [
        "`command`",
        "unit web.service alone",
        "API_KEY_FILE",
        "/proc/PID/environ",
    ] {
        assert!(warnings.contains(word), "{word}: {warnings}");
    }
    // One of these is enough.
    facts.configs.insert("app".parse().unwrap(), None);
    assert_eq!(decide(&manifest, &facts).exit_code(), 1);
    facts.secrets = [info("key", &["a"])].into();
    let plan = decide(&manifest, &facts);
    assert!(
        plan.problems
            .iter()
            .any(|one| one.what.contains("has fields"))
    );
    facts.sealed = true;
    assert_eq!(decide(&manifest, &facts).exit_code(), 5);
}
