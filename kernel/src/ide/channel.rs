//! A channel: its two drives take turns, and a turn that did not end well resets it.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use hv_abi::ata::command::{AtaCommand, set_features};
use hv_abi::ata::{bus_master, control};
use spin::mutex::SpinMutex;
use vsc_drivers::storvsc::IoBuffer;
use vsc_drivers::{DmaBuffer, Hal};

use super::command::Command;
use super::error::IdeError;
use super::registers::{ChannelPorts, Registers};
use super::turn::Turn;
use crate::pci::PortIo;
use crate::signal::Signal;

/// What a channel has done.
#[derive(Debug, Default)]
pub struct Counts {
    /// Commands begun.
    pub commands: AtomicU64,
    /// Interrupts that were the channel's.
    pub interrupts: AtomicU64,
    /// Interrupts that did not come, of commands that had ended nevertheless.
    pub lost_interrupts: AtomicU64,
    /// Bytes moved by the data register.
    pub pio_bytes: AtomicU64,
    /// Bytes moved by the bus master.
    pub dma_bytes: AtomicU64,
    /// Resets after the first.
    pub resets: AtomicU64,
}

/// Adds to a count.
pub(super) fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// What the interrupt handler leaves to the task.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) signal: Signal,
    /// The drive's status when it interrupted.
    pub(super) status: AtomicU8,
    /// The bus master's.
    pub(super) bus_master: AtomicU8,
    /// The bus master takes part in the command.
    pub(super) dma: AtomicBool,
}

/// What is known of a drive between its turns.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Setup {
    /// Sectors of a block, for SET MULTIPLE.
    pub(super) multiple: u8,
    /// Transfer modes to select.
    pub(super) modes: [Option<u8>; 2],
    /// All that was done since the last reset.
    pub(super) done: bool,
}

/// What only whose turn it is touches.
pub(super) struct State {
    /// The drive that is selected, and was ready when last seen.
    pub(super) selected: Option<u8>,
    /// A turn did not end well.
    pub(super) dirty: bool,
    pub(super) setups: [Setup; 2],
    /// Memory that the bus master may be writing to.
    pub(super) lent: Option<IoBuffer>,
    /// The bus master's interrupt flag may be set.
    pub(super) stale_interrupt: bool,
    /// Device control.
    pub(super) control: u8,
}

/// A channel of a controller.
pub struct Channel<P, H: Hal> {
    pub(super) registers: Registers<P>,
    pub(super) hal: H,
    pub(super) line: Line,
    /// The table of regions; none without a bus master, or without memory that it reaches.
    pub(super) table: Option<DmaBuffer<H>>,
    pub(super) counts: Counts,
    pub(super) state: SpinMutex<State>,
    turn: Turn,
    polled: AtomicBool,
}

impl<P: PortIo, H: Hal> Channel<P, H> {
    /// A channel with these registers, to be polled until [`use_interrupts`](Self::use_interrupts).
    pub(super) fn new(io: P, hal: H, ports: ChannelPorts) -> Arc<Self> {
        let within_reach = |table: &DmaBuffer<H>| u32::try_from(table.gpa().0).is_ok();
        let table = ports.bus_master.and_then(|_| DmaBuffer::new(&hal, 1)).filter(within_reach);
        Arc::new(Self {
            registers: Registers::new(io, ports),
            hal,
            line: Line::default(),
            table,
            counts: Counts::default(),
            state: SpinMutex::new(State {
                selected: None,
                dirty: false,
                setups: [Setup::default(); 2],
                lent: None,
                stale_interrupt: true,
                control: control::NIEN,
            }),
            turn: Turn::default(),
            polled: AtomicBool::new(true),
        })
    }

    /// The interrupt handler's part: acknowledges, notes and wakes.
    pub fn on_interrupt(&self) {
        if self.line.dma.load(Ordering::SeqCst) {
            let status = self.registers.bus_master_status();
            if status & bus_master::status::INTERRUPT == 0 {
                return;
            }
            self.line.bus_master.store(status, Ordering::SeqCst);
            self.line.status.store(self.registers.status(), Ordering::SeqCst);
            // These two bits are cleared by writing ones, the drives' bits are kept by it.
            let keep = bus_master::status::DRIVE_0_DMA | bus_master::status::DRIVE_1_DMA;
            let clear = bus_master::status::INTERRUPT | bus_master::status::ERROR;
            self.registers.set_bus_master_status(status & keep | clear);
        } else {
            self.line.status.store(self.registers.status(), Ordering::SeqCst);
        }
        count(&self.counts.interrupts, 1);
        self.line.signal.raise(&self.hal);
    }

    /// From the next command on its end is told by interrupts, which somebody brings to [`on_interrupt`](Self::on_interrupt); or, if not, it is
    /// polled.
    pub fn use_interrupts(&self, interrupts: bool) {
        self.polled.store(!interrupts, Ordering::SeqCst);
    }

    pub(super) fn is_polled(&self) -> bool {
        self.polled.load(Ordering::SeqCst)
    }

    /// What it has done.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether its drives can do DMA, as far as the controller goes.
    pub fn has_dma(&self) -> bool {
        self.table.is_some()
    }

    /// Has a drive brought into these modes before its next command.
    pub(super) fn set_up(&self, drive: u8, setup: Setup) {
        self.state.lock().setups[usize::from(drive & 1)] = setup;
    }

    /// Waits for a turn on a channel that is well, without looking at any drive.
    pub(super) async fn turn(&self) -> Session<'_, P, H> {
        self.turn.take().await;
        Session { channel: self, drive: 0, ended: false }
    }

    /// Waits for a turn of this drive, which is then as it was set up.
    pub(super) async fn session(&self, drive: u8) -> Result<Session<'_, P, H>, IdeError> {
        let mut session = self.turn().await;
        session.drive = drive & 1;
        if self.state.lock().dirty {
            count(&self.counts.resets, 1);
            session.reset(drive).await?;
        }
        let setup = self.state.lock().setups[usize::from(session.drive)];
        if !setup.done {
            session.apply(setup).await?;
        }
        Ok(session)
    }
}

/// A turn on a channel. One that is dropped before it has [ended](Self::end) has its channel reset before the next.
pub(super) struct Session<'c, P: PortIo, H: Hal> {
    pub(super) channel: &'c Channel<P, H>,
    pub(super) drive: u8,
    ended: bool,
}

impl<P: PortIo, H: Hal> Session<'_, P, H> {
    /// Brings the drive into its modes. A drive that does not know them keeps its own.
    async fn apply(&mut self, setup: Setup) -> Result<(), IdeError> {
        for mode in setup.modes.into_iter().flatten() {
            let features = set_features::SET_TRANSFER_MODE;
            let command = Command::plain(AtaCommand::SET_FEATURES);
            self.tolerant(command.with(features, mode.into())).await?;
        }
        if setup.multiple != 0 {
            let command = Command::plain(AtaCommand::SET_MULTIPLE_MODE);
            self.tolerant(command.with(0, setup.multiple.into())).await?;
        }
        self.channel.state.lock().setups[usize::from(self.drive)].done = true;
        Ok(())
    }

    async fn tolerant(&mut self, command: Command) -> Result<(), IdeError> {
        match self.no_data(&command).await {
            Err(IdeError::Drive(error)) if error.is_abort() => Ok(()),
            done => done,
        }
    }

    /// Ends the turn with the outcome of its command: what the drive itself reports leaves its channel as good as ever.
    pub(super) fn end<T>(mut self, outcome: Result<T, IdeError>) -> Result<T, IdeError> {
        self.ended = matches!(
            outcome,
            Ok(_)
                | Err(IdeError::Drive(_) | IdeError::Sense(_) | IdeError::NoMemory)
                | Err(IdeError::OutOfRange | IdeError::Unsupported | IdeError::Identify)
        );
        outcome
    }
}

impl<P: PortIo, H: Hal> Drop for Session<'_, P, H> {
    fn drop(&mut self) {
        if !self.ended {
            // Memory may be freed behind this.
            self.stop_bus_master();
            let mut state = self.channel.state.lock();
            state.dirty = true;
            state.selected = None;
            let lent = state.lent.take();
            drop(state);
            drop(lent);
        }
        self.channel.turn.end();
    }
}
