//! More channels than one: asking for them, opening them, and having the host spread frames over them.

use alloc::vec::Vec;

use hv_abi::nvsp::{
    NVSP_MAX_CHANNELS, NVSP_SUBCHANNEL_ALLOCATE, NvspMessage, NvspStatus, NvspSubchannelComplete,
    NvspSubchannelRequest, NvspVersion,
};
use hv_abi::rndis::oid::Oid;
use hv_abi::vmbus::version::VmbusVersion;
use zerocopy::IntoBytes;

use super::adapter::Adapter;
use super::error::NetError;
use super::queue::Queue;
use super::rss;
use crate::bus::Vmbus;
use crate::hal::Hal;

impl<H: Hal> Adapter<H> {
    /// Opens as many channels as the options and the host allow. Fewer are no error.
    pub(super) async fn open_channels(
        &self,
        bus: &Vmbus<H>,
        version: NvspVersion,
    ) -> Result<(), NetError> {
        let wanted = usize::from(self.options.channels).min(NVSP_MAX_CHANNELS);
        let bus_knows = bus.version().is_some_and(|version| version >= VmbusVersion::V2_4);
        if wanted < 2 || version < NvspVersion::V5 || !bus_knows {
            return Ok(());
        }
        let scaling = match self.scaling().await {
            Err(NetError::Refused(_) | NetError::Malformed) => return Ok(()),
            other => other?,
        };
        let wanted = wanted.min(scaling.channels as usize);
        if wanted < 2 {
            return Ok(());
        }
        let granted = self.ask_for_channels(wanted - 1).await?;
        let others = self.open_sub_channels(bus, granted).await;
        let channels = others.len() as u16 + 1;
        self.others.call_once(|| others.into());
        self.spread(channels, scaling.table_entries).await?;
        self.send_table.set_channels(channels);
        Ok(())
    }

    async fn scaling(&self) -> Result<rss::Scaling, NetError> {
        let oid = Oid::GEN_RECEIVE_SCALE_CAPABILITIES;
        rss::read(&self.query(oid, &rss::query_input()).await?)
    }

    /// How many sub-channels the host is going to offer.
    async fn ask_for_channels(&self, wanted: usize) -> Result<u16, NetError> {
        let request = NvspSubchannelRequest {
            msg_type: NvspSubchannelRequest::TYPE,
            op: NVSP_SUBCHANNEL_ALLOCATE,
            num_subchannels: wanted as u32,
        };
        let complete: NvspSubchannelComplete = self.ask(request.as_bytes()).await?;
        if complete.status != NvspStatus::SUCCESS {
            return Ok(0);
        }
        // More than were asked for make no sense.
        let granted = complete.num_subchannels;
        if granted as usize > wanted { Err(NetError::Malformed) } else { Ok(granted as u16) }
    }

    /// Opens sub-channels 1 to `count`, up to the first that can't be had.
    async fn open_sub_channels(&self, bus: &Vmbus<H>, count: u16) -> Vec<Queue<H>> {
        let mut queues = Vec::new();
        for index in 1..=count {
            match self.open_sub_channel(bus, index).await {
                Ok(queue) => queues.push(queue),
                Err(_) => break,
            }
        }
        queues
    }

    async fn open_sub_channel(&self, bus: &Vmbus<H>, index: u16) -> Result<Queue<H>, NetError> {
        let primary = self.primary.channel.get().ok_or(NetError::Stopped)?;
        let channel = primary.sub_channel(index).await?;
        let open = bus.open(channel, &self.options.open_params(index)).await?;
        let queue = Queue::new(index, open);
        queue.attach(self);
        Ok(queue)
    }

    /// Has the host spread frames over so many channels. A host that refuses goes on using the first.
    async fn spread(&self, channels: u16, table_entries: u16) -> Result<(), NetError> {
        let table: Vec<u32> =
            (0..table_entries).map(|entry| u32::from(entry % channels.max(1))).collect();
        let key = &self.options.rss_key;
        let oid = Oid::GEN_RECEIVE_SCALE_PARAMETERS;
        // As Linux does: off before it is changed (`rndis_filter_set_rss_param`).
        for on in [false, true] {
            match self.set(oid, &rss::parameters(key, &table, on)).await {
                Ok(()) | Err(NetError::Refused(_) | NetError::Malformed) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
