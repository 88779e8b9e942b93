//! One channel's bus master: registers, and the walk over the guest's descriptors (SFF-8038i; PIIX4, *Bus master function*).
//!
//! A transfer goes on where the last one of the same start ended, so memory that is more than one command needs serves the next.
//! Nothing the guest's descriptors say is believed: a region must be RAM and keep within 64 KiB, and so must the table.
#![expect(unsafe_code, reason = "guest memory is lent by its addresses")]

use std::sync::Arc;

use hv_abi::ata::bus_master::{BOUNDARY, END_OF_TABLE, Prd, command, reg, status};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use zerocopy::FromBytes;

use crate::storage::buffer::IoBuffer;
use crate::storage::disk::Direction;

/// Bits of the status register that software may set.
const CAPABLE: u8 = status::DRIVE_0_DMA | status::DRIVE_1_DMA;

/// Descriptors that make no sense, or memory that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault;

/// Memory for a transfer, or for a part of it if the descriptors had no more.
pub(super) struct Gathered {
    pub(super) buffer: IoBuffer,
}

/// What is left of a region.
#[derive(Debug, Clone, Copy)]
struct Region {
    address: u64,
    bytes: u64,
}

/// The registers and where the walk stands.
#[derive(Default)]
pub(super) struct BusMaster {
    command: u8,
    status: u8,
    table: u32,
    active: bool,
    /// The next descriptor; `None` behind the last.
    next: Option<u32>,
    region: Option<Region>,
}

/// What the guest did to a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Started,
    Stopped,
}

impl BusMaster {
    /// As firmware leaves it, for a channel with these drives.
    pub(super) fn new(drives: [bool; 2]) -> Self {
        let bits = [status::DRIVE_0_DMA, status::DRIVE_1_DMA];
        let capable = bits.into_iter().zip(drives).filter(|(_, there)| *there);
        Self { status: capable.fold(0, |all, (bit, _)| all | bit), ..Self::default() }
    }

    /// The guest reads a byte. `moving`: memory is being read or written.
    pub(super) fn read(&self, offset: u16, moving: bool) -> u8 {
        match offset {
            reg::COMMAND => self.command,
            reg::STATUS if self.active || moving => self.status | status::ACTIVE,
            reg::STATUS => self.status,
            reg::TABLE..reg::SET => table_byte(self.table, offset),
            _ => 0,
        }
    }

    /// The guest writes a byte.
    pub(super) fn write(&mut self, offset: u16, value: u8) -> Change {
        match offset {
            reg::COMMAND => return self.write_command(value),
            reg::STATUS => {
                let events = self.status & !CAPABLE & !value;
                self.status = events | value & CAPABLE;
            }
            reg::TABLE..reg::SET => {
                let shift = u32::from(offset - reg::TABLE) * 8;
                self.table = self.table & !(0xFF << shift) | u32::from(value) << shift;
                self.table &= !3;
            }
            _ => {}
        }
        Change::None
    }

    fn write_command(&mut self, value: u8) -> Change {
        let before =
            std::mem::replace(&mut self.command, value & (command::START | command::TO_MEMORY));
        match (before & command::START != 0, value & command::START != 0) {
            (false, true) => {
                (self.active, self.next, self.region) = (true, Some(self.table), None);
                Change::Started
            }
            (true, false) => {
                self.active = false;
                Change::Stopped
            }
            _ => Change::None,
        }
    }

    /// Whether it waits for a drive that wants to move data.
    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// Whether it was told to move data that way.
    pub(super) fn goes(&self, way: Direction) -> bool {
        (self.command & command::TO_MEMORY != 0) == (way == Direction::Read)
    }

    /// The drive has interrupted.
    pub(super) fn interrupted(&mut self) {
        self.status |= status::INTERRUPT;
    }

    /// The transfer can't go on.
    pub(super) fn fault(&mut self) {
        self.status |= status::ERROR;
        self.active = false;
    }

    /// What was gathered last has been moved. Behind the last region there is nothing more to do.
    pub(super) fn moved(&mut self) {
        if self.region.is_none() && self.next.is_none() {
            self.active = false;
        }
    }

    /// Memory for the next `want` bytes, or for fewer if there is no more.
    ///
    /// # Errors
    /// A descriptor is wrong; then there is memory for nothing.
    pub(super) fn gather(
        &mut self,
        memory: &GuestMemoryMmap,
        want: u64,
    ) -> Result<Gathered, Fault> {
        let (mut pieces, mut found) = (Vec::<libc::iovec>::new(), 0);
        while found < want {
            let Some(region) = self.region(memory)? else { break };
            let take = region.bytes.min(want - found);
            push(memory, &mut pieces, region.address, take)?;
            found += take;
            let left = Region { address: region.address + take, bytes: region.bytes - take };
            self.region = (left.bytes != 0).then_some(left);
        }
        // SAFETY: the pieces are guest RAM, which stays mapped for as long as the handle of the memory lives, and to which there
        // are no references.
        let buffer = unsafe { IoBuffer::new(pieces, Arc::new(memory.clone())) };
        Ok(Gathered { buffer })
    }

    /// The region that is being worked on.
    fn region(&mut self, memory: &GuestMemoryMmap) -> Result<Option<Region>, Fault> {
        if self.region.is_some() {
            return Ok(self.region);
        }
        let Some(entry) = self.next else { return Ok(None) };
        // Read once: the guest may change it at any time.
        let bytes: [u8; size_of::<Prd>()] =
            memory.read_obj(GuestAddress(entry.into())).map_err(|_| Fault)?;
        let prd = Prd::read_from_bytes(&bytes).map_err(|_| Fault)?;
        let address = prd.address.get() & !1;
        let bytes = match u32::from(prd.bytes.get() & !1) {
            0 => BOUNDARY,
            bytes => bytes,
        };
        if address % BOUNDARY + bytes > BOUNDARY {
            return Err(Fault);
        }
        self.next = match prd.flags.get() & END_OF_TABLE {
            0 => Some(next_entry(entry, self.table)?),
            _ => None,
        };
        self.region = Some(Region { address: address.into(), bytes: bytes.into() });
        Ok(self.region)
    }
}

/// The descriptor behind `entry`, unless the table crosses a boundary there.
fn next_entry(entry: u32, table: u32) -> Result<u32, Fault> {
    let next = entry.checked_add(size_of::<Prd>() as u32).ok_or(Fault)?;
    let last = next.checked_add(size_of::<Prd>() as u32 - 1).ok_or(Fault)?;
    if last / BOUNDARY == table / BOUNDARY { Ok(next) } else { Err(Fault) }
}

fn table_byte(table: u32, offset: u16) -> u8 {
    table.to_le_bytes().get(usize::from(offset - reg::TABLE)).copied().unwrap_or(0)
}

/// Appends guest memory to the pieces, to the last one if that ends there.
fn push(
    memory: &GuestMemoryMmap,
    pieces: &mut Vec<libc::iovec>,
    address: u64,
    bytes: u64,
) -> Result<(), Fault> {
    for slice in memory.get_slices(GuestAddress(address), bytes as usize) {
        let slice = slice.map_err(|_| Fault)?;
        let base: *mut libc::c_void = slice.ptr_guard_mut().as_ptr().cast();
        match pieces.last_mut() {
            Some(last) if last.iov_base.wrapping_byte_add(last.iov_len) == base => {
                last.iov_len += slice.len();
            }
            _ => pieces.push(libc::iovec { iov_base: base, iov_len: slice.len() }),
        }
    }
    Ok(())
}
