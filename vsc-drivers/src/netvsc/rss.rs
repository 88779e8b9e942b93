//! Receive-side scaling: which channel the host puts a flow's frames into.

use alloc::vec::Vec;

use hv_abi::rndis::ndis::{NdisObjectHeader, RssCapabilities, RssParameters, hash};
use zerocopy::{FromZeros, IntoBytes};

use super::error::NetError;
use super::toeplitz::KEY_BYTES;

/// Largest indirection table that Linux takes from a host (`ITAB_NUM_MAX`).
const MAX_TABLE_ENTRIES: u16 = 256;

/// What the host offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scaling {
    /// Channels, the first included.
    pub(super) channels: u32,
    /// Entries of the indirection table.
    pub(super) table_entries: u16,
}

/// What a query for the capabilities must contain: an empty object (`rndis_filter_query_device`).
pub(super) fn query_input() -> Vec<u8> {
    let mut object = RssCapabilities::new_zeroed();
    object.header = NdisObjectHeader {
        kind: NdisObjectHeader::RSS_CAPABILITIES,
        revision: 2,
        size: RssCapabilities::BYTES as u16,
    };
    object.as_bytes().iter().copied().take(RssCapabilities::BYTES).collect()
}

/// The host's answer.
pub(super) fn read(value: &[u8]) -> Result<Scaling, NetError> {
    let mut object = RssCapabilities::new_zeroed();
    if value.len() < RssCapabilities::BYTES {
        return Err(NetError::Malformed);
    }
    object.as_mut_bytes().iter_mut().zip(value).for_each(|(to, from)| *to = *from);
    if object.header.kind != NdisObjectHeader::RSS_CAPABILITIES {
        return Err(NetError::Malformed);
    }
    let table_entries = match object.num_indirect_tabent {
        1..=MAX_TABLE_ENTRIES => object.num_indirect_tabent,
        _ => RssParameters::TABLE_ENTRIES as u16,
    };
    Ok(Scaling { channels: object.num_recv_que, table_entries })
}

/// The value that spreads frames over `table`'s channels by `key`; no table switches it off (`rndis_set_rss_param_msg`).
pub(super) fn parameters(key: &[u8; KEY_BYTES], table: &[u32], on: bool) -> Vec<u8> {
    let fixed_bytes = size_of::<RssParameters>() as u32;
    let table_bytes = size_of_val(table) as u32;
    let mut value = RssParameters::new_zeroed();
    value.header = NdisObjectHeader {
        kind: NdisObjectHeader::RSS_PARAMETERS,
        revision: 2,
        size: fixed_bytes as u16,
    };
    value.flag = if on { 0 } else { RssParameters::DISABLE_RSS };
    value.hashinfo =
        hash::FUNC_TOEPLITZ | hash::IPV4 | hash::TCP_IPV4 | hash::IPV6 | hash::TCP_IPV6;
    value.indirect_tabsize = table_bytes as u16;
    value.indirect_taboffset = fixed_bytes;
    value.hashkey_size = KEY_BYTES as u16;
    value.hashkey_offset = fixed_bytes + table_bytes;
    [value.as_bytes(), table.as_bytes(), key].concat()
}

#[cfg(test)]
mod tests {
    use super::super::toeplitz::DEFAULT_KEY;
    use super::*;

    #[test]
    fn parameters_have_the_bytes_of_linux() {
        // struct ndis_recv_scale_param: header, flag, base_cpu_number, hashinfo 0x1701, tabsize 16, taboffset 40, keysize 40,
        // keyoffset 56, three unused words; then table and key.
        let value = parameters(&DEFAULT_KEY, &[0, 1, 2, 3], true);
        #[rustfmt::skip]
        let expected = [
            0x89, 2, 40, 0, 0, 0, 0, 0, 1, 0x17, 0, 0, 16, 0, 0, 0, 40, 0, 0, 0, 40, 0, 0, 0, 56, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0,
        ];
        assert_eq!(value[..56], expected);
        assert_eq!(value[56..], DEFAULT_KEY);
        assert_eq!(parameters(&DEFAULT_KEY, &[0; 128], false)[4], 0x10);
    }

    #[test]
    fn capabilities_are_read_as_linux_reads_them() {
        let value = |channels: u8, entries: [u8; 2]| {
            [0x88, 2, 18, 0, 1, 3, 0, 0, 1, 0, 0, 0, channels, 0, 0, 0, entries[0], entries[1]]
        };
        assert_eq!(read(&value(8, [64, 0])), Ok(Scaling { channels: 8, table_entries: 64 }));
        assert_eq!(read(&value(8, [0, 0])), Ok(Scaling { channels: 8, table_entries: 128 }));
        assert_eq!(read(&value(8, [1, 1])), Ok(Scaling { channels: 8, table_entries: 128 }));
        assert_eq!(read(&value(8, [64, 0])[..17]), Err(NetError::Malformed));
        let mut other = value(8, [64, 0]);
        other[0] = 0x89;
        assert_eq!(read(&other), Err(NetError::Malformed));
        assert_eq!(query_input()[..5], [0x88, 2, 18, 0, 0]);
        assert_eq!(query_input().len(), 18);
    }
}
