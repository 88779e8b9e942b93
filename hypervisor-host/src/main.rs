//! The `hypervisor-host` program; all of it is in the library.

fn main() -> std::process::ExitCode {
    hypervisor_host::cli::main()
}
