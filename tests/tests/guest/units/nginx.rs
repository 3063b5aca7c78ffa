//! Debian's nginx as it is, with the unit that its package brings: an ExecStartPre, Type=forking, a
//! reload of its own.

use serde_json::json;
use tests::{Guest, wait};

use super::{enable, fails, guest, instances, nothing_left};
use crate::main_pid;

const SITE: &str = "server { listen 443 ssl; ssl_certificate /secret/tls/cert.pem; \
                    ssl_certificate_key /secret/tls/key.pem; return 204; }\n";

/// Sets a new certificate and its key, as fields of one secret.
fn set_certificate(guest: &Guest, name: &str) {
    guest.ok(&format!(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN={name} -keyout /root/key -out /root/cert"
    ));
    let [cert, key] = ["/root/cert", "/root/key"].map(|path| guest.ok(&format!("cat {path}")));
    let fields = json!({"cert.pem": cert, "key.pem": key}).to_string();
    guest.write("/root/fields.json", fields);
    guest.ok("deploy secret set tls --from-json /root/fields.json; rm /root/key /root/cert /root/fields.json");
}

fn certificate(guest: &Guest) -> String {
    guest
        .run("openssl s_client -connect 127.0.0.1:443 </dev/null 2>/dev/null | openssl x509 -noout -subject")
        .out()
}

#[test]
fn debians_nginx_has_its_certificate_from_the_view_with_the_unit_that_it_comes_with() {
    let guest = guest();
    guest.install("nginx");
    guest.ok("systemctl stop nginx");
    guest.ok("rm /etc/nginx/sites-enabled/default");
    guest.write("/etc/nginx/conf.d/tls.conf", SITE);
    set_certificate(&guest, "first");
    guest.write(
        "/etc/deploy/nginx.yaml",
        "service: nginx\nsecrets: [tls]\non_change: {signal: HUP}\n",
    );
    // As the documents have it; nobody has granted it yet, so its ExecStartPre does not run.
    enable(&guest, "nginx.service", "nginx");
    let status = fails(&guest, "nginx");
    assert!(status.contains("deploy secret grant nginx tls"), "{status}");
    assert!(!status.contains("BIO_new_file"), "{status}");
    guest.ok("deploy secret grant nginx tls && systemctl start nginx");
    assert!(certificate(&guest).contains("first"));
    assert_eq!(instances(&guest).len(), 1);
    let pid = main_pid(&guest, "nginx");

    // By on_change, with nobody's reload.
    set_certificate(&guest, "second");
    wait::until("the second certificate", || {
        certificate(&guest).contains("second").then_some(())
    });
    // And by its own.
    guest.ok("systemctl reload nginx");
    assert!(certificate(&guest).contains("second"));
    assert_eq!(main_pid(&guest, "nginx"), pid);
    guest.ok("systemctl restart nginx");
    assert!(certificate(&guest).contains("second"));
    wait::until("one instance", || {
        (instances(&guest).len() == 1).then_some(())
    });
    let readers = guest.ok("deploy secret readers tls");
    assert!(readers.contains("nginx"), "{readers}");
    guest.ok("systemctl stop nginx");
    nothing_left(&guest);
    assert_eq!(
        guest
            .ok("deploy unit disable nginx; systemctl cat nginx | grep -c deploy || true")
            .lines()
            .last(),
        Some("0")
    );
}
