//! Looks for disks, and at each of them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use hv_abi::scsi::inquiry::vpd_page;

use super::command::Command;
use super::controller::{Controller, Place};
use super::error::{DiskError, DiskErrorKind};
use super::facts::{self, Capacity10, Geometry, Identity};
use super::inventory::{Found, Shape};
use super::slots::Address;
use crate::hal::Hal;

/// Room for as many units as the protocol has numbers for.
const LUN_LIST_BYTES: u32 = 8 + 256 * 8;
/// Units that are tried one by one if the host gives no list: as many as Hyper-V's controllers have.
const LUNS_WITHOUT_LIST: u8 = 64;
/// Bytes of standard INQUIRY data that the driver looks at.
const INQUIRY_BYTES: u16 = 36;
/// Room for a vital product data page. One byte of length: some disks take no more (SPC-2).
const VPD_BYTES: u16 = 252;

impl<H: Hal> Controller<H> {
    /// Brings the list of disks up to date.
    ///
    /// # Errors
    ///
    /// [`DiskErrorKind::Gone`], with a list that is empty then; others if the host can't be asked, and the list stays.
    pub(super) async fn rescan(&self) -> Result<(), DiskError> {
        let found = self.look().await;
        match found {
            Ok(found) => {
                self.inventory.update(&self.hal, found);
                Ok(())
            }
            Err(error) => {
                if error.kind == DiskErrorKind::Gone {
                    self.inventory.update(&self.hal, BTreeMap::new());
                }
                Err(error)
            }
        }
    }

    async fn look(&self) -> Result<BTreeMap<Address, Found>, DiskError> {
        let mut found = BTreeMap::new();
        for address in self.addresses().await? {
            match self.probe(address).await {
                Ok(Some(disk)) => {
                    found.insert(address, disk);
                }
                Ok(None) => {}
                Err(error) if error.kind == DiskErrorKind::Gone => return Err(error),
                Err(error) if error.kind == DiskErrorKind::NoSuchLun => {}
                Err(_) => {
                    found.insert(address, Found::Unclear);
                }
            }
        }
        Ok(found)
    }

    async fn addresses(&self) -> Result<Vec<Address>, DiskError> {
        let target = match self.place {
            Place::Unit(address) => return Ok(Vec::from([address])),
            Place::Target(address) => address,
        };
        // Unit 0 answers this, whether there is a disk or not.
        let list = self.fetch(target, &Command::report_luns(LUN_LIST_BYTES)).await;
        let luns = match list {
            Ok(bytes) => facts::luns(&bytes),
            Err(error) if error.kind == DiskErrorKind::Gone => return Err(error),
            Err(_) => None,
        };
        let luns = luns.unwrap_or_else(|| (0..LUNS_WITHOUT_LIST).collect());
        Ok(luns.into_iter().map(|lun| Address { lun, ..target }).collect())
    }

    /// What is at `address`; `None` if that is no disk, or one without a medium.
    async fn probe(&self, address: Address) -> Result<Option<Found>, DiskError> {
        let inquiry = self.fetch(address, &Command::inquiry(None, INQUIRY_BYTES)).await?;
        let Some(identity) = facts::inquiry(&inquiry) else { return Ok(None) };
        // Takes what the unit has to say of changes, so that it does not stand in the way of what follows.
        match self.order(0, address, &Command::test_unit_ready()).await {
            Err(error) if error.kind == DiskErrorKind::NotReady => return Ok(None),
            Err(error) if error.kind == DiskErrorKind::Gone => return Err(error),
            _ => {}
        }
        let (identity, limits, provisioning) = self.pages(address, identity).await?;
        let (geometry, physical_block_bytes, provisioned) = self.capacity(address).await?;
        let mode = match self.fetch(address, &Command::mode_sense(192)).await {
            Ok(bytes) => facts::mode(&bytes).unwrap_or_default(),
            Err(error) if error.kind == DiskErrorKind::Gone => return Err(error),
            // Linux takes a disk that does not say for writable, without FUA.
            Err(_) => facts::ModeFacts::default(),
        };
        let shape = Shape {
            geometry,
            physical_block_bytes,
            read_only: mode.read_only,
            unit_access: mode.unit_access,
            provisioning: facts::provisioning(&limits, &provisioning, provisioned),
        };
        Ok(Some(Found::Disk(identity, shape)))
    }

    /// The vital product data pages that the disk has: names, and the pages of limits and provisioning.
    async fn pages(
        &self,
        address: Address,
        mut identity: Identity,
    ) -> Result<(Identity, Vec<u8>, Vec<u8>), DiskError> {
        let listed = self.page(address, vpd_page::SUPPORTED_PAGES).await?;
        let mut pages = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        let wanted = [
            vpd_page::UNIT_SERIAL_NUMBER,
            vpd_page::DEVICE_IDENTIFICATION,
            vpd_page::BLOCK_LIMITS,
            vpd_page::LOGICAL_BLOCK_PROVISIONING,
        ];
        for (place, page) in pages.iter_mut().zip(wanted) {
            if facts::lists_page(&listed, page) {
                *place = self.page(address, page).await?;
            }
        }
        let [serial, designators, limits, provisioning] = pages;
        identity.serial = facts::serial(&serial).unwrap_or_default();
        identity.designators =
            facts::vpd(&designators, vpd_page::DEVICE_IDENTIFICATION).unwrap_or_default().to_vec();
        Ok((identity, limits, provisioning))
    }

    /// A page; empty if the disk does not give it, which some that list it don't (Linux, `storvsc_on_io_completion`).
    async fn page(&self, address: Address, page: u8) -> Result<Vec<u8>, DiskError> {
        match self.fetch(address, &Command::inquiry(Some(page), VPD_BYTES)).await {
            Ok(bytes) => Ok(bytes.to_vec()),
            Err(error) if is_final(error.kind) => Err(error),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Size, bytes of a physical block, and whether blocks can be discarded.
    async fn capacity(&self, address: Address) -> Result<(Geometry, u32, bool), DiskError> {
        let short = self.fetch(address, &Command::read_capacity_10(8)).await?;
        let short = facts::capacity_10(&short).ok_or(DiskErrorKind::BadReply)?;
        let long = match self.fetch(address, &Command::read_capacity_16(32)).await {
            Ok(bytes) => facts::capacity_16(&bytes),
            Err(error) if is_final(error.kind) => return Err(error),
            Err(_) => None,
        };
        match (short, long) {
            // They differ: perhaps it is just being resized. It will say so.
            (Capacity10::Known(geometry), Some(long)) if geometry != long.geometry => {
                Err(DiskErrorKind::BadReply.into())
            }
            (_, Some(long)) => Ok((long.geometry, long.physical_block_bytes, long.provisioned)),
            (Capacity10::Known(geometry), None) => Ok((geometry, geometry.block_bytes, false)),
            (Capacity10::TooLarge, None) => Err(DiskErrorKind::BadReply.into()),
        }
    }
}

/// Whether there is no use in asking further.
fn is_final(kind: DiskErrorKind) -> bool {
    matches!(kind, DiskErrorKind::Gone | DiskErrorKind::NoSuchLun | DiskErrorKind::TimedOut)
}
