//! Receive-side scaling: which channel a received frame goes to.

use hv_abi::rndis::RndisStatus;
use hv_abi::rndis::ndis::{NdisObjectHeader, RssParameters, hash};
use zerocopy::FromBytes;

use crate::net::toeplitz::{KEY_BYTES, Key};

/// Hash types that there are.
const TYPES: u32 =
    hash::IPV4 | hash::TCP_IPV4 | hash::IPV6 | hash::TCP_IPV6 | hash::UDP_IPV4 | hash::UDP_IPV6;
/// Entries of the table at most (Linux, `ITAB_NUM_MAX`).
const MAX_ENTRIES: usize = 256;

/// What the guest set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rss {
    key: Key,
    types: u32,
    /// Channels; never empty.
    table: Vec<u16>,
}

impl Rss {
    /// What `value`, as set by the guest, makes of `old`, on a card with so many channels. `None`: it is off.
    pub(super) fn set(
        old: Option<&Self>,
        value: &[u8],
        channels: u16,
    ) -> Result<Option<Self>, RndisStatus> {
        let (parameters, _) =
            RssParameters::read_from_prefix(value).map_err(|_| RndisStatus::INVALID_LENGTH)?;
        if parameters.header.kind != NdisObjectHeader::RSS_PARAMETERS {
            return Err(RndisStatus::INVALID_DATA);
        }
        if parameters.flag & RssParameters::DISABLE_RSS != 0 {
            return Ok(None);
        }
        let unchanged = |flag| old.filter(|_| parameters.flag & flag != 0);
        let types = match unchanged(RssParameters::HASH_INFO_UNCHANGED) {
            Some(old) => old.types,
            None => hash_types(parameters.hashinfo)?,
        };
        let table = match unchanged(RssParameters::ITABLE_UNCHANGED) {
            Some(old) => old.table.clone(),
            None => table(value, &parameters, channels)?,
        };
        let key = match unchanged(RssParameters::HASH_KEY_UNCHANGED) {
            Some(old) => old.key,
            None => key(value, &parameters)?,
        };
        Ok((types != 0).then_some(Self { key, types, table }))
    }

    /// The hash of a frame, and its channel; frames without a hash go to the primary one.
    pub(super) fn channel(&self, frame: &[u8]) -> (u16, Option<u32>) {
        let hash = self.key.hash_frame(frame, self.types);
        let entry = hash.and_then(|hash| self.table.get(hash as usize % self.table.len()));
        (entry.copied().unwrap_or(0), hash)
    }
}

fn hash_types(info: u32) -> Result<u32, RndisStatus> {
    let types = info & TYPES;
    if types != 0 && info & 0xFF != hash::FUNC_TOEPLITZ {
        return Err(RndisStatus::NOT_SUPPORTED);
    }
    Ok(types)
}

/// Part of a value at an offset that the value itself says.
fn part(value: &[u8], offset: u32, length: u16) -> Result<&[u8], RndisStatus> {
    let start = offset as usize;
    let end = start.checked_add(usize::from(length)).ok_or(RndisStatus::INVALID_LENGTH)?;
    value.get(start..end).ok_or(RndisStatus::INVALID_LENGTH)
}

fn table(value: &[u8], parameters: &RssParameters, channels: u16) -> Result<Vec<u16>, RndisStatus> {
    let bytes = part(value, parameters.indirect_taboffset, parameters.indirect_tabsize)?;
    let (entries, rest) = bytes.as_chunks::<4>();
    if entries.is_empty() || entries.len() > MAX_ENTRIES || !rest.is_empty() {
        return Err(RndisStatus::INVALID_DATA);
    }
    let entry = |bytes: &[u8; 4]| {
        let channel = u32::from_le_bytes(*bytes);
        let channel = u16::try_from(channel).ok().filter(|&channel| channel < channels);
        channel.ok_or(RndisStatus::INVALID_DATA)
    };
    entries.iter().map(entry).collect()
}

fn key(value: &[u8], parameters: &RssParameters) -> Result<Key, RndisStatus> {
    let bytes = part(value, parameters.hashkey_offset, parameters.hashkey_size)?;
    let mut key = [0; KEY_BYTES];
    let place = key.get_mut(..bytes.len()).ok_or(RndisStatus::INVALID_DATA)?;
    place.copy_from_slice(bytes);
    Ok(Key(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::offload::samples::tcp4;
    use proptest::prelude::*;

    /// What Linux's `rndis_set_rss_param_msg` sends, for four entries: fixed part of 40 bytes, table, key.
    pub(super) fn linux(entries: [u32; 4], flag: u16) -> Vec<u8> {
        let mut value = vec![0x89, 2, 40, 0];
        value.extend(flag.to_le_bytes());
        value.extend([0, 0]);
        value.extend(0x1701_u32.to_le_bytes());
        value.extend([16, 0, 0, 0, 40, 0, 0, 0, 40, 0, 0, 0, 56, 0, 0, 0]);
        value.extend([0; 12]);
        value.extend(entries.map(u32::to_le_bytes).concat());
        value.extend((0..40).map(|byte| byte * 3 + 1));
        value
    }

    #[test]
    fn the_parameters_of_linux_spread_frames() {
        let rss = Rss::set(None, &linux([0, 1, 2, 3], 0), 4).unwrap().unwrap();
        let mut channels = [0; 4];
        for port in 0..400_u16 {
            let mut frame = tcp4(b"x");
            frame[34..36].copy_from_slice(&port.to_be_bytes());
            let (channel, hash) = rss.channel(&frame);
            assert_eq!(hash.map(|hash| hash % 4), Some(channel.into()));
            channels[usize::from(channel)] += 1;
        }
        assert!(channels.iter().all(|&count| count > 40), "{channels:?}");
        assert_eq!(rss.channel(&[0; 60]), (0, None));
    }

    #[test]
    fn parts_may_stay_as_they_are() {
        let first = Rss::set(None, &linux([0, 1, 0, 1], 0), 2).unwrap().unwrap();
        let flags = RssParameters::ITABLE_UNCHANGED | RssParameters::HASH_KEY_UNCHANGED;
        let second = Rss::set(Some(&first), &linux([1, 1, 1, 1], flags), 2).unwrap();
        assert_eq!(second, Some(first.clone()));
        let off = Rss::set(Some(&first), &linux([0; 4], RssParameters::DISABLE_RSS), 2);
        assert_eq!(off, Ok(None));
    }

    #[test]
    fn malformed_parameters_are_refused() {
        for (at, value, status) in [
            (0, 0x88, RndisStatus::INVALID_DATA),
            (8, 2, RndisStatus::NOT_SUPPORTED), // another function
            (12, 0, RndisStatus::INVALID_DATA), // an empty table
            (12, 15, RndisStatus::INVALID_DATA), // part of an entry
            (12, 200, RndisStatus::INVALID_LENGTH), // behind the end
            (19, 1, RndisStatus::INVALID_LENGTH),
            (20, 41, RndisStatus::INVALID_LENGTH),
            (27, 0xFF, RndisStatus::INVALID_LENGTH),
            (40, 4, RndisStatus::INVALID_DATA), // a channel that there is not
            (43, 1, RndisStatus::INVALID_DATA),
        ] {
            let mut bytes = linux([0, 1, 2, 3], 0);
            bytes[at] = value;
            assert_eq!(Rss::set(None, &bytes, 4), Err(status), "{at} {value}");
        }
        let short = Rss::set(None, &linux([0; 4], 0)[..39], 4);
        assert_eq!(short, Err(RndisStatus::INVALID_LENGTH));
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic_or_leads_to_a_channel_that_there_is_not(
            changes in prop::collection::vec((0_usize..96, any::<u8>()), 0..6),
            channels in 1_u16..5,
        ) {
            let mut value = linux([0, 0, 0, 0], 0);
            for (at, byte) in changes {
                value[at] = byte;
            }
            if let Ok(Some(rss)) = Rss::set(None, &value, channels) {
                prop_assert!(rss.channel(&tcp4(b"abc")).0 < channels);
            }
        }
    }
}
