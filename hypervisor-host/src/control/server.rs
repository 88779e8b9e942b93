//! Clients of the control socket, each on a thread of its own.

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use super::protocol::{Answer, handle, read_line, write_line};
use super::socket::ControlSocket;
use super::{Facilities, Failure};
use crate::stats::lock;

/// Clients at a time.
pub const MOST_CLIENTS: usize = 16;
/// How long a client may leave an answer unread.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of the machine waits for what clients have asked for.
const FAREWELL: Duration = Duration::from_secs(2);
const STACK_BYTES: usize = 256 << 10;

/// A control socket that answers. With it goes the socket.
#[derive(Debug)]
pub struct ControlServer {
    // Removed first, so that nobody finds a machine that ends.
    socket: Option<ControlSocket>,
    stop: EventFd,
    clients: Arc<Clients>,
    thread: Option<JoinHandle<()>>,
}

/// Connections by a number.
#[derive(Debug, Default)]
struct Clients {
    connections: Mutex<BTreeMap<u64, UnixStream>>,
    one_less: Condvar,
}

impl ControlSocket {
    /// Answers clients by `facilities`.
    ///
    /// # Errors
    /// The operating system has no descriptor or thread left.
    pub fn serve(self, facilities: Facilities) -> io::Result<ControlServer> {
        let listener = self.listener.try_clone()?;
        let stop = EventFd::new(libc::EFD_NONBLOCK)?;
        let epoll = Epoll::new()?;
        let interest = |data| EpollEvent::new(EventSet::IN, data);
        epoll.ctl(ControlOperation::Add, listener.as_raw_fd(), interest(CLIENT))?;
        epoll.ctl(ControlOperation::Add, stop.as_raw_fd(), interest(STOP))?;
        let clients = Arc::new(Clients::default());
        let acceptor =
            Acceptor { listener, clients: clients.clone(), facilities: facilities.into() };
        let thread = Builder::new().name("control".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn(move || acceptor.run(&epoll))?;
        Ok(ControlServer { socket: Some(self), stop, clients, thread: Some(thread) })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.socket = None;
        // Fails only if the counter overflows.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // It does nothing that could panic.
            let _ = thread.join();
        }
        self.clients.dismiss();
    }
}

impl Clients {
    /// Lets clients have the answers to what they have asked, for a moment, and ends them.
    fn dismiss(&self) {
        let connections = lock(&self.connections);
        connections.values().for_each(|client| hang_up(client, Shutdown::Read));
        let all_gone = |it: &mut BTreeMap<_, _>| !it.is_empty();
        let waited = self.one_less.wait_timeout_while(connections, FAREWELL, all_gone);
        if let Ok((connections, _)) = waited {
            connections.values().for_each(|client| hang_up(client, Shutdown::Both));
        }
    }

    fn remove(&self, number: u64) {
        lock(&self.connections).remove(&number);
        self.one_less.notify_all();
    }
}

/// A client that is gone already needs no more.
fn hang_up(client: &UnixStream, how: Shutdown) {
    let _ = client.shutdown(how);
}

const CLIENT: u64 = 0;
const STOP: u64 = 1;

struct Acceptor {
    listener: UnixListener,
    clients: Arc<Clients>,
    facilities: Arc<Facilities>,
}

impl Acceptor {
    fn run(&self, epoll: &Epoll) {
        let mut number = 0;
        let mut events = [EpollEvent::default(); 2];
        loop {
            let count = match epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            if events.iter().take(count).any(|event| event.data() == STOP) {
                return;
            }
            if let Ok((client, _)) = self.listener.accept() {
                number += 1;
                // Whoever can't be served is hung up on.
                let _ = self.start(client, number);
            }
        }
    }

    fn start(&self, mut client: UnixStream, number: u64) -> io::Result<()> {
        client.set_nonblocking(false)?;
        client.set_write_timeout(Some(PATIENCE))?;
        let mut connections = lock(&self.clients.connections);
        if connections.len() >= MOST_CLIENTS {
            let busy = format!("this machine serves {MOST_CLIENTS} clients at a time");
            return write_line(&mut client, &Answer::from(Err(Failure::failed(busy))));
        }
        connections.insert(number, client.try_clone()?);
        drop(connections);
        let (clients, facilities) = (self.clients.clone(), self.facilities.clone());
        let thread = Builder::new().name("control client".into()).stack_size(STACK_BYTES);
        let started = thread.spawn(move || {
            // Whatever ended it: the client is gone.
            let _ = serve(&client, &facilities);
            clients.remove(number);
        });
        if started.is_err() {
            self.clients.remove(number);
        }
        started.map(drop)
    }
}

/// Answers a client's lines until there are no more.
fn serve(client: &UnixStream, facilities: &Facilities) -> io::Result<()> {
    let (mut lines, mut answers) = (BufReader::new(client), client);
    loop {
        let answer = match read_line(&mut lines) {
            Ok(None) => return Ok(()),
            Ok(Some(line)) => handle(&line, facilities),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // Where the next line begins is anybody's guess.
                let answer = Err(Failure::bad_request(error.to_string()));
                return write_line(&mut answers, &Answer::from(answer));
            }
            Err(error) => return Err(error),
        };
        write_line(&mut answers, &answer)?;
    }
}
