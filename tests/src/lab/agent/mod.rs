//! Process 1 of the lab: mounts, loads modules, then runs the jobs it is sent.
//!
//! It is the runner's own executable, packed as `/init` and started with the word [`WORD`].

mod port;
mod setup;

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::job::{Job, MAX_FILE_BYTES, Stream};
use super::protocol::{self, BEAT_SECONDS, CHUNK_BYTES, Decoder, Message, Request};
use super::{process, sys};

/// The first argument that makes a program the agent; the lab's kernel command line ends with it.
pub const WORD: &str = "lab-agent";
/// Where the batch's files lie in the lab.
pub const DIRECTORY: &str = "/batch";
/// Lists the modules to load, one on each line: the file, then its parameters.
pub const MODULE_LIST: &str = "/modules/list";

/// Becomes the lab's agent, and does not return, if the kernel of a lab started this program.
///
/// Call it first thing in `main` of every program that uses the lab.
pub fn become_agent_if_asked() {
    if std::process::id() == 1 && std::env::args().nth(1).as_deref() == Some(WORD) {
        run();
    }
}

/// The agent proper. Returns only by ending process 1, which the kernel answers with a panic, which the
/// runner sees as a lab that died.
pub fn run() -> ! {
    if let Err(error) = serve() {
        eprintln!("lab agent: {error}");
    }
    std::process::exit(1);
}

fn serve() -> Result<(), String> {
    let kvm = setup::prepare()?;
    let mut port = port::open()?;
    let writer = port.try_clone().map_err(|error| format!("cannot share the port: {error}"))?;
    let link = Link(Arc::new(Mutex::new(writer)));
    link.send(&Message::Hello { kernel: setup::kernel_release(), cpus: cpus(), kvm });
    beat(link.clone());
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match port.read(&mut buffer) {
            // Nobody on the other side, for now.
            Ok(0) => thread::sleep(Duration::from_millis(100)),
            Ok(count) => {
                for request in decoder.push::<Request>(buffer.get(..count).unwrap_or_default()) {
                    let Request::Run { id, job } = request;
                    run_job(&link, id, &job);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("cannot read from the port: {error}")),
        }
    }
}

fn cpus() -> usize {
    thread::available_parallelism().map_or(0, Into::into)
}

/// The way to the runner, shared by the beat and the job.
#[derive(Clone)]
struct Link(Arc<Mutex<std::fs::File>>);

impl Link {
    fn send(&self, message: &Message) {
        let line = protocol::encode(message);
        let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a way to the runner there is nobody to tell; the missing beat says it.
        if let Err(error) = port.write_all(&line) {
            eprintln!("lab agent: cannot write to the port: {error}");
        }
    }
}

/// Beats for ever, before all else: a job may keep every processor busy.
fn beat(link: Link) {
    thread::spawn(move || {
        sys::raise_priority();
        loop {
            link.send(&Message::Beat);
            thread::sleep(Duration::from_secs(BEAT_SECONDS));
        }
    });
}

fn run_job(link: &Link, id: usize, job: &Job) {
    let directory = Path::new(DIRECTORY);
    let mut sink = |stream: Stream, data: &[u8]| {
        for chunk in data.chunks(CHUNK_BYTES) {
            link.send(&Message::Output { id, stream, data: chunk.to_vec() });
        }
    };
    let finished = process::run(job, directory, &mut sink);
    for path in &job.collect {
        send_file(link, id, directory, path);
    }
    let micros = u64::try_from(finished.duration.as_micros()).unwrap_or(u64::MAX);
    let dropped_bytes = finished.dropped_bytes;
    link.send(&Message::Done { id, exit: finished.exit, micros, dropped_bytes });
}

/// Sends a collected file; one that the job did not write is simply not sent.
fn send_file(link: &Link, id: usize, directory: &Path, path: &str) {
    let Ok(file) = std::fs::File::open(directory.join(path)) else { return };
    let mut data = Vec::new();
    if let Err(error) = file.take(MAX_FILE_BYTES).read_to_end(&mut data) {
        eprintln!("lab agent: cannot read {path}: {error}");
        return;
    }
    // An empty file is a file too.
    let chunks = data.chunks(CHUNK_BYTES).chain(data.is_empty().then_some(&[][..]));
    for chunk in chunks {
        link.send(&Message::File { id, path: path.to_owned(), data: chunk.to_vec() });
    }
}
