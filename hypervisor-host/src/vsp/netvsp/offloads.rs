//! What a card does for its guest, as NDIS objects say it.
//!
//! All of it is done for every back end, by [`net::offload`](crate::net::offload) if not by the back end itself.

use hv_abi::nvsp::NvspVersion;
use hv_abi::rndis::RndisStatus;
use hv_abi::rndis::ndis::{
    ChecksumOffload, ChecksumSwitch, LargeSendOffload, NDIS_OFFLOAD_ENCAP_8023, NdisObjectHeader,
    Offload, OffloadParameters, checksum4, checksum6,
};
use zerocopy::{FromBytes, IntoBytes};

/// Largest TCP payload that a guest may have cut: with its headers it stays below the 64 KiB of an IP packet.
pub(super) const MAX_LARGE_SEND: u32 = 61_440;
/// Least number of parts.
const MIN_PARTS: u32 = 2;

/// What the guest switched on. Checksums and large sends go by what it says of each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffloadState {
    /// The guest wants to be told that a frame's checksum is right.
    pub(super) rx_checksum: bool,
    /// The guest may send frames for which the host computes checksums.
    pub(super) tx_checksum: bool,
    /// The guest may send large segments.
    pub(super) large_send: bool,
}

impl Default for OffloadState {
    fn default() -> Self {
        Self { rx_checksum: true, tx_checksum: true, large_send: true }
    }
}

impl OffloadState {
    /// Takes what the guest set.
    pub(super) fn set(&mut self, value: &[u8]) -> Result<(), RndisStatus> {
        if value.len() < OffloadParameters::BYTES_1 {
            return Err(RndisStatus::INVALID_LENGTH);
        }
        let mut parameters = OffloadParameters::default();
        for (place, byte) in parameters.as_mut_bytes().iter_mut().zip(value) {
            *place = *byte;
        }
        if parameters.header.kind != NdisObjectHeader::DEFAULT {
            return Err(RndisStatus::INVALID_DATA);
        }
        let checksums = [
            parameters.tcp_ip_v4_csum,
            parameters.udp_ip_v4_csum,
            parameters.tcp_ip_v6_csum,
            parameters.udp_ip_v6_csum,
        ];
        let ways: Vec<_> = checksums.into_iter().filter_map(ways).collect();
        if !ways.is_empty() {
            self.tx_checksum = ways.iter().any(|&(tx, _)| tx);
            self.rx_checksum = ways.iter().any(|&(_, rx)| rx);
        }
        let large = [parameters.lso_v2_ipv4, parameters.lso_v2_ipv6];
        if large.iter().any(|&switch| switch != 0) {
            self.large_send = large.contains(&OffloadParameters::ENABLED);
        }
        Ok(())
    }

    /// What is switched on, or with [`OffloadState::default`] what there is, in the layout that the guest knows: as it says in
    /// `request`, or by the version.
    pub(super) fn object(self, request: &[u8], version: NvspVersion) -> Vec<u8> {
        let (revision, bytes) = layout(request, version);
        let header =
            NdisObjectHeader { kind: NdisObjectHeader::OFFLOAD, revision, size: bytes as u16 };
        let checksums = if self.tx_checksum || self.rx_checksum { checksums(self) } else { NONE };
        let lsov2 = if self.large_send { LARGE } else { LargeSendOffload::default() };
        let offload = Offload { header, csum: checksums, lsov2, ..Offload::default() };
        offload.as_bytes().get(..bytes).unwrap_or_default().to_vec()
    }
}

/// Guest to host, and host to guest.
fn ways(switch: ChecksumSwitch) -> Option<(bool, bool)> {
    match switch {
        ChecksumSwitch::TX_RX_DISABLED => Some((false, false)),
        ChecksumSwitch::TX_ENABLED_RX_DISABLED => Some((true, false)),
        ChecksumSwitch::RX_ENABLED_TX_DISABLED => Some((false, true)),
        ChecksumSwitch::TX_RX_ENABLED => Some((true, true)),
        _ => None,
    }
}

const NONE: ChecksumOffload = ChecksumOffload {
    ip4_txenc: 0,
    ip4_txcsum: 0,
    ip4_rxenc: 0,
    ip4_rxcsum: 0,
    ip6_txenc: 0,
    ip6_txcsum: 0,
    ip6_rxenc: 0,
    ip6_rxcsum: 0,
};

const LARGE: LargeSendOffload = LargeSendOffload {
    ip4_encap: NDIS_OFFLOAD_ENCAP_8023,
    ip4_maxsz: MAX_LARGE_SEND,
    ip4_minsg: MIN_PARTS,
    ip6_encap: NDIS_OFFLOAD_ENCAP_8023,
    ip6_maxsz: MAX_LARGE_SEND,
    ip6_minsg: MIN_PARTS,
    ip6_opts: checksum6::IP_EXTENSIONS | checksum6::TCP_OPTIONS,
};

fn checksums(state: OffloadState) -> ChecksumOffload {
    let ip4 = checksum4::IP_OPTIONS
        | checksum4::TCP_OPTIONS
        | checksum4::TCP
        | checksum4::UDP
        | checksum4::IP;
    let ip6 = checksum6::IP_EXTENSIONS | checksum6::TCP_OPTIONS | checksum6::TCP | checksum6::UDP;
    let if_on = |on: bool, value: u32| if on { value } else { 0 };
    let (tx, rx) = (state.tx_checksum, state.rx_checksum);
    ChecksumOffload {
        ip4_txenc: if_on(tx, NDIS_OFFLOAD_ENCAP_8023),
        ip4_txcsum: if_on(tx, ip4),
        ip4_rxenc: if_on(rx, NDIS_OFFLOAD_ENCAP_8023),
        ip4_rxcsum: if_on(rx, ip4),
        ip6_txenc: if_on(tx, NDIS_OFFLOAD_ENCAP_8023),
        ip6_txcsum: if_on(tx, ip6),
        ip6_rxenc: if_on(rx, NDIS_OFFLOAD_ENCAP_8023),
        ip6_rxcsum: if_on(rx, ip6),
    }
}

/// Revision and bytes.
fn layout(request: &[u8], version: NvspVersion) -> (u8, usize) {
    let of_revision = |revision| match revision {
        1 => Some((1, Offload::BYTES_1)),
        2 => Some((2, Offload::BYTES_2)),
        3.. => Some((3, Offload::BYTES_3)),
        0 => None,
    };
    let header = NdisObjectHeader::read_from_prefix(request).map(|(header, _)| header);
    let asked = header.ok().filter(|header| header.kind == NdisObjectHeader::OFFLOAD);
    let asked = asked.and_then(|header| of_revision(header.revision));
    asked.unwrap_or(match version {
        version if version >= NvspVersion::V5 => (3, Offload::BYTES_3),
        version if version >= NvspVersion::V4 => (2, Offload::BYTES_2),
        _ => (1, Offload::BYTES_1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_says_what_linux_looks_for() {
        // rndis_netdev_set_hwcaps: 0x14 is NDIS_TXCSUM_ALL_TCP4, 0x15 NDIS_TXCSUM_ALL_TCP6, 5 NDIS_LSOV2_CAP_IP6.
        let object = OffloadState::default().object(&[], NvspVersion::V6_1);
        let word = |at: usize| u32::from_le_bytes(object[at..at + 4].try_into().unwrap());
        assert_eq!(object[..4], [0xA7, 3, 156, 0]);
        assert_eq!((word(8) & 0x54, word(24) & 0x55), (0x54, 0x55));
        assert_eq!((word(80) & 2, word(92) & 2, word(104) & 5), (2, 2, 5));
        assert_eq!((word(84), object[144..146].to_vec()), (61_440, vec![0, 0]));
    }

    #[test]
    fn the_object_is_as_long_as_the_guest_asks_or_its_version_has() {
        let bytes =
            |request: &[u8], version| OffloadState::default().object(request, version).len();
        assert_eq!(bytes(&[], NvspVersion::V2), 112);
        assert_eq!(bytes(&[], NvspVersion::V4), 144);
        assert_eq!(bytes(&[0xA7, 1, 112, 0], NvspVersion::V6_1), 112);
        assert_eq!(bytes(&[0xA7, 9, 200, 0], NvspVersion::V2), 156);
        assert_eq!(bytes(&[0xA7, 0, 0, 0], NvspVersion::V2), 112);
        assert_eq!(bytes(&[0x80, 3, 0, 0], NvspVersion::V2), 112);
    }

    #[test]
    fn what_linux_sets_is_taken() {
        // rndis_netdev_set_hwcaps: IPv4 off, TCP and UDP both ways, large sends on; 22 bytes up to version 4.
        let mut value = vec![0x80, 3, 22, 0, 1, 4, 4, 4, 4, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut state = OffloadState { rx_checksum: false, tx_checksum: false, large_send: false };
        state.set(&value).unwrap();
        assert_eq!(state, OffloadState::default());
        // Nothing changes, then all is switched off.
        value[4..13].fill(0);
        state.set(&value).unwrap();
        assert_eq!(state, OffloadState::default());
        value[4..13].fill(1);
        state.set(&value).unwrap();
        assert_eq!(state.object(&[], NvspVersion::V2)[4..36], [0; 32]);
        assert!(!state.large_send);
        value[5] = 3;
        state.set(&value).unwrap();
        assert!(state.rx_checksum && !state.tx_checksum);
    }

    #[test]
    fn malformed_values_change_nothing() {
        let mut state = OffloadState::default();
        assert_eq!(state.set(&[0x80; 19]), Err(RndisStatus::INVALID_LENGTH));
        assert_eq!(state.set(&[1; 28]), Err(RndisStatus::INVALID_DATA));
        assert_eq!(state, OffloadState::default());
    }
}
