//! Commands, and the values that go with them in other registers.

/// A command (ATA-6, *Command descriptions*, and its table of command codes).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AtaCommand(pub u8);

#[expect(missing_docs, reason = "each has the standard's name for the command")]
impl AtaCommand {
    pub const NOP: Self = Self(0x00);
    /// ACS-2.
    pub const DATA_SET_MANAGEMENT: Self = Self(0x06);
    pub const DEVICE_RESET: Self = Self(0x08);
    /// ATA-3; all codes from 0x10 to 0x1F.
    pub const RECALIBRATE: Self = Self(0x10);
    pub const READ_SECTORS: Self = Self(0x20);
    /// ATA-3: without retries.
    pub const READ_SECTORS_ONCE: Self = Self(0x21);
    pub const READ_SECTORS_EXT: Self = Self(0x24);
    pub const READ_DMA_EXT: Self = Self(0x25);
    pub const READ_NATIVE_MAX_ADDRESS_EXT: Self = Self(0x27);
    pub const READ_MULTIPLE_EXT: Self = Self(0x29);
    pub const READ_LOG_EXT: Self = Self(0x2F);
    pub const WRITE_SECTORS: Self = Self(0x30);
    /// ATA-3: without retries.
    pub const WRITE_SECTORS_ONCE: Self = Self(0x31);
    pub const WRITE_SECTORS_EXT: Self = Self(0x34);
    pub const WRITE_DMA_EXT: Self = Self(0x35);
    pub const WRITE_MULTIPLE_EXT: Self = Self(0x39);
    /// ATA/ATAPI-7: the data is on the medium when the command ends.
    pub const WRITE_DMA_FUA_EXT: Self = Self(0x3D);
    pub const READ_VERIFY_SECTORS: Self = Self(0x40);
    /// ATA-3: without retries.
    pub const READ_VERIFY_SECTORS_ONCE: Self = Self(0x41);
    pub const READ_VERIFY_SECTORS_EXT: Self = Self(0x42);
    /// All codes from 0x70 to 0x7F in ATA-3.
    pub const SEEK: Self = Self(0x70);
    pub const EXECUTE_DEVICE_DIAGNOSTIC: Self = Self(0x90);
    /// ATA-3.
    pub const INITIALIZE_DEVICE_PARAMETERS: Self = Self(0x91);
    /// The second code of STANDBY IMMEDIATE in ATA-3, as the next ones for the others.
    pub const STANDBY_IMMEDIATE_OLD: Self = Self(0x94);
    pub const IDLE_IMMEDIATE_OLD: Self = Self(0x95);
    pub const STANDBY_OLD: Self = Self(0x96);
    pub const IDLE_OLD: Self = Self(0x97);
    pub const CHECK_POWER_MODE_OLD: Self = Self(0x98);
    pub const SLEEP_OLD: Self = Self(0x99);
    pub const PACKET: Self = Self(0xA0);
    pub const IDENTIFY_PACKET_DEVICE: Self = Self(0xA1);
    pub const SMART: Self = Self(0xB0);
    pub const READ_MULTIPLE: Self = Self(0xC4);
    pub const WRITE_MULTIPLE: Self = Self(0xC5);
    pub const SET_MULTIPLE_MODE: Self = Self(0xC6);
    pub const READ_DMA: Self = Self(0xC8);
    /// ATA-3: without retries.
    pub const READ_DMA_ONCE: Self = Self(0xC9);
    pub const WRITE_DMA: Self = Self(0xCA);
    /// ATA-3: without retries.
    pub const WRITE_DMA_ONCE: Self = Self(0xCB);
    /// ATA/ATAPI-7: the data is on the medium when the command ends.
    pub const WRITE_MULTIPLE_FUA_EXT: Self = Self(0xCE);
    pub const STANDBY_IMMEDIATE: Self = Self(0xE0);
    pub const IDLE_IMMEDIATE: Self = Self(0xE1);
    pub const STANDBY: Self = Self(0xE2);
    pub const IDLE: Self = Self(0xE3);
    pub const READ_BUFFER: Self = Self(0xE4);
    pub const CHECK_POWER_MODE: Self = Self(0xE5);
    pub const SLEEP: Self = Self(0xE6);
    pub const FLUSH_CACHE: Self = Self(0xE7);
    pub const WRITE_BUFFER: Self = Self(0xE8);
    pub const FLUSH_CACHE_EXT: Self = Self(0xEA);
    pub const IDENTIFY_DEVICE: Self = Self(0xEC);
    pub const SET_FEATURES: Self = Self(0xEF);
    pub const READ_NATIVE_MAX_ADDRESS: Self = Self(0xF8);
}

/// The features register of SET FEATURES (ATA-6, *SET FEATURES register definitions*).
pub mod set_features {
    /// Writes may stay in the drive's cache.
    pub const ENABLE_WRITE_CACHE: u8 = 0x02;
    /// To the mode in the sector count register: [`transfer_mode`](super::transfer_mode).
    pub const SET_TRANSFER_MODE: u8 = 0x03;
    /// No reading ahead.
    pub const DISABLE_READ_LOOK_AHEAD: u8 = 0x55;
    /// A software reset leaves settings as they are.
    pub const DISABLE_REVERTING: u8 = 0x66;
    /// Writes go to the medium.
    pub const DISABLE_WRITE_CACHE: u8 = 0x82;
    /// Reading ahead.
    pub const ENABLE_READ_LOOK_AHEAD: u8 = 0xAA;
    /// A software reset brings power-on defaults back.
    pub const ENABLE_REVERTING: u8 = 0xCC;
}

/// The sector count register of [`set_features::SET_TRANSFER_MODE`]: one of these, with a mode's number in bits 2:0 (ATA-6, *Set
/// transfer mode*).
pub mod transfer_mode {
    /// The default PIO mode.
    pub const PIO_DEFAULT: u8 = 0x00;
    /// The default PIO mode, without IORDY.
    pub const PIO_DEFAULT_NO_IORDY: u8 = 0x01;
    /// PIO with flow control; modes 0 to 4.
    pub const PIO_FLOW: u8 = 0x08;
    /// Multiword DMA; modes 0 to 2.
    pub const MULTIWORD_DMA: u8 = 0x20;
    /// Ultra DMA; modes 0 to 5 (PIIX4 has 0 to 2).
    pub const ULTRA_DMA: u8 = 0x40;
    /// The mode's number.
    pub const NUMBER_MASK: u8 = 0x07;
}

/// The features register of SMART (ATA-6, *SMART feature register values*).
pub mod smart {
    /// 512 bytes of attributes.
    pub const READ_DATA: u8 = 0xD0;
    /// ATA-3: 512 bytes of thresholds.
    pub const READ_THRESHOLDS: u8 = 0xD1;
    /// On or off by the sector count register.
    pub const ATTRIBUTE_AUTOSAVE: u8 = 0xD2;
    /// The test in the LBA low register.
    pub const EXECUTE_OFFLINE_IMMEDIATE: u8 = 0xD4;
    /// The log in the LBA low register, so many sectors of it as the sector count register says.
    pub const READ_LOG: u8 = 0xD5;
    /// On.
    pub const ENABLE_OPERATIONS: u8 = 0xD8;
    /// Off.
    pub const DISABLE_OPERATIONS: u8 = 0xD9;
    /// [`GOOD`] or [`FAILING`] in the LBA mid and high registers.
    pub const RETURN_STATUS: u8 = 0xDA;

    /// LBA mid and high, without which no SMART command is done; as an answer: no threshold is exceeded.
    pub const GOOD: [u8; 2] = [0x4F, 0xC2];
    /// As an answer: a threshold is exceeded.
    pub const FAILING: [u8; 2] = [0xF4, 0x2C];
}

/// The sector count register after CHECK POWER MODE (ATA-6, *CHECK POWER MODE*).
pub mod power_mode {
    /// In standby.
    pub const STANDBY: u8 = 0x00;
    /// Idle.
    pub const IDLE: u8 = 0x80;
    /// Active or idle.
    pub const ACTIVE: u8 = 0xFF;
}

/// The features register of DATA SET MANAGEMENT (ACS-2): give sectors back. The data, by DMA, is as many sectors as the sector
/// count says, of [`TrimRange`]s.
pub const DSM_TRIM: u8 = 0x01;

/// A range of DATA SET MANAGEMENT (ACS-2, *LBA Range Entry*): the first sector in bits 47:0, the number of sectors in 63:48;
/// without sectors it means nothing. Little-endian.
#[repr(transparent)]
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct TrimRange(pub zerocopy::byteorder::little_endian::U64);

const _: () = assert!(size_of::<TrimRange>() == 8);

impl TrimRange {
    /// `sectors` sectors from `lba` on.
    pub const fn new(lba: u64, sectors: u16) -> Self {
        let bits = lba & 0xFFFF_FFFF_FFFF | (sectors as u64) << 48;
        Self(zerocopy::byteorder::little_endian::U64::new(bits))
    }

    /// The first sector.
    pub const fn lba(self) -> u64 {
        self.0.get() & 0xFFFF_FFFF_FFFF
    }

    /// How many.
    pub const fn sectors(self) -> u16 {
        (self.0.get() >> 48) as u16
    }
}

/// The features register of PACKET (ATA-6, *PACKET*): the data goes by DMA.
pub const PACKET_DMA: u8 = 0x01;
/// Same place: the command may be overlapped.
pub const PACKET_OVERLAPPED: u8 = 0x02;
