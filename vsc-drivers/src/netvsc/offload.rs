//! What the host can take off the guest's hands: asking for it, and switching it on.

use alloc::vec::Vec;

use hv_abi::nvsp::NvspVersion;
use hv_abi::rndis::ndis::{
    ChecksumSwitch, NDIS_OFFLOAD_ENCAP_8023, NdisObjectHeader, Offload as HardwareOffload,
    OffloadParameters, checksum4, checksum6,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::error::NetError;
use super::headers::{Headers, Ip, Transport};

/// Largest TCP packet that is cut into parts; a length field in its IP header could say no more.
const MAX_SEGMENT_BYTES: u32 = 0xFFFF;

/// What is switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// The host fills in checksums of TCP over IPv4, and says whether received ones are right.
    pub tcp4: bool,
    /// UDP over IPv4.
    pub udp4: bool,
    /// TCP over IPv6.
    pub tcp6: bool,
    /// UDP over IPv6.
    pub udp6: bool,
    /// Largest IPv4 packet with TCP that the host cuts into frames, in bytes with its headers; 0: it doesn't.
    pub segment4: u32,
    /// The same for IPv6.
    pub segment6: u32,
}

impl Offloads {
    /// Whether the host fills in the checksum of such a frame.
    pub(super) fn checksums(&self, headers: &Headers) -> bool {
        match (headers.ip, headers.transport) {
            (Ip::V4, Transport::Tcp) => self.tcp4,
            (Ip::V4, Transport::Udp) => self.udp4,
            (Ip::V6, Transport::Tcp) => self.tcp6,
            (Ip::V6, Transport::Udp) => self.udp6,
        }
    }

    /// Largest packet that the host cuts into such frames.
    pub(super) fn segments(&self, headers: &Headers) -> u32 {
        match (headers.ip, headers.transport) {
            (Ip::V4, Transport::Tcp) => self.segment4,
            (Ip::V6, Transport::Tcp) => self.segment6,
            (_, Transport::Udp) => 0,
        }
    }
}

/// What a query for the capabilities must contain: an empty object of the layout that the host knows (`rndis_query_hwcaps`).
pub(super) fn query_input(version: NvspVersion) -> Vec<u8> {
    let (revision, size) = if version >= NvspVersion::V5 {
        (3, HardwareOffload::BYTES_3)
    } else if version >= NvspVersion::V4 {
        (2, HardwareOffload::BYTES_2)
    } else {
        (1, HardwareOffload::BYTES_1)
    };
    let mut object = HardwareOffload::new_zeroed();
    object.header =
        NdisObjectHeader { kind: NdisObjectHeader::OFFLOAD, revision, size: size as u16 };
    object.as_bytes().iter().copied().take(size).collect()
}

/// What can be switched on, of what the host says it can do.
pub(super) fn choose(version: NvspVersion, capabilities: &[u8]) -> Result<Offloads, NetError> {
    let object = read(capabilities)?;
    let (csum, lso) = (&object.csum, &object.lsov2);
    let has = |bits: u32, all: u32| bits & all == all;
    let ethernet = |encapsulation: u32| encapsulation & NDIS_OFFLOAD_ENCAP_8023 != 0;
    let limit = |offered: bool, bytes: u32| if offered { bytes.min(MAX_SEGMENT_BYTES) } else { 0 };
    // Conditions as in Linux, rndis_netdev_set_hwcaps: options too, and UDP only beside TCP and from version 5 on.
    let tcp4 = has(csum.ip4_txcsum, checksum4::TCP | checksum4::TCP_OPTIONS);
    let tcp6_bits = checksum6::TCP | checksum6::TCP_OPTIONS | checksum6::IP_EXTENSIONS;
    let tcp6 = has(csum.ip6_txcsum, tcp6_bits);
    let udp = version >= NvspVersion::V5;
    let lso6_bits = checksum6::IP_EXTENSIONS | checksum6::TCP_OPTIONS;
    Ok(Offloads {
        tcp4,
        udp4: tcp4 && udp && has(csum.ip4_txcsum, checksum4::UDP),
        tcp6,
        udp6: tcp6 && udp && has(csum.ip6_txcsum, checksum6::UDP),
        segment4: limit(tcp4 && ethernet(lso.ip4_encap), lso.ip4_maxsz),
        segment6: limit(
            tcp6 && ethernet(lso.ip6_encap) && has(lso.ip6_opts, lso6_bits),
            lso.ip6_maxsz,
        ),
    })
}

/// The object; what an older host leaves out is zero.
fn read(value: &[u8]) -> Result<HardwareOffload, NetError> {
    let (header, _) = NdisObjectHeader::read_from_prefix(value).map_err(|_| NetError::Malformed)?;
    let size = usize::from(header.size);
    let complete = (HardwareOffload::BYTES_1..=value.len()).contains(&size);
    if header.kind != NdisObjectHeader::OFFLOAD || header.revision == 0 || !complete {
        return Err(NetError::Malformed);
    }
    let mut object = HardwareOffload::new_zeroed();
    object.as_mut_bytes().iter_mut().zip(&value[..size]).for_each(|(to, from)| *to = *from);
    Ok(object)
}

/// The value that switches on `offloads` and nothing else (`rndis_filter_set_offload_params`).
pub(super) fn parameters(version: NvspVersion, offloads: &Offloads) -> Vec<u8> {
    let size = if version <= NvspVersion::V4 {
        OffloadParameters::BYTES_NVSP_4
    } else {
        size_of::<OffloadParameters>()
    };
    let checksum = |on: bool| {
        if on { ChecksumSwitch::TX_RX_ENABLED } else { ChecksumSwitch::TX_RX_DISABLED }
    };
    let large_send = |bytes: u32| {
        if bytes != 0 { OffloadParameters::ENABLED } else { OffloadParameters::DISABLED }
    };
    let mut value = OffloadParameters::new_zeroed();
    value.header =
        NdisObjectHeader { kind: NdisObjectHeader::DEFAULT, revision: 3, size: size as u16 };
    value.ip_v4_csum = ChecksumSwitch::TX_RX_DISABLED;
    value.tcp_ip_v4_csum = checksum(offloads.tcp4);
    value.tcp_ip_v6_csum = checksum(offloads.tcp6);
    if version > NvspVersion::V4 {
        value.udp_ip_v4_csum = checksum(offloads.udp4);
        value.udp_ip_v6_csum = checksum(offloads.udp6);
    }
    value.lso_v2_ipv4 = large_send(offloads.segment4);
    value.lso_v2_ipv6 = large_send(offloads.segment6);
    value.rsc_ip_v4 = OffloadParameters::DISABLED;
    value.rsc_ip_v6 = OffloadParameters::DISABLED;
    value.as_bytes().iter().copied().take(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that can do all that Linux makes use of, by offsets counted from hyperv_net.h.
    fn everything() -> Vec<u8> {
        let mut value = alloc::vec![0; 156];
        value[..4].copy_from_slice(&[0xA7, 3, 156, 0]);
        // ip4_txenc, ip4_txcsum: TCP4 | TCP4OPT | UDP4; ip6_txenc, ip6_txcsum: TCP6 | TCP6OPT | IP6EXT | UDP6.
        for (at, word) in [(4, 2), (8, 0x54), (20, 2), (24, 0x55)] {
            value[at] = word;
        }
        // lsov2: ip4_encap, ip4_maxsz, ip4_minsg, ip6_encap, ip6_maxsz, ip6_minsg, ip6_opts.
        for (word, number) in [2_u32, 0xF53C, 2, 2, 0x0010_0000, 2, 5].into_iter().enumerate() {
            value[80 + word * 4..][..4].copy_from_slice(&number.to_le_bytes());
        }
        value
    }

    const ALL: Offloads = Offloads {
        tcp4: true,
        udp4: true,
        tcp6: true,
        udp6: true,
        segment4: 0xF53C,
        segment6: 0xFFFF,
    };

    #[test]
    fn all_that_the_host_offers_is_chosen() {
        assert_eq!(choose(NvspVersion::V6_1, &everything()), Ok(ALL));
        let old = Offloads { udp4: false, udp6: false, ..ALL };
        assert_eq!(choose(NvspVersion::V4, &everything()), Ok(old));
    }

    #[test]
    fn an_older_hosts_object_is_shorter() {
        let mut value = everything();
        value[1..4].copy_from_slice(&[1, 112, 0]);
        value.truncate(112);
        assert_eq!(choose(NvspVersion::V2, &value).map(|offloads| offloads.segment4), Ok(0xF53C));
    }

    #[test]
    fn without_options_there_is_no_checksum_and_no_segmentation() {
        let mut value = everything();
        value[8] = 0x50;
        value[24] = 0x51;
        assert_eq!(choose(NvspVersion::V6_1, &value), Ok(Offloads::default()));
    }

    #[test]
    fn objects_that_lie_are_refused() {
        let broken = |at: usize, byte: u8| {
            let mut value = everything();
            value[at] = byte;
            choose(NvspVersion::V6_1, &value)
        };
        assert_eq!(broken(0, 0xA8), Err(NetError::Malformed), "type");
        assert_eq!(broken(1, 0), Err(NetError::Malformed), "revision");
        assert_eq!(broken(2, 157), Err(NetError::Malformed), "longer than it is");
        assert_eq!(broken(2, 111), Err(NetError::Malformed), "shorter than any");
        assert_eq!(choose(NvspVersion::V6_1, &everything()[..100]), Err(NetError::Malformed));
        assert_eq!(choose(NvspVersion::V6_1, &[0xA7]), Err(NetError::Malformed));
        let mut newer = everything();
        newer.resize(200, 9);
        newer[2] = 200;
        assert_eq!(choose(NvspVersion::V6_1, &newer), Ok(ALL), "a newer host's is longer");
    }

    #[test]
    fn queries_begin_with_the_object_that_linux_sends() {
        for (version, header, bytes) in [
            (NvspVersion::V6_1, [0xA7, 3, 156, 0], 156),
            (NvspVersion::V5, [0xA7, 3, 156, 0], 156),
            (NvspVersion::V4, [0xA7, 2, 144, 0], 144),
            (NvspVersion::V1, [0xA7, 1, 112, 0], 112),
        ] {
            let input = query_input(version);
            assert_eq!((&input[..4], input.len()), (&header[..], bytes), "{version:?}");
            assert!(input[4..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn parameters_have_the_bytes_of_linux() {
        // struct ndis_offload_params: header (type, revision 3, size), five checksums (ip, tcp4, udp4, tcp6, udp6), lso_v1,
        // ip_sec_v1, lso_v2 for IPv4 and IPv6, …, rsc for both at 22.
        let new = parameters(NvspVersion::V6_1, &ALL);
        let mut expected = [0; 28];
        expected[..13].copy_from_slice(&[0x80, 3, 28, 0, 1, 4, 4, 4, 4, 0, 0, 2, 2]);
        expected[22..24].copy_from_slice(&[1, 1]);
        assert_eq!(new, expected);
        let old = parameters(NvspVersion::V4, &ALL);
        assert_eq!(old[..13], [0x80, 3, 22, 0, 1, 4, 0, 4, 0, 0, 0, 2, 2]);
        assert_eq!(old.len(), 22);
        let nothing = parameters(NvspVersion::V6_1, &Offloads::default());
        assert_eq!(nothing[4..13], [1, 1, 1, 1, 1, 0, 0, 1, 1]);
    }
}
