//! Many instances: what they cost secretsd in memory, and how long everything takes with them.
//!
//! The programs are the real ones, the services real processes of a mount namespace and a cgroup each,
//! made over the injector's own socket as `deploy run` makes them. What there is once, and not once for
//! each, is the supervisor: this process is the parent of all.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use control::inner::{Link, Reply, ToInjector};
use model::Manifest;
use rustix::process::Signal;
use serde_json::json;
use sys::cgroup::Cgroup;
use sys::process::{Child, Spawn};
use tests::claim::ClaimedUser;
use tests::command::run;
use tests::manifest::Asked;
use tests::{Pair, Varlink, process, traces, wait};

use crate::report::{Report, time};

/// Different secrets.
const SECRETS: usize = 1_000;
/// Of one instance.
const EACH: usize = 100;
/// Different services: one for each window of the secrets.
const SERVICES: usize = 100;
const INSTANCES: usize = 500;
/// Makes instances at the same time.
const MAKERS: usize = 8;
/// The one that all have, and have open.
const SHARED: &str = "shared";

pub fn measure(report: &mut Report) {
    // One for each service, as their parent.
    sys::sandbox::raise_descriptors().unwrap();
    let instances = std::env::var("SCALE").map_or(INSTANCES, |scale| scale.parse().unwrap());
    let pair = pair();
    let user = ClaimedUser::claim();
    let mut control = Varlink::connect(&pair);
    for secret in (0..SECRETS).map(name).chain([SHARED.into()]) {
        // Of the sizes of passwords and tokens.
        let value = format!("{secret}-{}", "x".repeat(50));
        let parameters = json!({"name": secret, "value": value});
        control
            .call("io.deploy.Secrets.Create", parameters)
            .unwrap();
    }
    for service in 0..SERVICES {
        let parameters = json!({"service": service_name(service), "names": secrets_of(service)});
        control.call("io.deploy.Secrets.Grant", parameters).unwrap();
    }
    let all = format!("{instances} instances x {EACH} secrets");
    // Found once each: they are looked for among all processes.
    let (mut secretsd, injector) = (pair.secretsd(), pair.injector());
    let before = resident(secretsd, "VmRSS");
    let manifests: Vec<Manifest> = (0..SERVICES)
        .map(|service| manifest(service, &user))
        .collect();
    let start = Instant::now();
    let services = make_all(&pair, &user, &manifests, instances);
    let took = start.elapsed();
    report.figure(
        &format!("{all}: to make all, each a process that opens one of them"),
        "",
        &format!(
            "{} ({} each)",
            of(took),
            of(took / u32::try_from(instances).unwrap())
        ),
    );
    let memory = |report: &mut Report, secretsd, when: &str| {
        let [now, most] = ["VmRSS", "VmHWM"].map(|line| resident(secretsd, line));
        let injector = resident(injector, "VmRSS");
        let figure = format!(
            "{now:.0} MB, at most {most:.0} MB until then (without any: {before:.0} MB; injector: \
             {injector:.0} MB)"
        );
        let what = format!("{all}: secretsd's resident memory{when}");
        report.figure(&what, "200 MB", &figure);
    };
    memory(report, secretsd, "");
    let start = Instant::now();
    traces::signal(secretsd, Signal::KILL, wait::LONG);
    let opened = open_once(&services[0]);
    let took = start.elapsed();
    report.figure(
        &format!("{all}: SIGKILL of secretsd to an open that the next one has answered"),
        "",
        &of(took),
    );
    assert!(opened);
    secretsd = pair.secretsd();
    memory(report, secretsd, ", of the next one");

    let start = Instant::now();
    let rotate = json!({"name": SHARED, "value": "another"});
    // A connection that says nothing for a while is closed.
    let mut control = Varlink::connect(&pair);
    let rotated = control.call("io.deploy.Secrets.Rotate", rotate).unwrap();
    let late = rotated["late"].as_array().map_or(0, Vec::len);
    report.figure(
        &format!("{all}: one rotation of a secret that all have open, to the answer"),
        "",
        &format!("{} ({late} told later)", of(start.elapsed())),
    );
    memory(report, secretsd, " after it");

    let files = instances * EACH;
    let (looked, found) = look(&pair, &services);
    report.figure(
        &format!("{all}: to look up every name once, through the master mount"),
        "",
        &format!("{} for {found} of {files}", of(looked)),
    );
    memory(report, secretsd, ", every name looked up");

    let start = Instant::now();
    let count = services.len();
    end_all(&pair, services);
    let took = start.elapsed();
    report.figure(
        &format!("{all}: to end all"),
        "",
        &format!(
            "{} ({} each)",
            of(took),
            of(took / u32::try_from(count).unwrap())
        ),
    );
    let _ = user;
}

fn of(duration: Duration) -> String {
    time(duration.as_secs_f64())
}

/// A pair whose run folder is on tmpfs, as /run is.
fn pair() -> Pair {
    let mut pair = Pair::prepare();
    let folder = pair.run_folder();
    std::fs::create_dir(&folder).unwrap();
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", "mode=755", "tmpfs"])
        .arg(&folder);
    run(mount, b"").ok();
    pair.init(&[]).ok();
    pair.up();
    pair
}

fn name(secret: usize) -> String {
    format!("team-{:02}.password-{secret:04}", secret % 20)
}

fn service_name(service: usize) -> String {
    format!("service-{service:03}")
}

/// A window of all: the shared one, and as many others as make [`EACH`].
fn secrets_of(service: usize) -> Vec<String> {
    let others = (0..EACH - 1).map(|at| name((service * SECRETS / SERVICES + at) % SECRETS));
    others.chain([SHARED.to_owned()]).collect()
}

fn manifest(service: usize, user: &ClaimedUser) -> Manifest {
    let names = secrets_of(service);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let asked = Asked::service(&service_name(service))
        .user(user.uid())
        .secrets(&names);
    let asked = asked.command(&["/bin/sh"]);
    Manifest::parse(
        asked.text().as_bytes(),
        std::path::Path::new("service.yaml"),
    )
    .unwrap()
}

/// A service that runs.
struct Service {
    number: u32,
    child: Child,
    cgroup: Cgroup,
}

fn make_all(
    pair: &Pair,
    user: &ClaimedUser,
    manifests: &[Manifest],
    instances: usize,
) -> Vec<Service> {
    let run = std::fs::metadata(pair.run_folder()).unwrap();
    let parent = sys::cgroup::root()
        .unwrap()
        .join("deploy-secrets")
        .join(format!("{:x}-{:x}", run.dev(), run.ino()));
    // Whatever happens to us, they end with the thread that is their parent.
    let make = |at: usize| {
        let manifest = &manifests[at % manifests.len()];
        let cgroup = Cgroup::create(&parent, &format!("{}.{at}", manifest.service)).unwrap();
        let spawn = Spawn::new("/bin/sh")
            // Waits without a further process until it is killed.
            .arg("-c")
            .arg(format!("exec 3</secret/{SHARED}; kill -STOP $$"))
            .user(user.uid(), user.uid(), &[])
            .cwd("/")
            .new_mount_namespace()
            .cgroup(&cgroup);
        let paused = spawn.start_paused().unwrap();
        let link = Link::connect(&pair.run_folder().join("inject.sock")).unwrap();
        let question = ToInjector::MakeInstance {
            manifest: manifest.clone(),
            manifest_path: "/service.yaml".into(),
            uid: user.uid(),
            gid: user.uid(),
            cgroup: Some(cgroup.path().to_owned()),
            root: None,
            container: None,
            image: None,
            again: false,
        };
        let number = match link.request(&question, &[paused.pidfd()]) {
            Ok((Reply::Made { number, .. }, _)) => number,
            other => panic!("instance {at}: {other:?}\n{}", pair.log_text()),
        };
        let child = paused.release().unwrap();
        Service {
            number,
            child,
            cgroup,
        }
    };
    let made = std::thread::scope(|threads| {
        let makers: Vec<_> = (0..MAKERS)
            .map(|maker| {
                let make = &make;
                threads.spawn(move || {
                    (maker..instances)
                        .step_by(MAKERS)
                        .map(make)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let made = makers.into_iter().flat_map(|maker| maker.join().unwrap());
        made.collect::<Vec<_>>()
    });
    // Each has its secret open before it stops itself.
    for service in &made {
        let pid = service.child.pid();
        wait::until("a service to have its secret open", || {
            process::stat(pid)
                .filter(|stat| stat.state == 'T')
                .map(drop)
        });
    }
    made
}

/// MB.
fn resident(pid: i32, line: &str) -> f64 {
    let text = process::status(pid, line).unwrap();
    text.trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
}

/// Looks every name of every instance up, as root; and says how many are there.
fn look(pair: &Pair, services: &[Service]) -> (Duration, usize) {
    let start = Instant::now();
    let views = pair.run_folder().join("views/secret");
    let names_of = |service: &Service| {
        let folder = std::fs::read_dir(views.join(service.number.to_string())).unwrap();
        folder
            .filter(|entry| entry.as_ref().unwrap().metadata().is_ok())
            .count()
    };
    let found = services.iter().map(names_of).sum();
    (start.elapsed(), found)
}

/// Whether a process in the service's place opens its secret.
fn open_once(service: &Service) -> bool {
    let cgroup = &service.cgroup;
    let cat = Spawn::new("/bin/sh")
        .arg("-c")
        .arg(format!("exec 3</secret/{SHARED}"))
        .mount_namespace_of(service.child.pidfd())
        .cgroup(cgroup);
    let mut cat = cat.start().unwrap();
    cat.wait().unwrap().code() == Some(0)
}

fn end_all(pair: &Pair, services: Vec<Service>) {
    let socket = pair.run_folder().join("inject.sock");
    std::thread::scope(|threads| {
        let mut parts: Vec<Vec<Service>> = (0..MAKERS).map(|_| Vec::new()).collect();
        for (at, service) in services.into_iter().enumerate() {
            parts[at % MAKERS].push(service);
        }
        for part in parts {
            let socket = &socket;
            threads.spawn(move || {
                for mut service in part {
                    service.cgroup.kill().unwrap();
                    let _ = service.child.wait();
                    let question = ToInjector::EndInstance {
                        number: service.number,
                    };
                    let link = Link::connect(socket).unwrap();
                    link.request(&question, &[]).unwrap();
                    service.cgroup.remove().unwrap();
                }
            });
        }
    });
}
