//! Links the kernel at fixed addresses with its own linker script, and refuses to build it with flags that
//! would give a program that can't boot.

use std::env;
use std::process::ExitCode;

/// What `.cargo/config.toml` must have set, and what goes wrong without it.
const FLAGS: [(&str, &str); 3] = [
    ("relocation-model=static", "the kernel runs at fixed addresses"),
    ("no-redzone=yes", "interrupts overwrite the red zone"),
    ("force-frame-pointers=yes", "backtraces follow frame pointers"),
];

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=kernel.ld");
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if let Some((flag, why)) = FLAGS.iter().find(|(flag, _)| !flags.contains(flag)) {
        println!(
            "cargo::error=cannot build the kernel: the compiler flag `-C {flag}` is missing ({why}); \
             run cargo inside the repository, so that it reads .cargo/config.toml, and leave RUSTFLAGS unset"
        );
        return ExitCode::FAILURE;
    }
    let script = format!("{}/kernel.ld", env::var("CARGO_MANIFEST_DIR").unwrap_or_default());
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none",
        "-Wl,-z,max-page-size=4096",
        "-Wl,-z,noexecstack",
        "-Wl,-z,norelro",
        "-Wl,--gc-sections",
        &format!("-Wl,-T,{script}"),
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    ExitCode::SUCCESS
}
