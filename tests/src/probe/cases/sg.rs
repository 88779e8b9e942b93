//! SCSI commands to a disk through Linux's driver of it: `SG_IO` (Linux, include/scsi/sg.h; block devices take it too).

#![expect(unsafe_code, reason = "a system call that libc has no structure for")]

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

use hv_abi::scsi::{ScsiOp, ScsiStatus};
use hv_abi::storvsp::SCSI_GUID;
use vsc_cases::scsi::target::{Data, Outcome, Target};
use vsc_cases::support::skip;
use vsc_cases::{CaseResult, Problem};

use super::failed;
use super::system::{Device, of_kind, soon};
use crate::probe::disk::Aligned;

/// Request number of the system call.
const SG_IO: libc::Ioctl = 0x2285;
/// Directions, from the program's view.
const SG_DXFER_NONE: i32 = -1;
const SG_DXFER_TO_DEV: i32 = -2;
const SG_DXFER_FROM_DEV: i32 = -3;
/// Bytes of the memory for data: as many as on a channel of one's own.
const DATA_BYTES: usize = 256 << 10;
/// Room for sense data.
const SENSE_BYTES: usize = 64;
/// Milliseconds that a command may take.
const TIMEOUT_MS: u32 = 20_000;
/// Shortest command that `SG_IO` takes (Linux, drivers/scsi/scsi_ioctl.c, `scsi_fill_sghdr_rq`).
const LEAST_CDB_BYTES: usize = 6;

/// `struct sg_io_hdr`.
#[repr(C)]
#[derive(Debug)]
struct SgIoHdr {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut u8,
    cmdp: *const u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut u8,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}
const _: () = assert!(size_of::<SgIoHdr>() == 88);

/// The disks of the first controller.
pub struct SgTarget {
    controller: Device,
    memory: RefCell<Aligned>,
}

impl SgTarget {
    /// The first controller, when Linux has found its disks.
    ///
    /// # Errors
    ///
    /// [`Problem::Skip`] if there is none.
    pub fn first() -> Result<Self, Problem> {
        let controller = of_kind(SCSI_GUID, "SCSI controller")?.swap_remove(0);
        let memory = RefCell::new(Aligned::new(DATA_BYTES));
        let target = Self { controller, memory };
        if !soon(|| !target.luns().is_empty()) {
            return skip("the controller has no disk");
        }
        // Found one after the other.
        let mut before = 0;
        soon(|| {
            let now = target.luns().len();
            std::thread::sleep(std::time::Duration::from_millis(100));
            std::mem::replace(&mut before, now) == now
        });
        Ok(target)
    }

    /// Numbers of its disks, in order.
    pub fn luns(&self) -> Vec<u8> {
        let mut luns: Vec<u8> =
            (0..=u8::MAX).filter(|&lun| self.block_folder(lun).is_some()).collect();
        luns.sort_unstable();
        luns
    }

    /// Where Linux shows a disk, such as `…/host0/target0:0:0/0:0:0:1/block/sdb`.
    pub fn block_folder(&self, lun: u8) -> Option<PathBuf> {
        let host = self.controller.list("").into_iter().find_map(|name| {
            name.strip_prefix("host").and_then(|number| number.parse::<u32>().ok())
        })?;
        let folder = format!("host{host}/target{host}:0:0/{host}:0:0:{lun}/block");
        let name = self.controller.list(&folder).into_iter().next()?;
        Some(self.controller.path(&folder).join(name))
    }

    /// Its device file.
    pub fn node(&self, lun: u8) -> Option<PathBuf> {
        Some(Path::new("/dev").join(self.block_folder(lun)?.file_name()?))
    }

    fn open(&self, lun: u8) -> Result<File, Problem> {
        match self.node(lun) {
            Some(node) => File::open(&node).map_err(failed(node.display().to_string())),
            None => skip(format!("Linux has no disk with the number {lun}")),
        }
    }
}

impl Target for SgTarget {
    async fn run(&self, lun: u8, cdb: &[u8], data: Data) -> Result<Outcome, Problem> {
        let file = self.open(lun)?;
        let mut memory = self.memory.borrow_mut();
        let (dxfer_direction, bytes) = match data {
            Data::None => (SG_DXFER_NONE, 0),
            Data::In(bytes) => (SG_DXFER_FROM_DEV, bytes),
            Data::Out(bytes) => (SG_DXFER_TO_DEV, bytes),
        };
        if bytes as usize > memory.0.len() {
            return Err(Problem::Fail("more data than room".into()));
        }
        let mut sense = [0; SENSE_BYTES];
        let mut header = SgIoHdr {
            interface_id: i32::from(b'S'),
            dxfer_direction,
            cmd_len: cdb.len() as u8,
            mx_sb_len: SENSE_BYTES as u8,
            iovec_count: 0,
            dxfer_len: bytes,
            dxferp: if bytes == 0 { null_mut() } else { memory.0.as_mut_ptr() },
            cmdp: cdb.as_ptr(),
            sbp: sense.as_mut_ptr(),
            timeout: TIMEOUT_MS,
            flags: 0,
            pack_id: 0,
            usr_ptr: null_mut(),
            status: 0,
            masked_status: 0,
            msg_status: 0,
            sb_len_wr: 0,
            host_status: 0,
            driver_status: 0,
            resid: 0,
            duration: 0,
            info: 0,
        };
        // SAFETY: the three pointers have room for the lengths beside them until the call returns, and nobody else uses them.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), SG_IO, &raw mut header) };
        if done != 0 {
            return Err(failed(format!("SG_IO {cdb:x?}"))(std::io::Error::last_os_error()));
        }
        let length = usize::from(header.sb_len_wr).min(SENSE_BYTES);
        Ok(Outcome {
            good: header.status == 0 && header.host_status == 0 && header.driver_status == 0,
            status: ScsiStatus(header.status),
            sense: (length > 0).then(|| sense[..length].to_vec()),
            moved: bytes.saturating_sub(u32::try_from(header.resid).unwrap_or(0)),
        })
    }

    fn read(&self, bytes: &mut [u8]) -> CaseResult {
        match self.memory.borrow().0.get(..bytes.len()) {
            Some(memory) => bytes.copy_from_slice(memory),
            None => return Err(Problem::Fail("more data than room".into())),
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> CaseResult {
        match self.memory.borrow_mut().0.get_mut(..bytes.len()) {
            Some(memory) => memory.copy_from_slice(bytes),
            None => return Err(Problem::Fail("more data than room".into())),
        }
        Ok(())
    }

    async fn is_there(&self, lun: u8) -> Result<bool, Problem> {
        Ok(self.block_folder(lun).is_some())
    }

    fn least_cdb_bytes(&self) -> usize {
        LEAST_CDB_BYTES
    }

    fn conceals(&self, cdb: &[u8]) -> Option<&'static str> {
        /// SET WINDOW.
        const SET_WINDOW: u8 = 0x24;
        match ScsiOp(*cdb.first()?) {
            ScsiOp::INQUIRY | ScsiOp::MODE_SENSE_6 | ScsiOp::MODE_SENSE_10 => {
                Some("Linux's hv_storvsc hides errors of this command (storvsc_on_io_completion)")
            }
            ScsiOp::WRITE_SAME_10 | ScsiOp(SET_WINDOW) => {
                Some("Linux's hv_storvsc does not send this command (storvsc_scsi_cmd_ok)")
            }
            _ => None,
        }
    }
}
