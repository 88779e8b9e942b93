//! `hyperv-testdev`: has a test kernel's SINTs raised, and its own messages and events sent back to it.
//!
//! Source: QEMU, `hw/hyperv/hyperv_testdev.c`, and kvm-unit-tests, `lib/x86/hyperv.c`. A write of 32 bits to port
//! 0x3000 is a command: SINT in bits 7:0, VP in 15:8, what to do in 23:16, connection in 31:24. A message that the
//! guest posts to a connection arrives in the connection's SINT as it was; a signal sets the event flag that has
//! the connection's number. Where QEMU stops at a command that makes no sense, this does nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use hv_abi::hypercall::HvError;
use hv_abi::synic::{HV_MESSAGE_PAYLOAD_BYTES, HvInputPostMessage, HvMessage, HvMessageHeader};

use super::super::{PortDevice, Request};
use crate::hyperv::synic::connections::ConnectError;
use crate::hyperv::synic::{RouteUse, Sint, Synic};

/// The device.
pub struct SynicTest {
    synic: Arc<Synic>,
    /// How often each SINT's route was created.
    routes: BTreeMap<(u32, u8), u32>,
    /// The SINTs of connections.
    messages: BTreeMap<u8, Sint>,
    events: BTreeMap<u8, Sint>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Action(u8);

impl Action {
    const ROUTE_CREATE: Self = Self(1);
    const ROUTE_DESTROY: Self = Self(2);
    const ROUTE_SET_SINT: Self = Self(3);
    const MESSAGES_CREATE: Self = Self(4);
    const MESSAGES_DESTROY: Self = Self(5);
    const EVENTS_CREATE: Self = Self(6);
    const EVENTS_DESTROY: Self = Self(7);
}

impl SynicTest {
    /// The port.
    pub const FIRST: u16 = 0x3000;
    /// Only an access to the first counts.
    pub const COUNT: u16 = 4;

    /// A device without routes and connections.
    pub fn new(synic: Arc<Synic>) -> Self {
        let (routes, messages, events) = Default::default();
        Self { synic, routes, messages, events }
    }

    fn obey(&mut self, action: Action, sint: Sint, connection: u8) {
        match action {
            Action::ROUTE_CREATE => self.create_route(sint),
            Action::ROUTE_DESTROY => self.destroy_route(sint),
            Action::ROUTE_SET_SINT => {
                // Fails only without a route.
                let _ = self.synic.raise(sint);
            }
            Action::MESSAGES_CREATE => self.create_messages(sint, connection),
            Action::MESSAGES_DESTROY => {
                if let Some(sint) = self.messages.remove(&connection) {
                    self.synic.disconnect_messages(connection.into());
                    self.synic.remove_route(sint);
                }
            }
            Action::EVENTS_CREATE => self.create_events(sint, connection),
            Action::EVENTS_DESTROY => {
                if let Some(sint) = self.events.remove(&connection) {
                    self.synic.disconnect_events(connection.into());
                    self.synic.remove_route(sint);
                }
            }
            _ => {}
        }
    }

    fn create_route(&mut self, sint: Sint) {
        if self.synic.add_route(sint, RouteUse::Events).is_ok() {
            let users = self.routes.entry((sint.vp, sint.number)).or_default();
            *users = users.saturating_add(1);
        }
    }

    fn destroy_route(&mut self, sint: Sint) {
        let key = (sint.vp, sint.number);
        let Some(users) = self.routes.get_mut(&key) else { return };
        *users -= 1;
        if *users == 0 {
            self.routes.remove(&key);
        }
        self.synic.remove_route(sint);
    }

    fn create_messages(&mut self, sint: Sint, connection: u8) {
        let synic = Arc::downgrade(&self.synic);
        let handler = Arc::new(move |input: &HvInputPostMessage| send_back(&synic, sint, input));
        let connected = self.connect(sint, RouteUse::Messages, |synic| {
            synic.connect_messages(connection.into(), handler)
        });
        if connected {
            self.messages.insert(connection, sint);
        }
    }

    fn create_events(&mut self, sint: Sint, connection: u8) {
        let synic = Arc::downgrade(&self.synic);
        let handler = Arc::new(move |flag| set_flag(&synic, sint, connection, flag));
        let connected = self.connect(sint, RouteUse::Events, |synic| {
            synic.connect_events(connection.into(), handler)
        });
        if connected {
            self.events.insert(connection, sint);
        }
    }

    fn connect(
        &self,
        sint: Sint,
        use_: RouteUse,
        connect: impl FnOnce(&Synic) -> Result<(), ConnectError>,
    ) -> bool {
        if self.synic.add_route(sint, use_).is_err() {
            return false;
        }
        let connected = connect(&self.synic).is_ok();
        if !connected {
            self.synic.remove_route(sint);
        }
        connected
    }
}

/// The connection's target is gone with the machine.
fn gone() -> HvError {
    HvError::INVALID_CONNECTION_ID
}

fn send_back(synic: &Weak<Synic>, sint: Sint, input: &HvInputPostMessage) -> Result<(), HvError> {
    let payload_size =
        u8::try_from(input.payload_size).map_err(|_| HvError::INVALID_HYPERCALL_INPUT)?;
    let mut payload = [0; HV_MESSAGE_PAYLOAD_BYTES];
    for (target, byte) in payload.iter_mut().zip(input.payload).take(payload_size.into()) {
        *target = byte;
    }
    let header = HvMessageHeader {
        message_type: input.message_type,
        payload_size,
        message_flags: 0,
        _reserved: [0; 2],
        sender: 0,
    };
    let synic = synic.upgrade().ok_or_else(gone)?;
    Ok(synic.post_message(sint, &HvMessage { header, payload })?)
}

fn set_flag(
    synic: &Weak<Synic>,
    sint: Sint,
    connection: u8,
    flag_number: u16,
) -> Result<(), HvError> {
    // A connection has one flag.
    if flag_number != 0 {
        return Err(HvError::INVALID_PARAMETER);
    }
    let synic = synic.upgrade().ok_or_else(gone)?;
    synic.signal_event(sint, connection.into())?;
    Ok(())
}

impl PortDevice for SynicTest {
    fn read(&mut self, _: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<Request> {
        if let (0, &[number, vp, action, connection]) = (offset, data) {
            self.obey(Action(action), Sint { vp: vp.into(), number }, connection);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use hv_abi::hypercall::{HV_CALL_POST_MESSAGE, HV_CALL_SIGNAL_EVENT, HypercallInput};
    use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
    use vmm_sys_util::errno;
    use vmm_sys_util::eventfd::EventFd;

    use super::*;
    use crate::hyperv::synic::Registers;
    use crate::hyperv::synic::lines::{Line, SintLines};
    use crate::stats::lock;

    const MESSAGE_PAGE: u64 = 0x3000;
    const EVENT_PAGE: u64 = 0x4000;
    const INPUT: u64 = 0x1000;

    /// Lines that interrupt nobody; the test counts.
    #[derive(Default, Clone)]
    struct Lines(Arc<Mutex<BTreeMap<(u32, u8), EventFd>>>);

    impl SintLines for Lines {
        fn connect(&self, sint: Sint, use_: RouteUse) -> Result<Line, errno::Error> {
            let event = || EventFd::new(libc::EFD_NONBLOCK).unwrap();
            let interrupt = event();
            lock(&self.0).insert((sint.vp, sint.number), interrupt.try_clone().unwrap());
            Ok(Line { interrupt, acknowledged: (use_ == RouteUse::Messages).then(event) })
        }

        fn disconnect(&self, sint: Sint, _: &Line) {
            lock(&self.0).remove(&(sint.vp, sint.number));
        }

        fn connect_event(&self, _: u32, _: &EventFd) -> Result<(), errno::Error> {
            Err(errno::Error::new(libc::ENOTTY))
        }

        fn disconnect_event(&self, _: u32, _: &EventFd) {}
    }

    struct Machine {
        device: SynicTest,
        memory: GuestMemoryMmap,
        lines: Lines,
    }

    impl Machine {
        fn new() -> Self {
            let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x8000)]).unwrap();
            let lines = Lines::default();
            let kick = Arc::new(|_| {});
            let synic = Arc::new(Synic::new(memory.clone(), 2, Box::new(lines.clone()), kick));
            let (message_page, event_page) = (MESSAGE_PAGE | 1, EVENT_PAGE | 1);
            synic.registers_changed(1, Registers { control: 1, message_page, event_page });
            Self { device: SynicTest::new(synic), memory, lines }
        }

        fn control(&mut self, connection: u8, action: u8, vp: u8, sint: u8) {
            assert_eq!(self.device.write(0, &[sint, vp, action, connection]), None);
        }

        fn interrupts(&self, vp: u32, sint: u8) -> Option<u64> {
            lock(&self.lines.0).get(&(vp, sint)).map(|event| event.read().unwrap_or(0))
        }

        fn post(&self, connection: u32, payload: &[u8]) -> Result<(), HvError> {
            let head = [connection, 0, 0x1234_5678, payload.len() as u32];
            for (at, word) in (INPUT..).step_by(4).zip(head) {
                self.memory.write_obj(word, GuestAddress(at)).unwrap();
            }
            self.memory.write_slice(payload, GuestAddress(INPUT + 16)).unwrap();
            let result =
                self.device.synic.hypercall(HypercallInput::new(HV_CALL_POST_MESSAGE), INPUT);
            self.device.synic.work(1);
            result
        }

        fn signal(&self, connection: u64) -> Result<(), HvError> {
            self.device.synic.hypercall(HypercallInput::new(HV_CALL_SIGNAL_EVENT), connection)
        }

        fn slot(&self, sint: u64) -> [u8; 24] {
            let mut bytes = [0; 24];
            self.memory.read_slice(&mut bytes, GuestAddress(MESSAGE_PAGE + sint * 256)).unwrap();
            bytes
        }
    }

    #[test]
    fn a_route_raises_its_sint_until_it_is_destroyed() {
        let mut machine = Machine::new();
        machine.control(0, 3, 1, 5);
        assert_eq!(machine.interrupts(1, 5), None, "no route, nothing to raise");
        machine.control(0, 1, 1, 5);
        machine.control(0, 3, 1, 5);
        assert_eq!(machine.interrupts(1, 5), Some(1));
        machine.control(0, 2, 1, 5);
        assert_eq!(machine.interrupts(1, 5), None);
    }

    #[test]
    fn a_message_comes_back_and_a_third_finds_no_room() {
        let mut machine = Machine::new();
        assert_eq!(machine.post(0x10, &[1; 8]), Err(HvError::INVALID_CONNECTION_ID));
        machine.control(0x10, 4, 1, 8);
        assert_eq!(machine.post(0x10, &[1; 8]), Ok(()));
        let mut expected = [0; 24];
        expected[..5].copy_from_slice(&[0x78, 0x56, 0x34, 0x12, 8]);
        expected[16..].fill(1);
        assert_eq!(machine.slot(8), expected);
        assert_eq!(machine.interrupts(1, 8), Some(1));
        assert_eq!(machine.post(0x10, &[2; 8]), Ok(()));
        expected[5] = 1;
        assert_eq!(machine.slot(8), expected, "another one waits");
        assert_eq!(machine.post(0x10, &[3; 8]), Err(HvError::INSUFFICIENT_BUFFERS));
        assert_eq!(machine.interrupts(1, 8), Some(0));
        machine.control(0x10, 5, 0, 0);
        assert_eq!(machine.post(0x10, &[4; 8]), Err(HvError::INVALID_CONNECTION_ID));
        assert_eq!(machine.interrupts(1, 8), None);
    }

    #[test]
    fn a_signal_sets_the_flag_of_its_connection_and_interrupts_once() {
        let mut machine = Machine::new();
        machine.control(0x21, 6, 1, 9);
        for interrupts in [1, 0] {
            assert_eq!(machine.signal(0x21), Ok(()));
            assert_eq!(machine.interrupts(1, 9), Some(interrupts));
        }
        let flags: u64 = machine.memory.read_obj(GuestAddress(EVENT_PAGE + 9 * 256)).unwrap();
        assert_eq!(flags, 1 << 0x21);
        assert_eq!(machine.signal(1 << 32 | 0x21), Err(HvError::INVALID_PARAMETER));
        machine.control(0x21, 7, 0, 0);
        assert_eq!(machine.signal(0x21), Err(HvError::INVALID_CONNECTION_ID));
    }

    #[test]
    fn commands_that_make_no_sense_do_nothing() {
        let mut machine = Machine::new();
        machine.control(0, 2, 1, 5); // no such route
        machine.control(7, 5, 0, 0); // no such connections
        machine.control(7, 7, 0, 0);
        for (vp, sint) in [(2, 5), (255, 5), (1, 16), (1, 255)] {
            for action in [0, 1, 2, 3, 4, 6, 8, 255] {
                machine.control(7, action, vp, sint);
            }
        }
        for data in [&[][..], &[5], &[5, 1], &[5, 1, 1, 0, 0]] {
            assert_eq!(machine.device.write(0, data), None);
        }
        assert_eq!(machine.device.write(1, &[5, 1, 1, 0]), None);
        assert!(lock(&machine.lines.0).is_empty());
    }

    #[test]
    fn a_connection_that_exists_stays_as_it_is() {
        let mut machine = Machine::new();
        machine.control(0x10, 4, 1, 8);
        machine.control(0x10, 4, 1, 9);
        assert_eq!(machine.post(0x10, &[1]), Ok(()));
        assert_eq!((machine.interrupts(1, 8), machine.interrupts(1, 9)), (Some(1), None));
    }
}
