//! The job `tulip`: bytes to an echo server and back over TCP, by the first DEC 21140A, with its descriptors in rings and then in chains.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Display;
use core::future::poll_fn;
use core::task::Poll;

use kernel::cmdline::ServeOptions;
use kernel::tulip::{TulipDevice, TulipOptions};
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::IpAddress;
use vsc_drivers::task::{beside, within};
use vsc_drivers::{Hal, SECOND_100NS};

use crate::machine::tulip::{self, Card};
use crate::machine::vmbus::{KernelHal, tasks};
use crate::machine::{console, exit};
use crate::tcpip::{self, now};

/// RFC 862.
const ECHO_PORT: u16 = 7;
/// The first of two: the server may still have the first connection when the second comes.
const LOCAL_PORT: u16 = 49_152;
/// Bytes each way.
const BYTES: usize = 256 << 10;
const BUFFER_BYTES: usize = 32 << 10;
const LINK_LIMIT_100NS: u64 = 10 * SECOND_100NS;
const LIMIT_100NS: u64 = 60 * SECOND_100NS;

/// Does it, and gives the exit code.
pub(crate) fn run(server: [u8; 4], options: &ServeOptions) -> u8 {
    for chained in [false, true] {
        let card = TulipOptions { chained, ..TulipOptions::default() };
        let work = visit(card, server, options);
        let done = tasks::block_on(core::future::pending::<()>(), work);
        tulip::forget();
        if let Err(problem) = done {
            log::error!("tulip: {problem}");
            return exit::FAILURE;
        }
    }
    exit::SUCCESS
}

fn failed<E: Display>(what: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

async fn visit(card: TulipOptions, server: [u8; 4], options: &ServeOptions) -> Result<(), String> {
    let chained = card.chained;
    let card = tulip::start(card).await?;
    let work = async {
        let link = card.link_up(LINK_LIMIT_100NS).await.map_err(failed("link"))?;
        log::info!("link {link:?}, timer {}", card.has_timer());
        let mut client = Client::new(&card, options);
        client.connect(server, LOCAL_PORT + u16::from(chained)).map_err(failed("connect"))?;
        let echo = within(card.hal(), LIMIT_100NS, client.echo());
        echo.await.map_err(|_| client.problem())?;
        card.sent().await.map_err(failed("send the last frames"))
    };
    beside(card.run(), work).await?;
    tell(&card, chained);
    card.stop();
    Ok(())
}

fn tell(card: &Card, chained: bool) {
    let counts = card.statistics();
    log::info!("{}: {counts}", if chained { "chained" } else { "ring" });
    console::event("tulip", |event| {
        let [a, b, c, d, e, f] = card.mac();
        event
            .str("mode", if chained { "chained" } else { "ring" })
            .str("mac", &format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
            .number("full_duplex", card.link().full_duplex.into())
            .number("bytes", BYTES as u64)
            .number("frames_out", counts.transmitted_frames)
            .number("frames_in", counts.received_frames)
            .number("interrupts", counts.interrupts)
            .number("demands", counts.demands)
            .number("malformed", counts.malformed)
            .number("errors", counts.receive_errors + counts.transmit_errors + counts.resets)
            .end()
    });
}

/// A byte that can be told from its place.
fn byte_at(place: usize) -> u8 {
    (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0]
}

struct Client {
    hal: KernelHal,
    device: TulipDevice<kernel::pci::PortRegisters<crate::machine::pci::Ports>, KernelHal>,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    sent: usize,
    received: usize,
    corrupt: Option<usize>,
}

impl Client {
    fn new(card: &Card, options: &ServeOptions) -> Self {
        let hal = *card.hal();
        let mut device = TulipDevice::new(card.clone());
        let interface = tcpip::interface(hal, &mut device, card.mac(), options);
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self { hal, device, interface, sockets, socket, sent: 0, received: 0, corrupt: None }
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn connect(&mut self, server: [u8; 4], local_port: u16) -> Result<(), tcp::ConnectError> {
        let remote = (IpAddress::Ipv4(server.into()), ECHO_PORT);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.socket);
        socket.connect(self.interface.context(), remote, local_port)
    }

    fn problem(&mut self) -> String {
        let (sent, received, corrupt) = (self.sent, self.received, self.corrupt);
        let state = self.socket().state();
        format!("{sent} of {BYTES} bytes sent, {received} received, corrupt: {corrupt:?}, {state}")
    }

    /// Sends all, and takes all of it back.
    async fn echo(&mut self) {
        poll_fn(|context| {
            self.device.adapter().listen(context.waker());
            self.interface.poll(now(self.hal), &mut self.device, &mut self.sockets);
            let moved = self.move_bytes();
            self.interface.poll(now(self.hal), &mut self.device, &mut self.sockets);
            self.device.flush();
            if self.received >= BYTES && self.corrupt.is_none() {
                return Poll::Ready(());
            }
            if moved {
                context.waker().wake_by_ref();
            } else if let Some(delay) = self.interface.poll_delay(now(self.hal), &self.sockets) {
                let delay = delay.total_micros().max(1).saturating_mul(10);
                self.hal.wake_at(self.hal.now_100ns().saturating_add(delay), context.waker());
            }
            Poll::Pending
        })
        .await;
    }

    /// Whether anything was moved.
    fn move_bytes(&mut self) -> bool {
        let (sent, received) = (self.sent, self.received);
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.socket);
        if socket.can_send() && sent < BYTES {
            let fill = |room: &mut [u8]| {
                let count = room.len().min(BYTES - sent);
                let places = room.iter_mut().take(count).zip(sent..);
                places.for_each(|(byte, place)| *byte = byte_at(place));
                (count, count)
            };
            self.sent += socket.send(fill).unwrap_or(0);
        }
        if socket.can_recv() {
            let corrupt = &mut self.corrupt;
            let check = |data: &mut [u8]| {
                let wrong =
                    data.iter().zip(received..).find(|(byte, place)| **byte != byte_at(*place));
                *corrupt = corrupt.or(wrong.map(|(_, place)| place));
                (data.len(), data.len())
            };
            self.received += socket.recv(check).unwrap_or(0);
        }
        (self.sent, self.received) != (sent, received)
    }
}
