//! Data of commands that tell what drive and medium are.

use hv_abi::ata::packet::{
    CD_SECTOR_BYTES, CONFIGURATION_ALL, CONFIGURATION_CURRENT, CONFIGURATION_ONE, CapabilitiesPage,
    CdbGetConfiguration, CdbGetEventStatus, EVENT_CLASS_MEDIA, EVENT_NONE_AVAILABLE, EVENT_POLLED,
    EventHeader, FEATURE_CURRENT, FEATURE_PERSISTENT, FORMATS_MODE_2_MULTI, FeatureDescriptor,
    FeatureHeader, MECHANISM_EJECT, MECHANISM_LOCK, MECHANISM_LOCKED, MECHANISM_TRAY,
    MEDIA_PRESENT, MEDIA_TRAY_OPEN, MediaEvent, PACKET_BYTES, PERIPHERAL_CD_ROM, PROFILE_CD_ROM,
    feature, mode_page,
};
use hv_abi::scsi::cdb::{CdbInquiry, CdbModeSense10, CdbRequestSense, INQUIRY_EVPD};
use hv_abi::scsi::data::ReadCapacity10;
use hv_abi::scsi::inquiry::{InquiryData, RESPONSE_DATA_FORMAT};
use hv_abi::scsi::mode::{ModeHeader10, PAGE_CONTROL_CHANGEABLE, PAGE_CONTROL_SAVED, page};
use hv_abi::scsi::sense::{AdditionalSense, SenseKey};
use zerocopy::IntoBytes;

use super::commands::{Outcome, answer, view, wrong};
use super::drive::Medium;
use crate::storage::scsi::sense::Sense;

/// Of INQUIRY: the medium can be removed.
const REMOVABLE: u8 = 0x80;
/// Of INQUIRY: ATAPI's version, beside the format.
const ATAPI_VERSION: u8 = 0x30;
/// Four times a CD's own speed, in units of 1,000 bytes per second.
const SPEED: u16 = 706;

type Packet = [u8; PACKET_BYTES];

impl Medium {
    pub(super) fn request_sense(&mut self, packet: &Packet) -> Result<Outcome, Sense> {
        let cdb: CdbRequestSense = view(packet)?;
        Ok(answer(self.take_sense().to_fixed().to_vec(), cdb.allocation_length))
    }

    pub(super) fn inquiry(&self, packet: &Packet) -> Result<Outcome, Sense> {
        let cdb: CdbInquiry = view(packet)?;
        if cdb.flags & INQUIRY_EVPD != 0 || cdb.page_code != 0 {
            return Err(wrong(if cdb.flags & INQUIRY_EVPD != 0 { 1 } else { 2 }));
        }
        let data = InquiryData {
            peripheral: PERIPHERAL_CD_ROM,
            rmb: REMOVABLE,
            version: 0,
            response_data_format: ATAPI_VERSION | RESPONSE_DATA_FORMAT,
            additional_length: (size_of::<InquiryData>() - 5) as u8,
            flags5: 0,
            flags6: 0,
            flags7: 0,
            vendor: *b"ENLIGHTN",
            product: *b"Virtual CD-ROM  ",
            revision: *b"1.0 ",
        };
        Ok(answer(data.as_bytes().to_vec(), cdb.allocation_length.get()))
    }

    pub(super) fn read_capacity(&self) -> Result<Outcome, Sense> {
        self.check()?;
        let last_lba = self.sectors().saturating_sub(1).into();
        let data = ReadCapacity10 { last_lba, block_bytes: CD_SECTOR_BYTES.into() };
        Ok(Outcome::Answer(data.as_bytes().to_vec()))
    }

    /// MODE SENSE (10), which has no block descriptors here.
    pub(super) fn mode_sense(&self, packet: &Packet) -> Result<Outcome, Sense> {
        let cdb: CdbModeSense10 = view(packet)?;
        let (control, wanted) = (cdb.page >> 6, cdb.page & 0x3F);
        if control == PAGE_CONTROL_SAVED {
            let code = AdditionalSense::SAVING_PARAMETERS_NOT_SUPPORTED;
            return Err(Sense::new(SenseKey::ILLEGAL_REQUEST, code));
        }
        // Nothing but its first two bytes is in the recovery page: the host's kernel decides.
        let recovery = [mode_page::ERROR_RECOVERY, 6, 0, 5, 0, 0, 0, 0].to_vec();
        let mut pages = Vec::new();
        for mut bytes in [recovery, self.capabilities().as_bytes().to_vec()] {
            if wanted != page::ALL && bytes.first() != Some(&wanted) {
                continue;
            }
            if control == PAGE_CONTROL_CHANGEABLE {
                bytes.iter_mut().skip(2).for_each(|byte| *byte = 0);
            }
            pages.append(&mut bytes);
        }
        if pages.is_empty() {
            return Err(wrong(2));
        }
        /// A CD of data, 120 mm; or no disc because the tray is out.
        const MEDIUM: [u8; 2] = [0x71, 0x01];
        let header = ModeHeader10 {
            data_length: ((size_of::<ModeHeader10>() - 2 + pages.len()) as u16).into(),
            medium_type: MEDIUM[usize::from(self.is_loaded())],
            device_specific: 0,
            long_lba: 0,
            _reserved: 0,
            block_descriptor_length: 0.into(),
        };
        Ok(answer([header.as_bytes(), &pages].concat(), cdb.allocation_length.get()))
    }

    fn capabilities(&self) -> CapabilitiesPage {
        let locked = if self.is_locked() { MECHANISM_LOCKED } else { 0 };
        CapabilitiesPage {
            page_code: mode_page::CAPABILITIES,
            page_length: (size_of::<CapabilitiesPage>() - 2) as u8,
            formats: FORMATS_MODE_2_MULTI,
            mechanism: MECHANISM_TRAY | MECHANISM_EJECT | MECHANISM_LOCK | locked,
            max_speed: SPEED.into(),
            buffer_size: 128.into(),
            current_speed: SPEED.into(),
            ..Default::default()
        }
    }

    pub(super) fn get_configuration(&self, packet: &Packet) -> Result<Outcome, Sense> {
        let cdb: CdbGetConfiguration = view(packet)?;
        let (request, first) = (cdb.request & 3, cdb.feature.get());
        let loaded = self.is_loaded();
        let wanted = |code: u16, current: bool| match request {
            CONFIGURATION_ALL => code >= first,
            CONFIGURATION_CURRENT => code >= first && current,
            CONFIGURATION_ONE => code == first,
            _ => false,
        };
        if request > CONFIGURATION_ONE {
            return Err(wrong(1));
        }
        let [high, low] = PROFILE_CD_ROM.to_be_bytes();
        let profile = [high, low, loaded.into(), 0];
        let features: [(u16, bool, &[u8]); 5] = [
            (feature::PROFILE_LIST, true, &profile),
            // ATAPI.
            (feature::CORE, true, &[0, 0, 0, 2]),
            // A tray, eject, lock.
            (feature::REMOVABLE_MEDIUM, true, &[0x29, 0, 0, 0]),
            // Sectors of 2,048 bytes, one at a time.
            (feature::RANDOM_READABLE, loaded, &[0, 0, 8, 0, 0, 1, 0, 0]),
            (feature::CD_READ, loaded, &[]),
        ];
        let mut list = Vec::new();
        for (code, current, data) in features.into_iter().filter(|it| wanted(it.0, it.1)) {
            let persistent = if code <= feature::REMOVABLE_MEDIUM { FEATURE_PERSISTENT } else { 0 };
            let flags = persistent | if current { FEATURE_CURRENT } else { 0 };
            let additional_length = data.len() as u8;
            let descriptor = FeatureDescriptor { code: code.into(), flags, additional_length };
            list.extend([descriptor.as_bytes(), data].concat());
        }
        let header = FeatureHeader {
            data_length: ((list.len() + 4) as u32).into(),
            _reserved: 0.into(),
            current_profile: if loaded { PROFILE_CD_ROM } else { 0 }.into(),
        };
        Ok(answer([header.as_bytes(), &list].concat(), cdb.allocation_length.get()))
    }

    pub(super) fn get_event_status(&mut self, packet: &Packet) -> Result<Outcome, Sense> {
        const MEDIA: u8 = 1 << EVENT_CLASS_MEDIA;
        let cdb: CdbGetEventStatus = view(packet)?;
        if cdb.flags & EVENT_POLLED == 0 {
            return Err(wrong(1));
        }
        if cdb.classes & MEDIA == 0 {
            let header =
                EventHeader { length: 2.into(), class: EVENT_NONE_AVAILABLE, supported: MEDIA };
            return Ok(answer(header.as_bytes().to_vec(), cdb.allocation_length.get()));
        }
        let header = EventHeader { length: 6.into(), class: EVENT_CLASS_MEDIA, supported: MEDIA };
        let whole = usize::from(cdb.allocation_length.get()) > size_of::<EventHeader>();
        let event = MediaEvent {
            // What the guest has no room for it has not been told.
            code: if whole { self.take_event() } else { 0 },
            status: if self.is_loaded() { MEDIA_PRESENT } else { MEDIA_TRAY_OPEN },
            ..Default::default()
        };
        let data = [header.as_bytes(), event.as_bytes()].concat();
        Ok(answer(data, cdb.allocation_length.get()))
    }

    /// MECHANISM STATUS: no changer, nothing going on.
    pub(super) fn mechanism_status(packet: &Packet) -> Outcome {
        let [.., high, low, _, _] = *packet;
        let room = u16::from_be_bytes([high, low]);
        answer(vec![0; 8], room)
    }
}
