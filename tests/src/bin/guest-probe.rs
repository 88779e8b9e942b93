//! `guest-probe`: see [`tests::probe`].

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tests::probe::bench::{self, blocks, frames, watch};
use tests::probe::{cases, disk, net, tray};

/// Sees whether data survive a device.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write the first BYTES of DEVICE with the stream of SEED
    Fill { device: PathBuf, bytes: u64, seed: u64 },
    /// Compare the first BYTES of DEVICE with the stream of SEED
    Check { device: PathBuf, bytes: u64, seed: u64 },
    /// Read and write blocks of the first BYTES of DEVICE at random, comparing
    Random { device: PathBuf, bytes: u64, seed: u64, operations: u64, threads: u64 },
    /// Read or write BYTES of DEVICE, OPERATIONS times, DEPTH of them at a time, between marks
    BenchBlocks {
        device: PathBuf,
        work: blocks::Work,
        depth: u32,
        operations: u64,
        #[arg(default_value_t = disk::BLOCK)]
        bytes: usize,
    },
    /// Move the tray of the CD-ROM drive DEVICE, or compare its state
    Tray { device: PathBuf, what: tray::Tray },
    /// Run the conformance cases that the environment names, and end the machine
    Cases,
    /// Put marks around nothing
    BenchNothing,
    /// Send COUNT frames of BYTES from INTERFACE to an address, between marks
    BenchSend { interface: String, to: String, bytes: usize, count: u64 },
    /// Take COUNT frames of BYTES that come by INTERFACE, between marks
    BenchReceive { interface: String, bytes: usize, count: u64 },
    /// Send frames of BYTES from INTERFACE to an address until ended
    Flood { interface: String, to: String, bytes: usize },
    /// Send so many packets of 1,500 bytes to ADDRESS, between marks
    BenchPackets { address: String, packets: u64 },
    /// Beside a QEMU, the process MONITOR: print KVM's counters, which lie in FOLDER, for each byte that comes by FIFO
    WatchMarks { fifo: PathBuf, folder: PathBuf, monitor: u32 },
    /// Serve streams on ADDRESS until ended
    Serve { address: String },
    /// Send BYTES to a server
    Send { address: String, bytes: u64, seed: u64 },
    /// Have a server send BYTES
    Receive { address: String, bytes: u64, seed: u64 },
}

fn main() -> ExitCode {
    match run(Arguments::parse().what) {
        Ok(done) => {
            println!("probe: ok {done}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("probe: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn elapsed(elapsed_100ns: u128) -> String {
    format!("elapsed_100ns {elapsed_100ns}")
}

fn run(what: What) -> Result<String> {
    Ok(match what {
        What::Fill { device, bytes, seed } => {
            disk::fill_device(&device, bytes, seed)?;
            format!("filled {bytes}")
        }
        What::Check { device, bytes, seed } => {
            disk::check_device(&device, bytes, seed)?;
            format!("checked {bytes}")
        }
        What::Random { device, bytes, seed, operations, threads } => {
            let work = disk::work_at_random(&device, bytes, seed, operations, threads)?;
            format!("reads {} writes {}", work.reads, work.writes)
        }
        What::BenchBlocks { device, work, depth, operations, bytes } => {
            elapsed(blocks::bench(&device, work, depth, operations, bytes)?)
        }
        What::Tray { device, what } => {
            tray::tray(&device, what)?;
            format!("{what:?}")
        }
        What::Cases => cases::run::run_and_end()?,
        What::BenchNothing => elapsed(bench::nothing()?),
        What::BenchPackets { address, packets } => elapsed(frames::packets(&address, packets)?),
        What::BenchSend { interface, to, bytes, count } => {
            elapsed(frames::send_frames(&interface, frames::parse_mac(&to)?, bytes, count)?)
        }
        What::BenchReceive { interface, bytes, count } => {
            elapsed(frames::receive_frames(&interface, bytes, count)?)
        }
        What::Flood { interface, to, bytes } => {
            frames::flood(&interface, frames::parse_mac(&to)?, bytes)?;
            String::from("ended")
        }
        What::WatchMarks { fifo, folder, monitor } => {
            watch::marks(&fifo, &folder, monitor)?;
            String::from("watched")
        }
        What::Serve { address } => {
            net::serve(&address, |address| println!("probe: serving {address}"))?;
            String::from("served")
        }
        What::Send { address, bytes, seed } => {
            net::transfer(&address, net::Direction::Up, bytes, seed)?;
            format!("sent {bytes}")
        }
        What::Receive { address, bytes, seed } => {
            net::transfer(&address, net::Direction::Down, bytes, seed)?;
            format!("received {bytes}")
        }
    })
}
