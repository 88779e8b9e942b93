//! Bringing a card up.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32};

use hv_abi::tulip::csr::{BusMode, Mode, Status};
use spin::Mutex;
use vsc_drivers::task::{Bell, sleep_until, within};
use vsc_drivers::{Hal, SECOND_100NS};

use super::control::{
    BUS_MODE, Control, LIMIT_100NS, LOOK_100NS, RESET_100NS, STOP_LOOKS, USUAL, wait,
};
use super::csrs::Csrs;
use super::frame::Pool;
use super::leaf::Leaf;
use super::media::Media;
use super::receive::Receive;
use super::stats::Counters;
use super::transmit::Transmit;
use super::{Chip, NOBODY, Shared, Tulip, TulipError, TulipOptions, rom};
use crate::pci::Registers32;

/// Counts of the timer when it is tried.
const TRIAL_COUNT: u32 = 1;
/// The trial's limit: at 10 Mb/s two counts take 1.6 ms.
const TRIAL_100NS: u64 = SECOND_100NS / 250;

impl<R: Registers32, H: Hal> Tulip<R, H> {
    /// Resets the chip behind `registers`, and begins to receive. Its function of PCI must have its bus mastering on. The interrupt's handler
    /// ([`on_interrupt`](Self::on_interrupt)) is to be there soon afterwards.
    ///
    /// # Errors
    ///
    /// [`TulipError`].
    pub async fn start(registers: R, hal: H, options: TulipOptions) -> Result<Self, TulipError> {
        let csrs = Csrs::new(registers);
        reset(&csrs, &hal).await?;
        let (rom, mac) = identify(&csrs, &options)?;
        // That of a 21143 has another shape, and nothing that is needed for a transceiver on MII.
        let rom = rom.filter(|_| options.chip == Chip::Dc21140);
        let leaf = rom.map(|rom| Leaf::parse(&rom)).unwrap_or_default();
        let media = Media::find(&csrs, options.chip, &leaf, || wait(&hal));
        let card = Self(Arc::new(Shared {
            control: Mutex::new(Control::new(media, leaf, &options)),
            transmit: Mutex::new(Transmit::new(&hal, &options).ok_or(TulipError::NoMemory)?),
            receive: Mutex::new(Receive::new(&hal, &options).ok_or(TulipError::NoMemory)?),
            csrs,
            hal,
            options,
            mac,
            seen: AtomicU32::new(0),
            enabled: Mutex::new(0),
            sorts: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            quiet: AtomicBool::new(true),
            bell: Bell::new(),
            counters: Counters::default(),
            pool: Arc::new(Pool::default()),
        }));
        card.0.bring_up().await?;
        Ok(card)
    }
}

impl<R: Registers32, H: Hal> Shared<R, H> {
    async fn bring_up(&self) -> Result<(), TulipError> {
        self.fill_rings();
        self.look_at_link();
        // The filter first: what is received before it is set comes by chance.
        self.queue_filter().ok_or(TulipError::NoMemory)?;
        self.start(Mode::ST);
        self.demand();
        let done = self.until(LOOK_100NS, || self.is_idle());
        within(&self.hal, LIMIT_100NS, done).await.map_err(|_| TulipError::TimedOut)??;
        self.try_timer().await;
        // Reading clears it.
        self.csrs.read(8);
        self.start(Mode::SR);
        self.csrs.write(5, (Status::NORMAL | Status::ABNORMAL | Status::NIS | Status::AIS).bits());
        self.enable(|_| USUAL);
        Ok(())
    }

    /// Finds out whether the timer runs. QEMU's does not.
    async fn try_timer(&self) {
        if !self.options.mitigation {
            return;
        }
        let (media, link) = {
            let control = self.control.lock();
            (control.media, control.link())
        };
        self.csrs.write(5, Status::GTE.bits());
        self.csrs.write(11, TRIAL_COUNT);
        let end = self.hal.now_100ns().saturating_add(TRIAL_100NS);
        sleep_until(&self.hal, end).await;
        let status = Status::from_bits_retain(self.csrs.read(5));
        self.csrs.write(11, 0);
        if status.contains(Status::GTE) && status.bits() != NOBODY {
            self.csrs.write(5, Status::GTE.bits());
            self.receive.lock().use_timer(media.tick_ns(link));
        }
    }
}

/// Resets the chip, whatever it does.
async fn reset<R: Registers32, H: Hal>(csrs: &Csrs<R>, hal: &H) -> Result<(), TulipError> {
    if csrs.read(5) == NOBODY {
        return Err(TulipError::NoDevice);
    }
    csrs.write(7, 0);
    // The port for a transceiver on MII before the reset, which leaves it (Linux, `tulip_core.c`, `tulip_up`); this also stops.
    csrs.write(6, Mode::PS.bits());
    csrs.wait_until_stopped(STOP_LOOKS);
    csrs.write(0, BusMode::SWR.bits());
    let rest = || sleep_until(hal, hal.now_100ns().saturating_add(RESET_100NS));
    rest().await;
    csrs.write(0, BUS_MODE);
    rest().await;
    let status = Status::from_bits_retain(csrs.read(5));
    let quiet = !status.intersects(Status::NORMAL | Status::ABNORMAL);
    let is_well = quiet && csrs.is_stopped() && csrs.read(0) & BusMode::SWR.bits() == 0;
    if is_well { Ok(()) } else { Err(TulipError::Unresponsive) }
}

/// The serial ROM, if it can be believed, and the station address.
fn identify<R: Registers32>(
    csrs: &Csrs<R>,
    options: &TulipOptions,
) -> Result<(Option<rom::Rom>, [u8; 6]), TulipError> {
    let rom = rom::read(csrs);
    let address = options.mac.or_else(|| rom.as_ref()?.station_address());
    // Old ROMs have no checksum, and no more than an address.
    let rom = rom.filter(rom::Rom::is_whole);
    Ok((rom, address.ok_or(TulipError::NoAddress)?))
}
