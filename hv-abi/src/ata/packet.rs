//! Packet commands of a CD-ROM that a disk does not have, and their answers (MMC-3). All numbers are big-endian.
//!
//! A packet has [`PACKET_BYTES`]; shorter command blocks are padded.

use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::scsi::ScsiOp;

/// Bytes of a command packet.
pub const PACKET_BYTES: usize = 12;
/// Bytes of a sector of data.
pub const CD_SECTOR_BYTES: u32 = 2048;
/// Device type of INQUIRY: CD-ROM.
pub const PERIPHERAL_CD_ROM: u8 = 0x05;

/// READ TOC/PMA/ATIP.
pub const READ_TOC: ScsiOp = ScsiOp(0x43);
/// GET CONFIGURATION.
pub const GET_CONFIGURATION: ScsiOp = ScsiOp(0x46);
/// GET EVENT STATUS NOTIFICATION.
pub const GET_EVENT_STATUS: ScsiOp = ScsiOp(0x4A);
/// READ DISC INFORMATION.
pub const READ_DISC_INFORMATION: ScsiOp = ScsiOp(0x51);
/// MECHANISM STATUS.
pub const MECHANISM_STATUS: ScsiOp = ScsiOp(0xBD);

/// READ TOC/PMA/ATIP (MMC-3).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CdbReadToc {
    /// [`READ_TOC`].
    pub op: ScsiOp,
    /// [`TOC_MSF`].
    pub flags: u8,
    /// In bits 3:0: [`TOC_TRACKS`] and its like.
    pub format: u8,
    /// Reserved.
    pub _reserved: [u8; 3],
    /// First track, or session.
    pub track: u8,
    /// Bytes that the guest has room for.
    pub allocation_length: U16,
    /// CONTROL; its bits 7:6 were the format before MMC.
    pub control: u8,
}

const _: () = assert!(size_of::<CdbReadToc>() == 10);
/// In [`CdbReadToc::flags`]: addresses as minute, second, frame.
pub const TOC_MSF: u8 = 0x02;
/// Format: tracks.
pub const TOC_TRACKS: u8 = 0;
/// Format: the first track of the last complete session.
pub const TOC_SESSIONS: u8 = 1;
/// Format: everything in the lead-in.
pub const TOC_FULL: u8 = 2;

/// Head of an answer of READ TOC with formats 0 and 1.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TocHeader {
    /// Bytes behind this field.
    pub length: U16,
    /// First track, or session.
    pub first: u8,
    /// Last track, or session.
    pub last: u8,
}

const _: () = assert!(size_of::<TocHeader>() == 4);

/// A track of formats 0 and 1.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct TocTrack {
    /// Reserved.
    pub _reserved: u8,
    /// [`TRACK_DATA`].
    pub adr_control: u8,
    /// Its number, [`LEAD_OUT`] for what is behind the last.
    pub track: u8,
    /// Reserved.
    pub _reserved2: u8,
    /// First sector; with [`TOC_MSF`] 0, minute, second, frame.
    pub address: U32,
}

const _: () = assert!(size_of::<TocTrack>() == 8);
/// In [`TocTrack::adr_control`]: position data, a data track, recorded at once.
pub const TRACK_DATA: u8 = 0x14;
/// In [`TocTrack::track`].
pub const LEAD_OUT: u8 = 0xAA;
/// Sectors of a second.
pub const FRAMES_PER_SECOND: u32 = 75;
/// Sectors before sector 0: two seconds.
pub const MSF_OFFSET: u32 = 150;

/// GET CONFIGURATION (MMC-3).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CdbGetConfiguration {
    /// [`GET_CONFIGURATION`].
    pub op: ScsiOp,
    /// In bits 1:0: [`CONFIGURATION_ALL`] and its like.
    pub request: u8,
    /// The first feature wanted.
    pub feature: U16,
    /// Reserved.
    pub _reserved: [u8; 3],
    /// Bytes that the guest has room for.
    pub allocation_length: U16,
    /// CONTROL.
    pub control: u8,
}

const _: () = assert!(size_of::<CdbGetConfiguration>() == 10);
/// Request: all features from the first one wanted on.
pub const CONFIGURATION_ALL: u8 = 0;
/// Request: those that are current.
pub const CONFIGURATION_CURRENT: u8 = 1;
/// Request: that one.
pub const CONFIGURATION_ONE: u8 = 2;

/// Head of the answer of GET CONFIGURATION.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FeatureHeader {
    /// Bytes behind this field.
    pub data_length: U32,
    /// Reserved.
    pub _reserved: U16,
    /// [`PROFILE_CD_ROM`], or 0 without a medium.
    pub current_profile: U16,
}

const _: () = assert!(size_of::<FeatureHeader>() == 8);

/// Head of a feature; so many bytes follow as it says.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FeatureDescriptor {
    /// [`feature`].
    pub code: U16,
    /// Version in bits 5:2, [`FEATURE_PERSISTENT`], [`FEATURE_CURRENT`].
    pub flags: u8,
    /// Bytes behind this one; a multiple of 4.
    pub additional_length: u8,
}

const _: () = assert!(size_of::<FeatureDescriptor>() == 4);
/// In [`FeatureDescriptor::flags`]: always current.
pub const FEATURE_PERSISTENT: u8 = 0x02;
/// Same place: current.
pub const FEATURE_CURRENT: u8 = 0x01;
/// Profile: CD-ROM.
pub const PROFILE_CD_ROM: u16 = 0x0008;
/// Profile: DVD-ROM.
pub const PROFILE_DVD_ROM: u16 = 0x0010;

/// Codes of features.
pub mod feature {
    /// The profiles that there are: 4 bytes each, of which the first two are the profile's number and bit 0 of the third says that it
    /// is current.
    pub const PROFILE_LIST: u16 = 0x0000;
    /// What every drive does.
    pub const CORE: u16 = 0x0001;
    /// Tray, lock, eject.
    pub const REMOVABLE_MEDIUM: u16 = 0x0003;
    /// Sectors can be read in any order.
    pub const RANDOM_READABLE: u16 = 0x0010;
    /// What every CD can do.
    pub const CD_READ: u16 = 0x001E;
}

/// GET EVENT STATUS NOTIFICATION (MMC-3).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CdbGetEventStatus {
    /// [`GET_EVENT_STATUS`].
    pub op: ScsiOp,
    /// [`EVENT_POLLED`].
    pub flags: u8,
    /// Reserved.
    pub _reserved: U16,
    /// A bit for each class wanted: [`EVENT_CLASS_MEDIA`] shifted.
    pub classes: u8,
    /// Reserved.
    pub _reserved2: U16,
    /// Bytes that the guest has room for.
    pub allocation_length: U16,
    /// CONTROL.
    pub control: u8,
}

const _: () = assert!(size_of::<CdbGetEventStatus>() == 10);
/// In [`CdbGetEventStatus::flags`]: answer at once; the other way is for drives with queues.
pub const EVENT_POLLED: u8 = 0x01;
/// Class of events: the medium.
pub const EVENT_CLASS_MEDIA: u8 = 4;

/// Head of the answer of GET EVENT STATUS NOTIFICATION.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct EventHeader {
    /// Bytes behind this field.
    pub length: U16,
    /// [`EVENT_NONE_AVAILABLE`]; the class in bits 2:0.
    pub class: u8,
    /// Classes that there are.
    pub supported: u8,
}

const _: () = assert!(size_of::<EventHeader>() == 4);
/// In [`EventHeader::class`]: nothing of the classes wanted is supported.
pub const EVENT_NONE_AVAILABLE: u8 = 0x80;

/// An event of [`EVENT_CLASS_MEDIA`].
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MediaEvent {
    /// In bits 3:0: [`MEDIA_NO_CHANGE`] and its like.
    pub code: u8,
    /// [`MEDIA_PRESENT`], [`MEDIA_TRAY_OPEN`].
    pub status: u8,
    /// First slot of a changer.
    pub start_slot: u8,
    /// Last slot.
    pub end_slot: u8,
}

const _: () = assert!(size_of::<MediaEvent>() == 4);
/// Nothing happened.
pub const MEDIA_NO_CHANGE: u8 = 0;
/// Somebody pressed the button.
pub const MEDIA_EJECT_REQUEST: u8 = 1;
/// There is a new medium.
pub const MEDIA_NEW: u8 = 2;
/// The medium is gone.
pub const MEDIA_REMOVAL: u8 = 3;
/// In [`MediaEvent::status`]: there is a medium.
pub const MEDIA_PRESENT: u8 = 0x02;
/// Same place: the tray is out.
pub const MEDIA_TRAY_OPEN: u8 = 0x01;

/// Mode pages of CD-ROMs (MMC-3).
pub mod mode_page {
    /// How often to try again.
    pub const ERROR_RECOVERY: u8 = 0x01;
    /// What the drive can do.
    pub const CAPABILITIES: u8 = 0x2A;
}

/// CD/DVD capabilities and mechanical status page, without write speeds (MMC-3).
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CapabilitiesPage {
    /// [`mode_page::CAPABILITIES`].
    pub page_code: u8,
    /// 0x12.
    pub page_length: u8,
    /// Media that can be read.
    pub read: u8,
    /// Media that can be written.
    pub write: u8,
    /// Audio, multi-session and other formats.
    pub formats: u8,
    /// Commands for CD-DA and others.
    pub commands: u8,
    /// Lock, eject, loading mechanism in bits 7:5 (1: tray).
    pub mechanism: u8,
    /// Volume and changer.
    pub audio: u8,
    /// Fastest reading, in units of 1,000 bytes per second (obsolete in MMC-3).
    pub max_speed: U16,
    /// Levels of volume.
    pub volume_levels: U16,
    /// In units of 1,024 bytes.
    pub buffer_size: U16,
    /// Present speed of reading.
    pub current_speed: U16,
    /// Obsolete and reserved.
    pub _reserved: [u8; 4],
}

const _: () = assert!(size_of::<CapabilitiesPage>() == 20);
/// In [`CapabilitiesPage::mechanism`]: the medium can be locked in.
pub const MECHANISM_LOCK: u8 = 0x01;
/// Same place: it is.
pub const MECHANISM_LOCKED: u8 = 0x02;
/// Same place: START STOP UNIT ejects it.
pub const MECHANISM_EJECT: u8 = 0x08;
/// Same place: a tray.
pub const MECHANISM_TRAY: u8 = 0x20;
/// In [`CapabilitiesPage::formats`]: sectors of both forms of mode 2, and discs of several sessions.
pub const FORMATS_MODE_2_MULTI: u8 = 0x70;
