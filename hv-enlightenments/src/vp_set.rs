//! Sets of virtual processors, by the hypervisor's indices, as calls take them.
//!
//! The plain calls take a mask of the first 64 processors, the `Ex` calls a sparse set of up to 4096
//! ([`hv_abi::vp_set`]). A [`VpSet`] is either, whichever a call needs.

use hv_abi::vp_set::{HV_VP_SET_BANK_SIZE, HV_VP_SET_MAX_BANKS, HvGenericSetFormat, HvVpSetHeader};

/// An index that no set can hold: 4096 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadVpIndex(pub u32);

impl core::fmt::Display for BadVpIndex {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "no set of processors can hold index {}", self.0)
    }
}

impl core::error::Error for BadVpIndex {}

/// A set of virtual processors. 520 bytes; no memory is allocated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VpSet {
    banks: [u64; HV_VP_SET_MAX_BANKS],
    /// Bit *b*: bank *b* is not empty.
    valid: u64,
}

impl VpSet {
    /// The set without processors.
    pub const fn new() -> Self {
        Self { banks: [0; HV_VP_SET_MAX_BANKS], valid: 0 }
    }

    /// The set of the processors with these indices.
    ///
    /// # Errors
    ///
    /// The first index that is 4096 or more.
    pub fn from_indices(indices: impl IntoIterator<Item = u32>) -> Result<Self, BadVpIndex> {
        let mut set = Self::new();
        for index in indices {
            set.insert(index)?;
        }
        Ok(set)
    }

    /// Adds a processor.
    ///
    /// # Errors
    ///
    /// The index, if it is 4096 or more; the set is as it was.
    pub fn insert(&mut self, index: u32) -> Result<(), BadVpIndex> {
        let (bank, bit) = position(index);
        *self.banks.get_mut(bank).ok_or(BadVpIndex(index))? |= bit;
        self.valid |= 1 << bank;
        Ok(())
    }

    /// Whether the processor is in the set.
    pub fn contains(&self, index: u32) -> bool {
        let (bank, bit) = position(index);
        self.banks.get(bank).is_some_and(|bank| bank & bit != 0)
    }

    /// Whether no processor is in the set.
    pub const fn is_empty(&self) -> bool {
        self.valid == 0
    }

    /// Processors in the set.
    pub fn len(&self) -> u32 {
        self.banks.iter().map(|bank| bank.count_ones()).sum()
    }

    /// The set as the mask of the plain calls; `None` if an index is 64 or more.
    pub const fn mask(&self) -> Option<u64> {
        if self.valid & !1 == 0 { Some(self.banks[0]) } else { None }
    }

    /// The set as the `Ex` calls take it.
    pub fn sparse(&self) -> SparseSet {
        let mut sparse = SparseSet {
            header: HvVpSetHeader {
                format: HvGenericSetFormat::SPARSE_4K,
                valid_bank_mask: self.valid,
            },
            banks: [0; HV_VP_SET_MAX_BANKS],
            count: 0,
        };
        for (target, bank) in sparse.banks.iter_mut().zip(self.banks.iter().filter(|&&b| b != 0)) {
            *target = *bank;
            sparse.count += 1;
        }
        sparse
    }
}

impl Default for VpSet {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for VpSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let size = HV_VP_SET_MAX_BANKS as u32 * HV_VP_SET_BANK_SIZE;
        f.debug_set().entries((0..size).filter(|&index| self.contains(index))).finish()
    }
}

/// Number of the bank, and the bit in it.
fn position(index: u32) -> (usize, u64) {
    ((index / HV_VP_SET_BANK_SIZE) as usize, 1 << (index % HV_VP_SET_BANK_SIZE))
}

/// A [`VpSet`] in the format of the `Ex` calls: header, then the banks that are not empty.
#[derive(Debug, Clone, Copy)]
pub struct SparseSet {
    header: HvVpSetHeader,
    banks: [u64; HV_VP_SET_MAX_BANKS],
    count: u16,
}

impl SparseSet {
    /// The set of all processors of the partition.
    pub const ALL: Self = Self {
        header: HvVpSetHeader { format: HvGenericSetFormat::ALL, valid_bank_mask: 0 },
        banks: [0; HV_VP_SET_MAX_BANKS],
        count: 0,
    };

    /// What stands in the fixed part of a call's input.
    pub fn header(&self) -> HvVpSetHeader {
        self.header
    }

    /// What stands in its variable part.
    pub fn banks(&self) -> &[u64] {
        self.banks.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Size of the variable part in 8-byte units.
    pub fn variable_header_qwords(&self) -> u16 {
        self.count
    }
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub enum Targets<'a> {
    /// All processors of the partition.
    All,
    /// These.
    Set(&'a VpSet),
}

#[cfg(all(test, not(loom)))]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_sets_are_masks() {
        // The example of the TLFS (page of HvCallFlushVirtualAddressSpace): processors 0, 4 and 6.
        let set = VpSet::from_indices([6, 0, 4, 4]).unwrap();
        assert_eq!((set.mask(), set.len()), (Some(0x51), 3));
        assert_eq!(VpSet::new().mask(), Some(0));
        assert!(VpSet::new().is_empty() && !set.is_empty());
    }

    #[test]
    fn sparse_sets_leave_empty_banks_out() {
        // The example of the TLFS (*Sparse Virtual Processor Set*): processors 0, 5 and 130.
        let set = VpSet::from_indices([0, 5, 130]).unwrap();
        assert_eq!(set.mask(), None);
        let sparse = set.sparse();
        assert_eq!(sparse.header().format, HvGenericSetFormat::SPARSE_4K);
        assert_eq!(sparse.header().valid_bank_mask, 0x5);
        assert_eq!(sparse.banks(), [0x21, 0x4]);
        assert_eq!(sparse.variable_header_qwords(), 2);
    }

    #[test]
    fn the_set_of_all_has_no_banks() {
        assert_eq!(SparseSet::ALL.header().format.0, 1);
        assert!(SparseSet::ALL.banks().is_empty());
    }

    #[test]
    fn indices_beyond_the_format_are_refused() {
        let mut set = VpSet::new();
        assert_eq!(set.insert(4095), Ok(()));
        for index in [4096, u32::MAX] {
            assert_eq!(set.insert(index), Err(BadVpIndex(index)));
            assert!(!set.contains(index));
        }
        assert_eq!((set.len(), set.sparse().header().valid_bank_mask), (1, 1 << 63));
        assert_eq!(VpSet::from_indices([1, 5000, 2]), Err(BadVpIndex(5000)));
    }

    proptest! {
        #[test]
        fn a_sparse_set_read_as_the_tlfs_says_gives_the_indices(
            indices in proptest::collection::btree_set(0_u32..4096, 0..200),
        ) {
            let set = VpSet::from_indices(indices.iter().copied()).unwrap();
            let sparse = set.sparse();
            let mut banks = sparse.banks().iter();
            let mut found = BTreeSet::new();
            for bank in (0..64).filter(|bank| sparse.header().valid_bank_mask & 1 << bank != 0) {
                let bits = banks.next().expect("a bank for each valid bit");
                prop_assert_ne!(*bits, 0);
                found.extend((0..64).filter(|bit| bits & 1 << bit != 0).map(|bit| bank * 64 + bit));
            }
            prop_assert!(banks.next().is_none());
            prop_assert_eq!(&found, &indices);
            prop_assert_eq!(set.len() as usize, indices.len());
            prop_assert_eq!(set.mask().is_some(), indices.iter().all(|&index| index < 64));
        }
    }
}
