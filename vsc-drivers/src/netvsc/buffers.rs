//! The receive buffer and the send buffer: memory that the host knows, in parts that it chooses.

use hv_abi::HV_PAGE_SIZE;
use hv_abi::nvsp::{
    NVSP_MAX_RECEIVE_BUFFER, NVSP_MAX_RECEIVE_BUFFER_LEGACY, NVSP_MAX_SEND_BUFFER,
    NVSP_RECEIVE_BUFFER_ID, NVSP_SEND_BUFFER_ID, NvspMessage, NvspReceiveSection,
    NvspSendReceiveBuffer, NvspSendReceiveBufferComplete, NvspSendSendBuffer,
    NvspSendSendBufferComplete, NvspStatus, NvspVersion,
};
use zerocopy::IntoBytes;

use super::adapter::{Adapter, SendBuffer};
use super::error::NetError;
use super::sections::Sections;
use crate::channel::SharedBuffer;
use crate::hal::{DmaBuffer, Hal};

/// The least bytes of a section, as Linux (`NETVSC_MTU_MIN`).
const LEAST_SECTION_BYTES: u32 = 68;

impl<H: Hal> Adapter<H> {
    pub(super) async fn share_buffers(&self, version: NvspVersion) -> Result<(), NetError> {
        let limit = if version < NvspVersion::V4 {
            NVSP_MAX_RECEIVE_BUFFER_LEGACY
        } else {
            NVSP_MAX_RECEIVE_BUFFER
        };
        let bytes = self.options.receive_buffer_bytes.min(limit as usize);
        self.share_receive_buffer(bytes).await?;
        let bytes = self.options.send_buffer_bytes.min(NVSP_MAX_SEND_BUFFER as usize);
        if bytes != 0 {
            self.share_send_buffer(bytes).await?;
        }
        Ok(())
    }

    async fn share_receive_buffer(&self, bytes: usize) -> Result<(), NetError> {
        let buffer = self.share(bytes).await?;
        let message = NvspSendReceiveBuffer {
            msg_type: NvspSendReceiveBuffer::TYPE,
            gpadl_handle: buffer.gpadl(),
            id: NVSP_RECEIVE_BUFFER_ID,
            _reserved: 0,
        };
        let bytes = buffer.byte_len();
        // The host may use it from its answer on, which another task may read.
        self.receive_buffer.put(buffer);
        self.primary.attach(self);
        let complete: NvspSendReceiveBufferComplete = self.ask(message.as_bytes()).await?;
        succeeded(complete.status)?;
        if complete.num_sections != 1 || !makes_sense(&complete.section, bytes) {
            return Err(NetError::Malformed);
        }
        Ok(())
    }

    async fn share_send_buffer(&self, bytes: usize) -> Result<(), NetError> {
        let memory = self.share(bytes).await?;
        let message = NvspSendSendBuffer {
            msg_type: NvspSendSendBuffer::TYPE,
            gpadl_handle: memory.gpadl(),
            id: NVSP_SEND_BUFFER_ID,
            _reserved: 0,
        };
        let complete: NvspSendSendBufferComplete = self.ask(message.as_bytes()).await?;
        succeeded(complete.status)?;
        let bytes = memory.byte_len();
        let sections = Sections::new(bytes, complete.section_size, LEAST_SECTION_BYTES);
        let sections = sections.ok_or(NetError::Malformed)?;
        self.send_buffer.put(SendBuffer { memory, sections });
        self.primary.attach(self);
        Ok(())
    }

    async fn share(&self, bytes: usize) -> Result<SharedBuffer<H>, NetError> {
        let pages = bytes.div_ceil(HV_PAGE_SIZE).max(1);
        let buffer = DmaBuffer::new(&self.hal, pages).ok_or(NetError::NoMemory)?;
        let channel = self.primary.channel.get().ok_or(NetError::Stopped)?;
        Ok(channel.share(buffer).await?)
    }
}

/// Whether the host's parts of the receive buffer lie in it (`netvsc_init_buf`).
fn makes_sense(section: &NvspReceiveSection, buffer_bytes: usize) -> bool {
    let (size, count) = (section.sub_alloc_size, section.num_sub_allocs);
    let bytes = u64::from(size) * u64::from(count);
    section.offset == 0 && size >= LEAST_SECTION_BYTES && count != 0 && bytes <= buffer_bytes as u64
}

fn succeeded(status: NvspStatus) -> Result<(), NetError> {
    if status == NvspStatus::SUCCESS { Ok(()) } else { Err(NetError::Refused(status.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receive_sections_lie_in_the_buffer() {
        let section = |offset, size, count| NvspReceiveSection {
            offset,
            sub_alloc_size: size,
            num_sub_allocs: count,
            end_offset: 0,
        };
        assert!(makes_sense(&section(0, 1728, 2427), 4 << 20));
        assert!(!makes_sense(&section(0, 1728, 2428), 4 << 20), "one too many");
        assert!(!makes_sense(&section(1728, 1728, 1), 4 << 20), "not from the start on");
        assert!(!makes_sense(&section(0, 67, 1), 4 << 20), "too small");
        assert!(!makes_sense(&section(0, 1728, 0), 4 << 20), "none");
        assert!(!makes_sense(&section(0, u32::MAX, u32::MAX), 4 << 20), "product beyond 32 bits");
        assert!(!makes_sense(&section(0, 0x1_0000, 0x1_0000), 4 << 20), "product wraps to 0");
    }
}
