//! `hypervisor-host ctl`: asks a running machine, and tells the answer to a person.
//!
//! Exit code 0: done. 1: the machine or its guest says no. 2: bad input, or no machine.

mod request;
mod run;
mod say;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use self::run::{CODE_NO, run};
use crate::vsp::ic::kvp::Pool;

/// Arguments of `ctl`.
#[derive(Debug, Args)]
pub struct CtlArgs {
    /// The machine's control socket
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
    /// Tell the answer as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Seconds that the guest has for an answer
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=600))]
    timeout: u32,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How the machine and all its parts are
    Status,
    /// Whether the guest answers; exit code 1 if not
    Heartbeat,
    /// Have the guest end by itself
    Shutdown(ShutdownArgs),
    /// Keys and values that the guest keeps
    #[command(subcommand)]
    Kvp(KvpWhat),
    /// Disks
    #[command(subcommand)]
    Disk(DiskWhat),
    /// Network cards
    #[command(subcommand)]
    Net(NetWhat),
}

#[derive(Debug, Args)]
struct ShutdownArgs {
    /// Restart instead of switching off
    #[arg(long, conflicts_with = "hibernate")]
    reboot: bool,
    /// Hibernate instead of switching off
    #[arg(long)]
    hibernate: bool,
    /// Whatever stands against it in the guest
    #[arg(long)]
    force: bool,
    /// Wait until the machine has ended, for so many seconds at most
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "120")]
    wait: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum KvpWhat {
    /// Print the value of a key
    Get {
        /// The key
        key: String,
        /// The table to look in; without it all, the guest's own ones first
        #[arg(long, value_enum)]
        pool: Option<Pool>,
    },
    /// Give a key a value
    Set {
        /// The key
        key: String,
        /// The value
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// The table
        #[arg(long, value_enum, default_value_t)]
        pool: Pool,
    },
    /// Take a key away
    Delete {
        /// The key
        key: String,
        /// The table
        #[arg(long, value_enum, default_value_t)]
        pool: Pool,
    },
    /// Print keys and values
    List {
        /// The table
        #[arg(long, value_enum, default_value_t = Pool::Auto)]
        pool: Pool,
    },
}

#[derive(Debug, Subcommand)]
enum DiskWhat {
    /// List disks
    List,
    /// Add a disk
    Add {
        /// As for --disk
        disk: String,
    },
    /// Remove a disk
    Remove {
        /// Its name in the list
        name: String,
    },
    /// Tell the guest that a disk has another size now
    Resize {
        /// Its name in the list
        name: String,
        /// The size, such as 20G
        size: String,
    },
}

#[derive(Debug, Subcommand)]
enum NetWhat {
    /// List network cards
    List,
    /// Plug a network card's cable in, or out
    Link {
        /// Its name in the list
        name: String,
        /// up or down
        #[arg(value_enum)]
        state: Link,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Link {
    Up,
    Down,
}
