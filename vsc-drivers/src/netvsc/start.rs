//! Starting an adapter: versions, buffers, what the host knows, and what it shall do.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::pin;
use core::sync::atomic::{AtomicBool, AtomicUsize};
use core::task::Poll;

use hv_abi::HV_PAGE_SIZE;
use hv_abi::nvsp::{
    NvspCapabilities, NvspInit, NvspInitComplete, NvspMessage, NvspSendNdisConfig,
    NvspSendNdisVersion, NvspStatus, NvspVersion,
};
use hv_abi::rndis::oid::Oid;
use hv_abi::rndis::{PacketFilter, RNDIS_MEDIA_STATE_CONNECTED};
use spin::Once;
use vmbus_ring::{GpaRange, OutgoingPacket};
use zerocopy::IntoBytes;

use super::adapter::{Adapter, Facts, SendTable, megabits};
use super::control::{Control, Turn};
use super::error::NetError;
use super::holder::Holder;
use super::link::LinkCell;
use super::offload::{self, Offloads};
use super::options::NetOptions;
use super::queue::{Queue, padded, rndis_packet};
use super::requests;
use crate::bus::{ChannelId, Vmbus};
use crate::channel::OpenParams;
use crate::hal::Hal;
use crate::task::{Bell, within};

/// Bytes of an Ethernet header.
const ETHERNET_HEADER_BYTES: u32 = 14;
/// The least MTU that the host may set, as Linux (`ETH_MIN_MTU`).
const LEAST_MTU: u32 = 68;
/// The largest that an IP packet can be said to have, with the Ethernet header still 16 bits.
const LARGEST_MTU: u32 = 0xFFFF - ETHERNET_HEADER_BYTES;

impl NetOptions {
    fn mtu(&self) -> u32 {
        self.mtu.clamp(LEAST_MTU, LARGEST_MTU)
    }

    /// How channel `index` is opened.
    pub(super) fn open_params(&self, index: u16) -> OpenParams<'static> {
        let bytes = self.ring_pages.max(1).saturating_mul(HV_PAGE_SIZE);
        let vp = usize::from(index).checked_rem(self.vps.len());
        OpenParams {
            send_bytes: bytes,
            receive_bytes: bytes,
            target_vp: vp.and_then(|vp| self.vps.get(vp).copied()),
            ..OpenParams::default()
        }
    }
}

/// Opens the channel, and sets the adapter up.
pub(super) async fn start<H: Hal>(
    bus: &Vmbus<H>,
    channel: ChannelId,
    options: NetOptions,
) -> Result<Arc<Adapter<H>>, NetError> {
    let open = bus.open(channel, &options.open_params(0)).await?;
    let adapter = Arc::new(Adapter {
        hal: bus.hal().clone(),
        facts: Once::new(),
        version: Once::new(),
        control: Control::new(),
        link: LinkCell::new(options.mtu()),
        primary: Queue::new(0, open),
        others: Once::new(),
        receive_buffer: Holder::empty(),
        send_buffer: Holder::empty(),
        send_table: SendTable::new(),
        look_again: AtomicBool::new(false),
        end: Once::new(),
        ended: Bell::new(),
        news: Bell::new(),
        turn: AtomicUsize::new(0),
        options,
    });
    let started = adapter.clone().meanwhile(adapter.set_up(bus)).await;
    if let Err(error) = started {
        adapter.abandon(error);
        return Err(error);
    }
    Ok(adapter)
}

impl<H: Hal> Adapter<H> {
    /// Serves the primary channel until `work` is done: answers come by it.
    pub(super) async fn meanwhile<T>(
        &self,
        work: impl Future<Output = Result<T, NetError>>,
    ) -> Result<T, NetError> {
        let mut work = pin!(work);
        let mut service = pin!(self.primary.serve(self));
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => service.as_mut().poll(context).map(Err),
        })
        .await
    }

    async fn set_up(&self, bus: &Vmbus<H>) -> Result<(), NetError> {
        let version = self.negotiate().await?;
        self.version.call_once(|| version);
        let minor = if version <= NvspVersion::V4 { 1 } else { 30 };
        let ndis = NvspSendNdisVersion {
            msg_type: NvspSendNdisVersion::TYPE,
            ndis_major_ver: 6,
            ndis_minor_ver: minor,
        };
        self.tell(ndis.as_bytes()).await?;
        self.share_buffers(version).await?;
        self.ask_about_the_card(version).await?;
        self.open_channels(bus, version).await?;
        self.set_filter(self.options.filter).await
    }

    /// Tries versions, newest first.
    async fn negotiate(&self) -> Result<NvspVersion, NetError> {
        let range = self.options.oldest..=self.options.newest;
        for version in NvspVersion::ALL.into_iter().filter(|version| range.contains(version)) {
            let init = NvspInit {
                msg_type: NvspInit::TYPE,
                min_protocol_ver: version,
                max_protocol_ver: version,
            };
            let complete: NvspInitComplete = self.ask(init.as_bytes()).await?;
            if complete.status == NvspStatus::SUCCESS {
                self.configure(version).await?;
                return Ok(version);
            }
        }
        Err(NetError::NoVersion)
    }

    /// From version 2 on: how large frames are, and what we can do.
    async fn configure(&self, version: NvspVersion) -> Result<(), NetError> {
        if version == NvspVersion::V1 {
            return Ok(());
        }
        let mut capability = NvspCapabilities::IEEE8021Q;
        if version >= NvspVersion::V5 {
            // Without it the host does not tell of link speeds (Linux, negotiate_nvsp_ver).
            capability |= NvspCapabilities::TEAMING;
        }
        let config = NvspSendNdisConfig {
            msg_type: NvspSendNdisConfig::TYPE,
            mtu: self.options.mtu() + ETHERNET_HEADER_BYTES,
            _reserved: 0,
            capability: capability.bits(),
            _capability_high: 0,
        };
        self.tell(config.as_bytes()).await
    }

    async fn ask_about_the_card(&self, version: NvspVersion) -> Result<(), NetError> {
        let packing = {
            let turn = self.control.turn(&self.hal).await;
            let request = requests::initialize(turn.request());
            requests::initialized(&self.rndis(&turn, &request).await?)?
        };
        let mac = self.query(Oid::IEEE_802_3_PERMANENT_ADDRESS, &[]).await?;
        let mac = *mac.first_chunk().ok_or(NetError::Malformed)?;
        let offloads = match self.switch_offloads(version).await {
            // A host without offloads is a host all the same.
            Err(NetError::Refused(_) | NetError::Malformed) => Offloads::default(),
            other => other?,
        };
        self.facts.call_once(|| Facts { mac, offloads, packing });
        self.ask_about_the_link().await
    }

    async fn switch_offloads(&self, version: NvspVersion) -> Result<Offloads, NetError> {
        if !self.options.offloads {
            return Ok(Offloads::default());
        }
        let oid = Oid::TCP_OFFLOAD_HARDWARE_CAPABILITIES;
        let capabilities = self.query(oid, &offload::query_input(version)).await?;
        let offloads = offload::choose(version, &capabilities)?;
        let value = offload::parameters(version, &offloads);
        self.set(Oid::TCP_OFFLOAD_PARAMETERS, &value).await?;
        Ok(offloads)
    }

    /// Asks for all that may change. What the host doesn't tell stays as it was.
    pub(super) async fn ask_about_the_link(&self) -> Result<(), NetError> {
        let mtu = optional(self.query_word(Oid::GEN_MAXIMUM_FRAME_SIZE).await)?;
        let state = optional(self.query_word(Oid::GEN_MEDIA_CONNECT_STATUS).await)?;
        let speed = optional(self.query_word(Oid::GEN_LINK_SPEED).await)?;
        self.link.update(&self.hal, |link| {
            if let Some(mtu) = mtu.filter(|mtu| *mtu >= LEAST_MTU) {
                link.mtu = mtu.min(self.options.mtu());
            }
            if let Some(state) = state {
                link.up = state == RNDIS_MEDIA_STATE_CONNECTED;
            }
            if let Some(speed) = speed {
                link.megabits = megabits(speed);
            }
        });
        Ok(())
    }

    /// Which frames the host passes on.
    pub(super) async fn set_filter(&self, filter: PacketFilter) -> Result<(), NetError> {
        self.set(Oid::GEN_CURRENT_PACKET_FILTER, &filter.bits().to_le_bytes()).await
    }

    async fn query_word(&self, oid: Oid) -> Result<u32, NetError> {
        let value = self.query(oid, &[]).await?;
        value.first_chunk().map(|word| u32::from_le_bytes(*word)).ok_or(NetError::Malformed)
    }

    pub(super) async fn query(&self, oid: Oid, input: &[u8]) -> Result<Vec<u8>, NetError> {
        let turn = self.control.turn(&self.hal).await;
        let request = requests::query(turn.request(), oid, input);
        let answer = self.rndis(&turn, &request).await?;
        requests::queried(&answer).map(<[u8]>::to_vec)
    }

    pub(super) async fn set(&self, oid: Oid, value: &[u8]) -> Result<(), NetError> {
        let turn = self.control.turn(&self.hal).await;
        let request = requests::set(turn.request(), oid, value);
        requests::was_set(&self.rndis(&turn, &request).await?)
    }

    /// Sends an RNDIS request, and waits for its answer.
    pub(super) async fn rndis(
        &self,
        turn: &Turn<'_, H>,
        request: &[u8],
    ) -> Result<Vec<u8>, NetError> {
        self.send_rndis(turn, request).await?;
        self.in_time(turn.answer()).await
    }

    /// Sends an RNDIS message that lies in a page of its own.
    pub(super) async fn send_rndis(
        &self,
        turn: &Turn<'_, H>,
        message: &[u8],
    ) -> Result<(), NetError> {
        let transaction = turn.transaction();
        let pages = [turn.page(transaction, message)?];
        let byte_count = u32::try_from(message.len()).map_err(|_| NetError::NoMemory)?;
        let ranges = [GpaRange { byte_count, byte_offset: 0, pages: &pages }];
        let head = rndis_packet(true, None);
        let payload = [head.as_slice()];
        let packet = OutgoingPacket::gpa_direct(transaction, &ranges, &payload).with_completion();
        let channel = self.primary.channel.get().ok_or(NetError::Stopped)?;
        self.in_time(channel.send(&packet)).await?.map_err(NetError::from)
    }

    /// Sends an NVSP request, and waits for its completion.
    pub(super) async fn ask<T: NvspMessage>(&self, message: &[u8]) -> Result<T, NetError> {
        let turn = self.control.turn(&self.hal).await;
        self.send_nvsp(message, Some(turn.transaction())).await?;
        let answer = self.in_time(turn.completion()).await?;
        let (answer, _) = T::read_from_prefix(&answer).map_err(|_| NetError::Malformed)?;
        Ok(answer)
    }

    /// Sends an NVSP message that has no completion.
    pub(super) async fn tell(&self, message: &[u8]) -> Result<(), NetError> {
        self.send_nvsp(message, None).await
    }

    async fn send_nvsp(&self, message: &[u8], transaction: Option<u64>) -> Result<(), NetError> {
        let message = padded(message);
        let payload = [message.as_slice()];
        let packet = OutgoingPacket::in_band(transaction.unwrap_or(0), &payload);
        let packet = if transaction.is_some() { packet.with_completion() } else { packet };
        let channel = self.primary.channel.get().ok_or(NetError::Stopped)?;
        self.in_time(channel.send(&packet)).await?.map_err(NetError::from)
    }

    pub(super) async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, NetError> {
        let limit = self.options.time_limit_100ns;
        within(&self.hal, limit, work).await.map_err(|_| NetError::TimedOut)
    }
}

/// The host may refuse, or talk nonsense: then there is nothing. Without an answer at all it is of no use.
fn optional(value: Result<u32, NetError>) -> Result<Option<u32>, NetError> {
    match value {
        Err(NetError::Refused(_) | NetError::Malformed) => Ok(None),
        other => other.map(Some),
    }
}
