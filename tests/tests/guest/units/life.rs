//! What reaches a unit that runs.

use super::{enable, fails, guest, instance_in, says, unit};

#[test]
fn a_rotation_and_a_revoke_reach_a_unit_that_runs() {
    let guest = guest();
    unit(&guest, "web.service", "User=daemon");
    enable(&guest, "web", "web");
    guest.ok("systemctl start web");
    let first = says(&guest, "web.service", "hunter2");
    guest.ok("printf second | deploy secret set db --file -");
    let second = says(&guest, "web.service", "second");
    assert_eq!(instance_in(&first), instance_in(&second));
    guest.ok("deploy secret revoke web db");
    says(&guest, "web.service", "No such file or directory");
    guest.ok("deploy secret grant web db");
    says(&guest, "web.service", "second");
    // Whoever is not in the unit gets nothing by its name.
    let stolen = guest.run("cat /run/deploy/views/secret/web.service/db");
    assert_eq!(stolen.out(), "");
    assert_ne!(stolen.code, 0);
}

#[test]
fn a_grant_that_is_pinned_to_the_unit_is_no_grant_outside_of_it() {
    let guest = guest();
    guest.ok("deploy secret revoke web db && deploy secret grant web db --unit web.service");
    unit(&guest, "web.service", "");
    unit(&guest, "other.service", "");
    enable(&guest, "web", "web");
    enable(&guest, "other", "web");
    guest.ok("systemctl start web");
    says(&guest, "web.service", "hunter2");
    let status = fails(&guest, "other");
    assert!(status.contains("web.service"), "{status}");
    guest.write(
        "/root/run.yaml",
        "service: web\nsecrets: [db]\ncommand: [cat, /secret/db]\n",
    );
    let refused = guest.run("deploy run /root/run.yaml").code(3);
    assert_eq!(refused.out(), "");
    refused.says(&["web.service"]);
}
