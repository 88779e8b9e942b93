//! Sockets and what goes over them.

use alloc::vec;
use alloc::vec::Vec;
use core::task::Waker;

use kernel::cmdline::ServeOptions;
use kernel::files::volume::Volume;
use kernel::http::connection::{Connection, Filled};
use smoltcp::iface::{Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use vsc_drivers::Hal;
use vsc_drivers::netvsc::smoltcp::NetDevice;
use vsc_drivers::netvsc::{NetVsc, Statistics};

use super::disk::{Buffer, ChunkReader};
use crate::machine::heap;
use crate::machine::vmbus::KernelHal;
use crate::tcpip::{self, now};

const PORT: u16 = 80;
/// Connections at the same time.
const SOCKETS: usize = 16;
const RECEIVE_BYTES: usize = 8 << 10;
/// Chunks that are read ahead of each connection.
const AHEAD: u64 = 4;
/// A connection on which nothing has moved for so long is dropped.
const IDLE: Duration = Duration::from_secs(30);

/// What fits into memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// Chunks of the disk to keep.
    pub(super) chunks: usize,
    send_bytes: usize,
}

impl Sizes {
    /// About a third of the free heap each for sockets and for the disk, but no more than is of use.
    pub(super) fn for_this_heap() -> Self {
        let (used, all) = heap::usage();
        let third = all.saturating_sub(used) / 3;
        let send_bytes = (third / SOCKETS).clamp(8 << 10, 256 << 10);
        Self { chunks: (third / kernel::files::cache::CHUNK_BYTES).clamp(8, 96), send_bytes }
    }
}

struct Client {
    handle: SocketHandle,
    connection: Connection,
    /// When something moved last.
    moved: Instant,
}

/// All sockets.
pub(super) struct Server {
    hal: KernelHal,
    device: NetDevice<KernelHal>,
    interface: Interface,
    sockets: SocketSet<'static>,
    clients: Vec<Client>,
    /// Responses and bytes of connections that are over.
    responses: u64,
    sent_bytes: u64,
}

impl Server {
    pub(super) fn new(
        hal: KernelHal,
        net: NetVsc<KernelHal>,
        options: &ServeOptions,
        sizes: Sizes,
    ) -> Self {
        let mac = net.mac();
        let mut device = NetDevice::new(net);
        let interface = tcpip::interface(hal, &mut device, mac, options);
        let mut sockets = SocketSet::new(Vec::new());
        let client = |_| {
            let receive = tcp::SocketBuffer::new(vec![0; RECEIVE_BYTES]);
            let send = tcp::SocketBuffer::new(vec![0; sizes.send_bytes]);
            let handle = sockets.add(tcp::Socket::new(receive, send));
            Client { handle, connection: Connection::default(), moved: Instant::ZERO }
        };
        let clients = (0..SOCKETS).map(client).collect();
        Self { hal, device, interface, sockets, clients, responses: 0, sent_bytes: 0 }
    }

    pub(super) fn sockets(&self) -> usize {
        self.clients.len()
    }

    /// Responses that went out whole.
    pub(super) fn responses(&self) -> u64 {
        let current = self.clients.iter().map(|client| client.connection.responses());
        self.responses + current.sum::<u64>()
    }

    /// Bytes given to TCP.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    pub(super) fn statistics(&self) -> Statistics {
        self.device.adapter().statistics()
    }

    /// Moves what can be moved; whether anything was.
    pub(super) fn step(
        &mut self,
        volume: &Volume<'_, Buffer>,
        reader: &mut ChunkReader<'_>,
    ) -> bool {
        let mut moved = self.poll();
        let now = now(self.hal);
        for index in 0..self.clients.len() {
            moved |= self.serve(index, now, volume, reader);
        }
        if moved {
            self.poll();
        }
        self.device.flush();
        moved
    }

    fn poll(&mut self) -> bool {
        let result = self.interface.poll(now(self.hal), &mut self.device, &mut self.sockets);
        result == PollResult::SocketStateChanged
    }

    fn serve(
        &mut self,
        index: usize,
        now: Instant,
        volume: &Volume<'_, Buffer>,
        reader: &mut ChunkReader<'_>,
    ) -> bool {
        let Some(client) = self.clients.get_mut(index) else { return false };
        let connection = &mut client.connection;
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(client.handle);
        if !socket.is_open() {
            self.responses += connection.responses();
            connection.reset();
            // The port is no zero, and the socket not in use.
            return socket.listen(PORT).is_ok();
        }
        if !socket.is_active() {
            client.moved = now;
            return false;
        }
        let received = receive(socket, connection);
        let sent = send(socket, connection, volume, reader);
        self.sent_bytes += sent as u64;
        if received || sent != 0 {
            client.moved = now;
            return true;
        }
        if connection.is_broken() || now - client.moved > IDLE {
            socket.abort();
            return true;
        }
        let done = connection.is_over() || (!socket.may_recv() && !connection.is_responding());
        if done && socket.may_send() && socket.state() != tcp::State::SynReceived {
            socket.close();
            return true;
        }
        false
    }

    /// Whether no response is under way and all that was sent has arrived. If `at_once`, whoever is being served must do without the rest.
    pub(super) fn is_quiet(&self, at_once: bool) -> bool {
        at_once
            || self.clients.iter().all(|client| {
                let socket = self.sockets.get::<tcp::Socket<'_>>(client.handle);
                !client.connection.is_responding() && socket.send_queue() == 0
            })
    }

    /// Has `waker` woken when TCP has something to do, or a connection may be idle for too long.
    pub(super) fn wake_later(&mut self, waker: &Waker) {
        let delay = self.interface.poll_delay(now(self.hal), &self.sockets);
        let active =
            |client: &Client| self.sockets.get::<tcp::Socket<'_>>(client.handle).is_active();
        let idle = self.clients.iter().any(active).then_some(IDLE);
        let Some(delay) = delay.into_iter().chain(idle).min() else { return };
        let deadline = self.hal.now_100ns().saturating_add(delay.total_micros().max(1) * 10);
        self.hal.wake_at(deadline, waker);
    }
}

fn receive(socket: &mut tcp::Socket<'_>, connection: &mut Connection) -> bool {
    let mut received = false;
    while socket.can_recv() && connection.room() != 0 {
        let taken = socket.recv(|bytes| {
            let count = bytes.len().min(connection.room());
            connection.receive(&bytes[..count]);
            (count, count)
        });
        received |= taken.is_ok_and(|count| count != 0);
    }
    received
}

/// Bytes given to the socket.
fn send(
    socket: &mut tcp::Socket<'_>,
    connection: &mut Connection,
    volume: &Volume<'_, Buffer>,
    reader: &mut ChunkReader<'_>,
) -> usize {
    let mut sent = 0;
    while socket.can_send() {
        let filled = socket.send(|room| {
            let filled = connection.fill(volume, room);
            (filled.bytes, filled)
        });
        let Filled { bytes, wants, reads_on } = filled.unwrap_or_default();
        sent += bytes;
        if let Some(chunk) = wants {
            reader.want(chunk);
        }
        if let Some(last) = reader.last().filter(|_| reads_on || wants.is_some()) {
            wants.unwrap_or(last).following(AHEAD).for_each(|chunk| reader.want(chunk));
        }
        if bytes == 0 {
            break;
        }
    }
    sent
}
