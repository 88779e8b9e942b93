//! NVSP's messages that set a card up, on its primary channel.

use std::sync::Arc;

use hv_abi::nvsp::{
    NVSP_SUBCHANNEL_ALLOCATE, NvspCapabilities, NvspInit, NvspInitComplete, NvspMessage,
    NvspMessageType, NvspOidQueryExComplete, NvspPdApiComplete, NvspReceiveSection,
    NvspSendNdisConfig, NvspSendReceiveBuffer, NvspSendReceiveBufferComplete, NvspSendSendBuffer,
    NvspSendSendBufferComplete, NvspStatus, NvspSubchannelComplete, NvspSubchannelRequest,
    NvspVersion,
};
use hv_abi::rndis::RndisStatus;

use super::error::NetVspError;
use super::message::{GuestMessage, HostMessage};
use super::receive_buffer::ReceiveBuffer;
use super::send_buffer::{SECTION_BYTES, SendBuffer};
use super::settings::Settings;
use crate::net::frame::ETHERNET_HEADER;
use crate::net::options::{MAX_MTU, MIN_MTU};
use crate::vmbus::{Gpadl, GuestRanges};

/// Most parts of a message in guest memory that the guest is told of; what OpenVMM says (`netvsp/src/lib.rs`).
const MAX_MDL_CHAIN: u32 = 34;
/// `STATUS_NOT_SUPPORTED`.
const NOT_SUPPORTED: u32 = 0xC000_00BB;

/// Memory that a guest lent, and what keeps it so.
pub(super) type Lent = (GuestRanges, Option<Arc<Gpadl>>);

/// What setting a card up needs of its channel.
pub(super) trait Bus {
    /// Memory that the guest lent under a number.
    fn lent(&self, gpadl: u32) -> Option<Lent>;
    /// Offers sub-channels; how many there are then.
    fn offer_sub_channels(&mut self, count: u16) -> u16;
}

/// What the card may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) newest: NvspVersion,
    pub(super) mtu: u16,
    pub(super) queues: u16,
}

/// Does what a message says, and gives the completion.
///
/// # Errors
/// The message does not belong there.
pub(super) fn handle(
    limits: &Limits,
    settings: &mut Settings,
    bus: &mut dyn Bus,
    message: &GuestMessage,
) -> Result<HostMessage, NetVspError> {
    let out_of_order = Err(NetVspError::OutOfOrder(message.number()));
    if let GuestMessage::Init(init) = message {
        return if settings.version.is_some() {
            out_of_order
        } else {
            Ok(version(limits, settings, init))
        };
    }
    let Some(version) = settings.version.filter(|&version| version >= message.since()) else {
        return out_of_order;
    };
    let completion = match message {
        GuestMessage::NdisConfig(config) if settings.receive.is_none() => {
            configure(limits, settings, config);
            HostMessage::empty()
        }
        GuestMessage::ReceiveBuffer(message) => {
            let (status, section) = receive_buffer(settings, bus, message);
            complete(
                version,
                NvspSendReceiveBufferComplete {
                    msg_type: NvspSendReceiveBufferComplete::TYPE,
                    status,
                    num_sections: u32::from(status == NvspStatus::SUCCESS),
                    section,
                },
            )
        }
        GuestMessage::SendBuffer(message) => {
            let (status, section_size) = send_buffer(settings, bus, message);
            let msg_type = NvspSendSendBufferComplete::TYPE;
            complete(version, NvspSendSendBufferComplete { msg_type, status, section_size })
        }
        GuestMessage::RevokeReceiveBuffer(message) => {
            settings.receive.take_if(|buffer| buffer.id == message.id);
            HostMessage::empty()
        }
        GuestMessage::RevokeSendBuffer(message) => {
            settings.send.take_if(|buffer| buffer.id == message.id);
            HostMessage::empty()
        }
        GuestMessage::Subchannel(request) => {
            let (status, num_subchannels) = sub_channels(limits, settings, bus, request);
            let msg_type = NvspMessageType::SUBCHANNEL;
            complete(version, NvspSubchannelComplete { msg_type, status, num_subchannels })
        }
        GuestMessage::OidQueryEx(_) => complete(
            version,
            NvspOidQueryExComplete {
                msg_type: NvspOidQueryExComplete::TYPE,
                status: RndisStatus::NOT_SUPPORTED.0,
                bytes: 0,
            },
        ),
        GuestMessage::PdApi(request) => complete(
            version,
            NvspPdApiComplete {
                msg_type: NvspPdApiComplete::TYPE,
                op: request.op,
                status: NOT_SUPPORTED,
                num_pd_q: 0,
                num_rss_q: 0,
                is_supported: 0,
                is_enabled: 0,
                _reserved: [0; 3],
            },
        ),
        // Of no consequence here: there is no other data path, and the version says all.
        GuestMessage::NdisVersion(_) | GuestMessage::SwitchDataPath(_) => HostMessage::empty(),
        GuestMessage::Init(_) | GuestMessage::NdisConfig(_) | GuestMessage::Rndis(_) => {
            return out_of_order;
        }
    };
    Ok(completion)
}

fn complete<M: NvspMessage>(version: NvspVersion, message: M) -> HostMessage {
    HostMessage::new(&message, version)
}

/// Takes the newest version within the guest's bounds.
fn version(limits: &Limits, settings: &mut Settings, init: &NvspInit) -> HostMessage {
    let bounds = init.min_protocol_ver..=init.max_protocol_ver;
    let fits = |version: &NvspVersion| *version <= limits.newest && bounds.contains(version);
    settings.version = NvspVersion::ALL.into_iter().find(fits);
    let status = match settings.version {
        Some(_) => NvspStatus::SUCCESS,
        None => NvspStatus::FAIL,
    };
    complete(
        settings.version(),
        NvspInitComplete {
            msg_type: NvspInitComplete::TYPE,
            negotiated_protocol_ver: settings.version.unwrap_or(NvspVersion(u32::MAX)),
            max_mdl_chain_len: MAX_MDL_CHAIN,
            status,
        },
    )
}

fn configure(limits: &Limits, settings: &mut Settings, config: &NvspSendNdisConfig) {
    settings.capabilities = NvspCapabilities::from_bits_truncate(config.capability);
    let range = usize::from(MIN_MTU)..=usize::from(MAX_MTU);
    let asked = (config.mtu as usize).checked_sub(ETHERNET_HEADER);
    // A guest that says nothing sensible has the card's own.
    let mtu = asked.filter(|mtu| range.contains(mtu)).unwrap_or(limits.mtu.into());
    settings.frame_bytes = mtu.min(limits.mtu.into()) + ETHERNET_HEADER;
}

fn receive_buffer(
    settings: &mut Settings,
    bus: &dyn Bus,
    message: &NvspSendReceiveBuffer,
) -> (NvspStatus, NvspReceiveSection) {
    let failed = (NvspStatus::FAIL, NvspReceiveSection::default());
    if settings.receive.is_some() {
        return failed;
    }
    let Some((ranges, gpadl)) = bus.lent(message.gpadl_handle) else { return failed };
    let Some(buffer) = ReceiveBuffer::new(message.id, ranges, gpadl, settings.frame_bytes) else {
        return failed;
    };
    let section = buffer.section();
    settings.receive = Some(Arc::new(buffer));
    (NvspStatus::SUCCESS, section)
}

fn send_buffer(
    settings: &mut Settings,
    bus: &dyn Bus,
    message: &NvspSendSendBuffer,
) -> (NvspStatus, u32) {
    if settings.send.is_some() {
        return (NvspStatus::FAIL, 0);
    }
    let lent = bus.lent(message.gpadl_handle);
    let buffer = lent.and_then(|(ranges, gpadl)| SendBuffer::new(message.id, ranges, gpadl));
    let Some(buffer) = buffer else { return (NvspStatus::FAIL, 0) };
    settings.send = Some(Arc::new(buffer));
    (NvspStatus::SUCCESS, SECTION_BYTES)
}

fn sub_channels(
    limits: &Limits,
    settings: &mut Settings,
    bus: &mut dyn Bus,
    request: &NvspSubchannelRequest,
) -> (NvspStatus, u32) {
    if request.op != NVSP_SUBCHANNEL_ALLOCATE || settings.channels != 1 {
        return (NvspStatus::FAIL, 0);
    }
    let most = limits.queues.saturating_sub(1);
    let wanted = u16::try_from(request.num_subchannels).unwrap_or(u16::MAX).min(most);
    let offered = if wanted == 0 { 0 } else { bus.offer_sub_channels(wanted).min(wanted) };
    settings.channels = offered + 1;
    (NvspStatus::SUCCESS, offered.into())
}

#[cfg(test)]
mod tests;
