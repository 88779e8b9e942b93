//! MODE SENSE and MODE SELECT: caching, write protection, the order of commands.
//!
//! There is a write cache (the operating system's), it can't be switched off, and nothing else can be changed either.

use hv_abi::scsi::ScsiOp;
use hv_abi::scsi::cdb::{
    CdbModeSelect6, CdbModeSelect10, CdbModeSense6, CdbModeSense10, MODE_SELECT_PF, MODE_SELECT_SP,
    MODE_SENSE_DBD,
};
use hv_abi::scsi::mode::{
    CACHING_WCE, CachingPage, ControlPage, MODE_DPOFUA, MODE_WP, ModeHeader6, ModeHeader10,
    PAGE_CONTROL_CHANGEABLE, PAGE_CONTROL_SAVED, ShortBlockDescriptor, UNRESTRICTED_REORDERING,
    page,
};
use hv_abi::scsi::sense::{AdditionalSense, SenseKey};
use zerocopy::{FromBytes, IntoBytes};

use super::cdb::Cdb;
use super::data::{DataPhase, DataWay};
use super::sense::Sense;
use super::{Action, UnitInfo};
use crate::storage::disk::SECTOR_BYTES;

const PAGE_BYTE: u16 = 2;
const SUBPAGE_BYTE: u16 = 3;
const ALL_SUBPAGES: u8 = 0xFF;
const BLOCK_DESCRIPTOR_BYTES: usize = size_of::<ShortBlockDescriptor>();

/// What either MODE SENSE asks for.
struct Asked {
    short: bool,
    no_descriptors: bool,
    page_control: u8,
    page: u8,
    subpage: u8,
    allocation: u32,
    allocation_byte: u8,
}

/// MODE SENSE.
pub fn sense(cdb: &Cdb, unit: &UnitInfo, data: DataPhase) -> Result<Action, Sense> {
    let asked = asked(cdb)?;
    if asked.page_control == PAGE_CONTROL_SAVED {
        let code = AdditionalSense::SAVING_PARAMETERS_NOT_SUPPORTED;
        return Err(Sense::new(SenseKey::ILLEGAL_REQUEST, code));
    }
    let all_subpages = asked.page == page::ALL && asked.subpage == ALL_SUBPAGES;
    if asked.subpage != 0 && !all_subpages {
        return Err(Sense::invalid_field(SUBPAGE_BYTE));
    }
    let pages = pages(unit, asked.page, asked.page_control)?;
    let descriptor = if asked.no_descriptors { Vec::new() } else { block_descriptor(unit) };
    let header = header(unit, asked.short, descriptor.len(), pages.len());
    data.answer([header, descriptor, pages].concat(), asked.allocation, asked.allocation_byte)
}

fn asked(cdb: &Cdb) -> Result<Asked, Sense> {
    let (flags, page_byte, subpage, allocation, allocation_byte) = match cdb.op() {
        ScsiOp::MODE_SENSE_6 => {
            let cdb: CdbModeSense6 = cdb.view()?;
            (cdb.flags, cdb.page, cdb.subpage, cdb.allocation_length.into(), 4)
        }
        _ => {
            let cdb: CdbModeSense10 = cdb.view()?;
            (cdb.flags, cdb.page, cdb.subpage, cdb.allocation_length.get().into(), 7)
        }
    };
    Ok(Asked {
        short: cdb.op() == ScsiOp::MODE_SENSE_6,
        no_descriptors: flags & MODE_SENSE_DBD != 0,
        page_control: page_byte >> 6,
        page: page_byte & 0x3F,
        subpage,
        allocation,
        allocation_byte,
    })
}

/// The pages asked for, in the order of their codes. As none of their bits can be changed, the changeable values are zeros.
fn pages(unit: &UnitInfo, asked: u8, page_control: u8) -> Result<Vec<u8>, Sense> {
    let mut bytes = Vec::new();
    for mut page in [caching(unit).as_bytes().to_vec(), control(unit).as_bytes().to_vec()] {
        if asked != page::ALL && page.first() != Some(&asked) {
            continue;
        }
        if page_control == PAGE_CONTROL_CHANGEABLE {
            page.iter_mut().skip(2).for_each(|byte| *byte = 0);
        }
        bytes.append(&mut page);
    }
    if bytes.is_empty() { Err(Sense::invalid_field(PAGE_BYTE)) } else { Ok(bytes) }
}

fn caching(unit: &UnitInfo) -> CachingPage {
    CachingPage {
        page_code: page::CACHING,
        page_length: (size_of::<CachingPage>() - 2) as u8,
        flags: if unit.disk.read_only { 0 } else { CACHING_WCE },
        ..Default::default()
    }
}

fn control(_: &UnitInfo) -> ControlPage {
    ControlPage {
        page_code: page::CONTROL,
        page_length: (size_of::<ControlPage>() - 2) as u8,
        flags3: UNRESTRICTED_REORDERING,
        ..Default::default()
    }
}

fn block_descriptor(unit: &UnitInfo) -> Vec<u8> {
    let blocks = u32::try_from(unit.blocks()).unwrap_or(u32::MAX);
    let block_bytes = (SECTOR_BYTES as u32).into();
    ShortBlockDescriptor { blocks: blocks.into(), block_bytes }.as_bytes().to_vec()
}

fn header(unit: &UnitInfo, short: bool, descriptor: usize, pages: usize) -> Vec<u8> {
    let behind = descriptor + pages;
    let device_specific = MODE_DPOFUA | if unit.disk.read_only { MODE_WP } else { 0 };
    if short {
        let header = ModeHeader6 {
            data_length: (size_of::<ModeHeader6>() - 1 + behind) as u8,
            medium_type: 0,
            device_specific,
            block_descriptor_length: descriptor as u8,
        };
        return header.as_bytes().to_vec();
    }
    let header = ModeHeader10 {
        data_length: ((size_of::<ModeHeader10>() - 2 + behind) as u16).into(),
        medium_type: 0,
        device_specific,
        long_lba: 0,
        _reserved: 0,
        block_descriptor_length: (descriptor as u16).into(),
    };
    header.as_bytes().to_vec()
}

/// MODE SELECT: what is set must be what is set already.
pub fn select(
    cdb: &Cdb,
    unit: &UnitInfo,
    data: DataPhase,
    parameters: Option<&[u8]>,
) -> Result<Action, Sense> {
    let (flags, length, length_byte) = match cdb.op() {
        ScsiOp::MODE_SELECT_6 => {
            let cdb: CdbModeSelect6 = cdb.view()?;
            (cdb.flags, u32::from(cdb.parameter_length), 4)
        }
        _ => {
            let cdb: CdbModeSelect10 = cdb.view()?;
            (cdb.flags, u32::from(cdb.parameter_length.get()), 7)
        }
    };
    if flags & MODE_SELECT_SP != 0 || (flags & MODE_SELECT_PF == 0 && length != 0) {
        return Err(Sense::invalid_field(1));
    }
    if length == 0 {
        return Ok(Action::Good);
    }
    data.check(DataWay::Out, length, length_byte)?;
    let Some(list) = parameters else { return Ok(Action::Parameters(length)) };
    check_parameters(list, unit, cdb.op() == ScsiOp::MODE_SELECT_6)?;
    Ok(Action::Good)
}

fn check_parameters(list: &[u8], unit: &UnitInfo, short: bool) -> Result<(), Sense> {
    let cut = |_| Sense::PARAMETER_LIST_LENGTH;
    let (header_bytes, descriptor_bytes) = if short {
        let (header, _) = ModeHeader6::read_from_prefix(list).map_err(|_| cut(()))?;
        (size_of::<ModeHeader6>(), usize::from(header.block_descriptor_length))
    } else {
        let (header, _) = ModeHeader10::read_from_prefix(list).map_err(|_| cut(()))?;
        (size_of::<ModeHeader10>(), usize::from(header.block_descriptor_length.get()))
    };
    let (_, rest) = list.split_at_checked(header_bytes).ok_or(cut(()))?;
    let (descriptor, mut pages) = rest.split_at_checked(descriptor_bytes).ok_or(cut(()))?;
    let right = block_descriptor(unit);
    if descriptor_bytes != 0 && (descriptor_bytes != BLOCK_DESCRIPTOR_BYTES || descriptor != right)
    {
        return Err(Sense::invalid_parameter(header_bytes as u16));
    }
    let mut at = header_bytes + descriptor_bytes;
    while let [code, length, ..] = pages {
        let bytes = usize::from(*length) + 2;
        let (page, others) = pages.split_at_checked(bytes).ok_or(cut(()))?;
        let present = pages_of(unit, *code).ok_or(Sense::invalid_parameter(at as u16))?;
        if page != present {
            return Err(Sense::invalid_parameter(at as u16));
        }
        (pages, at) = (others, at + bytes);
    }
    if pages.is_empty() { Ok(()) } else { Err(cut(())) }
}

fn pages_of(unit: &UnitInfo, code: u8) -> Option<Vec<u8>> {
    match code {
        page::CACHING => Some(caching(unit).as_bytes().to_vec()),
        page::CONTROL => Some(control(unit).as_bytes().to_vec()),
        _ => None,
    }
}
