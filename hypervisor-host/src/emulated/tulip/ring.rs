//! Descriptors in guest memory. Each is read once, and only what was read counts.

use std::sync::atomic::Ordering;

use hv_abi::tulip::descriptor::{
    BUFFER1_MASK, BUFFER2_MASK, BUFFER2_SHIFT, CHAINED, Descriptor, END_OF_RING, OWN,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use zerocopy::FromBytes;

use super::registers::Work;

/// An address that memory does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BusError;

/// Whether the chip owns a descriptor.
pub(super) fn is_owned(memory: &GuestMemoryMmap, address: u32) -> Result<bool, BusError> {
    let status: u32 =
        memory.load(GuestAddress(address.into()), Ordering::Acquire).map_err(|_| BusError)?;
    Ok(u32::from_le(status) & OWN != 0)
}

/// A descriptor that the chip owns; `None` if it is the driver's.
pub(super) fn fetch(
    memory: &GuestMemoryMmap,
    address: u32,
) -> Result<Option<Descriptor>, BusError> {
    if !is_owned(memory, address)? {
        return Ok(None);
    }
    let mut bytes = [0; size_of::<Descriptor>()];
    memory.read_slice(&mut bytes, GuestAddress(address.into())).map_err(|_| BusError)?;
    Descriptor::read_from_bytes(&bytes).map(Some).map_err(|_| BusError)
}

/// Gives a descriptor back, after all that belongs to it.
pub(super) fn close(memory: &GuestMemoryMmap, address: u32, status: u32) -> Result<(), BusError> {
    let status = (status & !OWN).to_le();
    memory.store(status, GuestAddress(address.into()), Ordering::Release).map_err(|_| BusError)
}

/// Where the next descriptor is.
pub(super) fn next(descriptor: &Descriptor, at: u32, work: &Work) -> u32 {
    let control = descriptor.control.get();
    if control & END_OF_RING != 0 {
        work.base
    } else if control & CHAINED != 0 {
        descriptor.buffer2.get() & !3
    } else {
        at.wrapping_add(work.stride)
    }
}

/// Address and bytes of a descriptor's buffers.
pub(super) fn buffers(descriptor: &Descriptor) -> [(u32, usize); 2] {
    let control = descriptor.control.get();
    let second = match control & CHAINED {
        0 => (control & BUFFER2_MASK) >> BUFFER2_SHIFT,
        _ => 0,
    };
    [
        (descriptor.buffer1.get(), (control & BUFFER1_MASK) as usize),
        (descriptor.buffer2.get(), second as usize),
    ]
}

/// Adds what a buffer has to `frame`.
pub(super) fn read(
    memory: &GuestMemoryMmap,
    (address, bytes): (u32, usize),
    frame: &mut Vec<u8>,
) -> Result<(), BusError> {
    if bytes == 0 {
        return Ok(());
    }
    let from = frame.len();
    frame.resize(from + bytes, 0);
    let place = frame.get_mut(from..).unwrap_or_default();
    memory.read_slice(place, GuestAddress(address.into())).map_err(|_| BusError)
}

/// Fills a buffer with as much of `data` as it takes; gives the rest.
pub(super) fn write<'d>(
    memory: &GuestMemoryMmap,
    (address, bytes): (u32, usize),
    data: &'d [u8],
) -> Result<&'d [u8], BusError> {
    let (now, rest) = data.split_at(bytes.min(data.len()));
    if !now.is_empty() {
        memory.write_slice(now, GuestAddress(address.into())).map_err(|_| BusError)?;
    }
    Ok(rest)
}
