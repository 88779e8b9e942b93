//! Connections, and the two calls by which a guest uses them: `HvCallPostMessage` and `HvCallSignalEvent`
//! (TLFS pages of these names).
//!
//! KVM hands both calls to us, after it has checked the privileges and the input value, and has read the
//! memory form of a signal itself (Linux, `arch/x86/kvm/hyperv.c`, `kvm_hv_hypercall`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hv_abi::HV_PAGE_SIZE;
use hv_abi::hypercall::{HV_CALL_POST_MESSAGE, HV_CALL_SIGNAL_EVENT, HvError, HypercallInput};
use hv_abi::synic::{HvInputPostMessage, HvInputSignalEvent, HvMessageType};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::errno;
use vmm_sys_util::eventfd::EventFd;
use zerocopy::{FromBytes, IntoBytes};

use super::{PostError, Synic};
use crate::stats::lock;

/// Bits of a connection's number (TLFS `HV_CONNECTION_ID`).
const CONNECTION_BITS: u32 = 0x00FF_FFFF;

/// Answers `HvCallPostMessage` on a connection. Type and size of the message are valid.
pub type MessageHandler = Arc<dyn Fn(&HvInputPostMessage) -> Result<(), HvError> + Send + Sync>;
/// Answers `HvCallSignalEvent` on a connection, given the flag number.
pub type EventHandler = Arc<dyn Fn(u16) -> Result<(), HvError> + Send + Sync>;

/// A connection could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// Numbers have 24 bits.
    #[error("connection {0:#x} has more than 24 bits")]
    Number(u32),
    /// There is one with this number and purpose.
    #[error("connection {0:#x} exists")]
    Exists(u32),
}

/// What a guest can call.
#[derive(Default)]
pub struct Connections {
    messages: Mutex<BTreeMap<u32, MessageHandler>>,
    events: Mutex<BTreeMap<u32, Event>>,
}

#[derive(Clone)]
enum Event {
    Handler(EventHandler),
    Descriptor(Arc<EventFd>),
}

impl From<PostError> for HvError {
    /// What the caller of a connection hears when its target can't take the message.
    fn from(error: PostError) -> Self {
        match error {
            PostError::Busy => Self::INSUFFICIENT_BUFFERS,
            PostError::NoRoute => Self::INVALID_PORT_ID,
            PostError::Disabled => Self::INVALID_SYNIC_STATE,
            PostError::Invalid => Self::INVALID_PARAMETER,
        }
    }
}

impl Synic {
    /// Has `handler` answer messages to a connection.
    ///
    /// # Errors
    /// The number is too large or taken.
    pub fn connect_messages(&self, id: u32, handler: MessageHandler) -> Result<(), ConnectError> {
        insert(&self.connections.messages, id, handler)
    }

    /// Has `handler` answer signals to a connection.
    ///
    /// # Errors
    /// The number is too large or taken.
    pub fn connect_events(&self, id: u32, handler: EventHandler) -> Result<(), ConnectError> {
        insert(&self.connections.events, id, Event::Handler(handler))
    }

    /// Has signals to a connection write `event`, in the kernel if KVM can; flag numbers other than 0
    /// are refused.
    ///
    /// # Errors
    /// The number is too large or taken.
    pub fn connect_event_fd(&self, id: u32, event: Arc<EventFd>) -> Result<(), ConnectError> {
        insert(&self.connections.events, id, Event::Descriptor(event.clone()))?;
        // Without KVM's help every signal comes to us, and we write the event.
        let _: Result<(), errno::Error> = self.parts.lines.connect_event(id, &event);
        Ok(())
    }

    /// Takes away what answers messages to a connection. Tells whether there was anything.
    pub fn disconnect_messages(&self, id: u32) -> bool {
        lock(&self.connections.messages).remove(&id).is_some()
    }

    /// Takes away what answers signals to a connection. Tells whether there was anything.
    pub fn disconnect_events(&self, id: u32) -> bool {
        let old = lock(&self.connections.events).remove(&id);
        if let Some(Event::Descriptor(event)) = &old {
            self.parts.lines.disconnect_event(id, event);
        }
        old.is_some()
    }

    /// Answers a call that KVM handed on: its input value, and its first parameter.
    ///
    /// # Errors
    /// The status for the guest.
    pub fn hypercall(&self, input: HypercallInput, parameter: u64) -> Result<(), HvError> {
        match input.code() {
            HV_CALL_POST_MESSAGE if input.is_fast() => Err(HvError::INVALID_HYPERCALL_INPUT),
            HV_CALL_POST_MESSAGE => {
                self.connections.post(&read_message(&self.parts.memory, parameter)?)
            }
            HV_CALL_SIGNAL_EVENT => self.connections.signal(parameter),
            _ => Err(HvError::INVALID_HYPERCALL_CODE),
        }
    }
}

fn insert<T>(table: &Mutex<BTreeMap<u32, T>>, id: u32, target: T) -> Result<(), ConnectError> {
    if id & !CONNECTION_BITS != 0 {
        return Err(ConnectError::Number(id));
    }
    match lock(table).entry(id) {
        std::collections::btree_map::Entry::Occupied(_) => Err(ConnectError::Exists(id)),
        std::collections::btree_map::Entry::Vacant(free) => {
            free.insert(target);
            Ok(())
        }
    }
}

/// Copies a message out of the guest, once, and checks it.
fn read_message(memory: &GuestMemoryMmap, address: u64) -> Result<HvInputPostMessage, HvError> {
    const BYTES: usize = size_of::<HvInputPostMessage>();
    let in_page = address % HV_PAGE_SIZE as u64;
    if !address.is_multiple_of(8) || in_page > (HV_PAGE_SIZE - BYTES) as u64 {
        return Err(HvError::INVALID_ALIGNMENT);
    }
    let mut bytes = [0; BYTES];
    let read = memory.read_slice(&mut bytes, GuestAddress(address));
    // Also for what lies outside memory (TLFS, *Hypercall Status Codes*).
    read.map_err(|_| HvError::INVALID_ALIGNMENT)?;
    let message = HvInputPostMessage::read_from_bytes(&bytes)
        .map_err(|_| HvError::INVALID_HYPERCALL_INPUT)?;
    let message_type = message.message_type;
    let guests_own =
        message_type != HvMessageType::NONE && message_type.0 & HvMessageType::HYPERVISOR_MASK == 0;
    if !guests_own || message.payload_size as usize > message.payload.len() {
        return Err(HvError::INVALID_PARAMETER);
    }
    Ok(message)
}

impl Connections {
    fn post(&self, message: &HvInputPostMessage) -> Result<(), HvError> {
        // Called without the lock: the handler may connect and disconnect.
        let handler = lock(&self.messages).get(&message.connection_id).cloned();
        handler.ok_or(HvError::INVALID_CONNECTION_ID)?(message)
    }

    fn signal(&self, parameter: u64) -> Result<(), HvError> {
        let signal = HvInputSignalEvent::read_from_bytes(parameter.as_bytes())
            .map_err(|_| HvError::INVALID_HYPERCALL_INPUT)?;
        if signal._reserved != 0 || signal.connection_id & !CONNECTION_BITS != 0 {
            return Err(HvError::INVALID_HYPERCALL_INPUT);
        }
        let event = lock(&self.events).get(&signal.connection_id).cloned();
        match event.ok_or(HvError::INVALID_CONNECTION_ID)? {
            Event::Handler(handler) => handler(signal.flag_number),
            Event::Descriptor(_) if signal.flag_number != 0 => Err(HvError::INVALID_PARAMETER),
            Event::Descriptor(event) => {
                // Fails only if the counter overflows, and then its reader knows already.
                let _ = event.write(1);
                Ok(())
            }
        }
    }
}
