//! Security modules that would deny a unit the files of its view.

use std::path::Path;

use super::systemd::Shown;

const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// What to add, in words, if a profile may stand in the way.
pub fn advice(unit: &Shown, targets: [&Path; 2]) -> Vec<String> {
    let mut advice = Vec::new();
    let profiles = std::fs::read_to_string(PROFILES).unwrap_or_default();
    if let Some(profile) = confining(
        &profiles,
        unit.get("AppArmorProfile"),
        unit.get("ExecStart"),
    ) {
        let lines = targets.map(|target| format!("{}/** r,", target.display()));
        advice.push(format!(
            "AppArmor confines it by the profile {profile}: if that does not let it read the view, add \
             to /etc/apparmor.d/local/{}: {}",
            profile.trim_start_matches('/').replace('/', "."),
            lines.join(" ")
        ));
    }
    if std::fs::read_to_string(SELINUX).is_ok_and(|text| text.trim() == "1") {
        advice.push(
            "SELinux enforces: files of the view are of type fusefs_t; if the unit's domain may not \
             read those, see `ausearch -m avc` after a start, and `audit2allow`"
                .to_owned(),
        );
    }
    advice
}

/// The profile in force for a unit: the one that it names, or that of its program.
fn confining<'a>(profiles: &'a str, named: &str, exec: &str) -> Option<&'a str> {
    // `{ path=/usr/sbin/nginx ; argv[]=... }`
    let program = exec.split("path=").nth(1)?.split_whitespace().next()?;
    let named = named.trim_start_matches('-');
    profiles.lines().find_map(|line| {
        let (name, mode) = line.rsplit_once(" (")?;
        let is_it = name == named || name == program;
        (is_it && mode.starts_with("enforce")).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::confining;

    #[test]
    fn the_profile_of_the_program_or_the_one_that_is_named_and_in_force() {
        let profiles = "/usr/sbin/nginx (enforce)\nweb (enforce)\n/usr/sbin/redis (complain)\n";
        let exec = |path: &str| format!("{{ path={path} ; argv[]={path} -x ; ignore_errors=no }}");
        let nginx = exec("/usr/sbin/nginx");
        assert_eq!(confining(profiles, "", &nginx), Some("/usr/sbin/nginx"));
        assert_eq!(confining(profiles, "web", &exec("/x")), Some("web"));
        assert_eq!(confining(profiles, "", &exec("/usr/sbin/redis")), None);
        assert_eq!(confining("", "web", &nginx), None);
    }
}
