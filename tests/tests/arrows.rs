//! The dependency arrows of `docs/architecture.md`, and what a registry asks of a library, read from `cargo metadata`.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Every crate of the workspace, and the crates of the workspace that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("hv-abi", &[]),
    ("vmbus-ring", &["hv-abi"]),
    ("hv-enlightenments", &["hv-abi"]),
    ("vsc-drivers", &["hv-abi", "vmbus-ring", "hv-enlightenments"]),
    ("workload", &[]),
    ("tiny-guest", &["hv-abi", "hv-enlightenments", "vsc-drivers"]),
    ("vsc-cases", &["hv-abi", "vmbus-ring", "vsc-drivers"]),
    ("kernel", &["hv-abi", "hv-enlightenments", "vsc-drivers", "vsc-cases", "workload"]),
    ("hypervisor-host", &["hv-abi", "vmbus-ring"]),
    (
        "tests",
        &["hv-abi", "hv-enlightenments", "hypervisor-host", "kernel", "vsc-cases", "workload"],
    ),
    (
        "in-process",
        &[
            "hv-abi",
            "vmbus-ring",
            "hv-enlightenments",
            "vsc-drivers",
            "vsc-cases",
            "hypervisor-host",
            "kernel",
        ],
    ),
];

/// The workspace's packages, as cargo describes them.
fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    list(&metadata["packages"])
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn name(value: &Value) -> String {
    value["name"].as_str().unwrap_or_default().to_string()
}

fn workspace() -> BTreeMap<String, Vec<String>> {
    let packages = packages();
    let ours: Vec<String> = packages.iter().map(name).collect();
    let arrows = |package: &Value| {
        // A crate may be its own dev-dependency, to switch a feature on in its tests.
        let own = name(package);
        let used = list(&package["dependencies"]).iter().map(name).collect::<Vec<_>>();
        used.into_iter().filter(|used| ours.contains(used) && *used != own).collect()
    };
    packages.iter().map(|package| (name(package), arrows(package))).collect()
}

#[test]
fn crates_depend_only_on_those_below_them() {
    for (crate_name, used) in workspace() {
        let allowed = ALLOWED.iter().find(|(name, _)| *name == crate_name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{crate_name} is not in the table"));
        for other in used {
            assert!(allowed.contains(&other.as_str()), "{crate_name} must not use {other}");
        }
    }
}

#[test]
fn the_table_names_only_crates_that_exist() {
    let workspace = workspace();
    for (name, _) in ALLOWED {
        assert!(workspace.contains_key(*name), "{name} is in the table and not in the workspace");
    }
}

/// What crates.io refuses otherwise (The Cargo Book, *The Manifest Format*), beyond what `cargo package` looks at: at most five keywords of at
/// most 20 characters, at most five categories, a description and a license.
#[test]
fn a_library_has_what_a_registry_asks_for_and_nothing_else_can_be_published() {
    let mut libraries = Vec::new();
    for package in packages() {
        let crate_name = name(&package);
        if list(&package["publish"]).is_empty() && package["publish"].is_array() {
            continue;
        }
        for field in ["description", "license", "readme"] {
            assert!(
                package[field].as_str().is_some_and(|text| !text.is_empty()),
                "{crate_name}: {field}"
            );
        }
        let (keywords, categories) = (list(&package["keywords"]), list(&package["categories"]));
        assert!((1..=5).contains(&keywords.len()), "{crate_name}: {keywords:?}");
        assert!((1..=5).contains(&categories.len()), "{crate_name}: {categories:?}");
        for keyword in keywords.iter().filter_map(Value::as_str) {
            let good = |c: char| c.is_ascii_alphanumeric() || "-_+".contains(c);
            assert!(keyword.len() <= 20 && keyword.chars().all(good), "{crate_name}: {keyword}");
        }
        for dependency in list(&package["dependencies"]) {
            let development = dependency["kind"] == "dev";
            assert!(development || dependency["req"] != "*", "{crate_name}: {}", name(&dependency));
        }
        libraries.push(crate_name);
    }
    libraries.sort();
    assert_eq!(libraries, ["hv-abi", "hv-enlightenments", "vmbus-ring", "vsc-drivers"]);
}
