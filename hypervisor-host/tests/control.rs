//! `hypervisor-host ctl` against machines that are made up: what a person reads, and exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use hypervisor_host::control::machine::{HasEnding, MachineFacility};
use hypervisor_host::control::{
    Arguments, ControlServer, ControlSocket, Facilities, Facility, Failure,
};
use hypervisor_host::outcome::{Ending, Outcome, Reason};
use serde_json::{Value, json};

/// A facility that answers every verb alike.
struct Scripted {
    name: &'static str,
    verbs: &'static [&'static str],
    answer: fn(&str, Value) -> Result<Value, Failure>,
}

impl Facility for Scripted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn verbs(&self) -> &'static [&'static str] {
        self.verbs
    }

    fn call(&self, verb: &str, arguments: Arguments) -> Result<Value, Failure> {
        (self.answer)(verb, Value::Object(arguments.0))
    }

    fn status(&self) -> Value {
        json!("scripted")
    }
}

struct Machine(Ending);

impl HasEnding for Machine {
    fn ending(&self) -> &Ending {
        &self.0
    }
}

/// A machine with these facilities, at a path of its own.
struct Running {
    _server: ControlServer,
    machine: Arc<Machine>,
    path: PathBuf,
}

fn run(name: &str, facilities: Vec<Scripted>) -> Running {
    // Not the build folder, which may be anywhere: a socket's path has 107 bytes at most.
    let path = std::env::temp_dir().join(format!("enl-ctl-{name}-{}", std::process::id()));
    let machine = Arc::new(Machine(Ending::new().unwrap()));
    let mut all: Facilities =
        vec![Arc::new(MachineFacility::new(machine.clone(), json!({"vps": 3})))];
    all.extend(facilities.into_iter().map(|it| Arc::new(it) as Arc<dyn Facility>));
    let server = ControlSocket::bind(&path).unwrap().serve(all).unwrap();
    Running { _server: server, machine, path }
}

fn ctl(path: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hypervisor-host"))
        .arg("ctl")
        .arg("--control")
        .arg(path)
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

#[track_caller]
fn check(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let out = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{out}{error}");
    assert_eq!(out, stdout);
    match stderr {
        "" => assert_eq!(error, ""),
        part => {
            assert!(error.contains(part), "{error}");
            assert!(error.starts_with("hypervisor-host: ") && error.ends_with('\n'), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}

#[test]
fn without_a_machine_there_is_a_sentence() {
    check(
        &ctl(Path::new("/nowhere/socket"), "heartbeat"),
        2,
        "",
        "give the path that its --control has",
    );
    check(&ctl(Path::new("/dev/null"), "status"), 2, "", "cannot reach a machine at /dev/null");
}

#[test]
fn bad_arguments_are_refused_before_anybody_is_asked() {
    for arguments in [
        "",
        "reboot",
        "shutdown --reboot --hibernate",
        "shutdown --wait=soon",
        "kvp",
        "kvp get",
        "kvp get a --pool intrinsic",
        "kvp set a",
        "disk remove",
        "net link eth0 sideways",
        "heartbeat --timeout 0",
        "heartbeat --timeout 601",
    ] {
        let output = ctl(Path::new("/nowhere/socket"), arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {error}");
        assert!(!error.contains("/nowhere"), "{arguments}: {error}");
    }
}

#[test]
fn a_heartbeat_is_told_and_a_lost_one_is_a_no() {
    fn beat(pulse: &str) -> Result<Value, Failure> {
        Ok(json!({
            "pulse": pulse, "application": "healthy", "sent": 2, "answered": 2, "missed": 0,
            "late": 0,
        }))
    }
    let facility = |answer| Scripted { name: "heartbeat", verbs: &["get"], answer };
    let told = ": application healthy, 2 sent, 2 answered, 0 missed, 0 of these late\n";
    let well = run("well", vec![facility(|_, _| beat("ok"))]);
    check(&ctl(&well.path, "heartbeat"), 0, &format!("ok{told}"), "");
    let lost = run("lost", vec![facility(|_, _| beat("lost"))]);
    check(&ctl(&lost.path, "heartbeat"), 1, &format!("lost{told}"), "");
    let json = ctl(&lost.path, "heartbeat --json");
    let answer: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((answer["pulse"].as_str(), json.status.code()), (Some("lost"), Some(1)));
}

#[test]
fn what_the_machine_lacks_is_named() {
    let bare = run("bare", Vec::new());
    check(
        &ctl(&bare.path, "heartbeat"),
        2,
        "",
        "this machine has no facility 'heartbeat', only: machine;",
    );
    check(&ctl(&bare.path, "disk list"), 2, "", "this machine has no facility 'disk'");
    let status = ctl(&bare.path, "status");
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status, json!({"machine": {"vps": 3, "ended": null}}));
}

#[test]
fn keys_are_asked_for_as_the_arguments_say() {
    let kvp = Scripted {
        name: "kvp",
        verbs: &["get", "set", "delete", "list"],
        answer: |verb, arguments| match verb {
            "list" => Ok(json!([{"key": "a", "value": arguments["pool"]}])),
            "get" if arguments["key"] == "none" => Err(Failure::failed(
                "cannot read the key 'none': the guest has no such key there; list",
            )),
            "get" => Ok(json!({ "value": arguments.to_string() })),
            _ => Ok(json!({})),
        },
    };
    let running = run("kvp", vec![kvp]);
    check(&ctl(&running.path, "kvp list"), 0, "a=auto\n", "");
    check(&ctl(&running.path, "kvp list --pool auto-external"), 0, "a=auto-external\n", "");
    check(&ctl(&running.path, "kvp set k v"), 0, "", "");
    check(&ctl(&running.path, "kvp delete k"), 0, "", "");
    check(&ctl(&running.path, "kvp get none"), 1, "", "no such key");
    let asked = "{\"key\":\"k\",\"pool\":\"guest\",\"seconds\":3}\n";
    check(&ctl(&running.path, "kvp get k --pool guest --timeout 3"), 0, asked, "");
    let asked = "{\"key\":\"k\",\"seconds\":10}\n";
    check(&ctl(&running.path, "kvp get k"), 0, asked, "");
}

#[test]
fn a_shutdown_can_be_waited_for() {
    let shutdown = Scripted {
        name: "shutdown",
        verbs: &["request"],
        answer: |_, arguments| match arguments["kind"].as_str() {
            Some("power-off") => Ok(json!({})),
            _ => Err(Failure::failed("cannot end the guest: it won't; ask nicely")),
        },
    };
    let running = run("shutdown", vec![shutdown]);
    check(&ctl(&running.path, "shutdown"), 0, "the guest says that it will\n", "");
    check(&ctl(&running.path, "shutdown --reboot --wait"), 1, "", "cannot end the guest");
    check(&ctl(&running.path, "shutdown --wait=0"), 1, "", "has not within 0 seconds");
    running.machine.0.set(Outcome::guest(Reason::PowerOff, 0));
    let told = "the machine has ended: power-off, exit code 0\n";
    check(&ctl(&running.path, "shutdown --wait"), 0, told, "");
}

#[test]
fn a_machine_that_dies_instead_is_a_no() {
    let shutdown = Scripted { name: "shutdown", verbs: &["request"], answer: |_, _| Ok(json!({})) };
    let running = run("died", vec![shutdown]);
    running.machine.0.set(Outcome::died(Reason::TripleFault, "registers\n…".into()));
    let told = "the machine has ended: triple-fault, exit code 125\n";
    check(&ctl(&running.path, "shutdown --wait"), 1, told, "");
}

#[test]
fn disks_and_network_cards_are_asked_for_alike() {
    let echo = |verb: &str, arguments| Ok(json!({ verb: arguments }));
    let facility = |name, verbs| Scripted { name, verbs, answer: echo };
    let disks = facility("disk", &["list", "add", "remove", "resize"]);
    let running = run("devices", vec![disks, facility("net", &["list", "link"])]);
    for (arguments, asked) in [
        ("disk list", json!({"list": {}})),
        ("disk add data.img,ro", json!({"add": {"disk": "data.img,ro"}})),
        ("disk remove disk0", json!({"remove": {"name": "disk0"}})),
        ("disk resize disk0 20G", json!({"resize": {"name": "disk0", "size": "20G"}})),
        ("net link net0 down", json!({"link": {"name": "net0", "up": false}})),
    ] {
        let output = ctl(&running.path, arguments);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((answer, output.status.code()), (asked, Some(0)));
    }
}
