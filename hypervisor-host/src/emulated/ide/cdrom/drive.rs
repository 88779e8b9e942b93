//! Tray and medium, and what has happened to them that the guest must learn of.

use std::sync::Arc;

use hv_abi::ata::packet::{MEDIA_NEW, MEDIA_NO_CHANGE, MEDIA_REMOVAL};
use hv_abi::scsi::sense::{AdditionalSense, SenseKey};

use super::SECTOR;
use crate::storage::scsi::sense::Sense;
use crate::storage::unit::Unit;

/// The drive's mechanics.
pub(super) struct Medium {
    unit: Arc<Unit>,
    /// The tray is in, with the medium in it.
    loaded: bool,
    locked: bool,
    /// Answer of the next command that does not tell or ask for it.
    attention: Option<AdditionalSense>,
    /// Of the last command, for REQUEST SENSE.
    sense: Sense,
    /// An event of the medium's class.
    event: u8,
}

impl Medium {
    pub(super) fn new(unit: Arc<Unit>) -> Self {
        Self {
            unit,
            loaded: true,
            locked: false,
            attention: Some(AdditionalSense::POWER_ON_OR_RESET),
            sense: Sense::NONE,
            event: MEDIA_NO_CHANGE,
        }
    }

    pub(super) fn identity(&self) -> u64 {
        self.unit.info().identity
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.loaded
    }

    pub(super) fn is_locked(&self) -> bool {
        self.locked
    }

    /// Sectors of the medium, as far as commands reach.
    pub(super) fn sectors(&self) -> u32 {
        u32::try_from(self.unit.info().disk.bytes / SECTOR).unwrap_or(u32::MAX)
    }

    /// There is a medium.
    pub(super) fn check(&self) -> Result<(), Sense> {
        if self.loaded {
            return Ok(());
        }
        let code = AdditionalSense::MEDIUM_NOT_PRESENT_TRAY_OPEN;
        Err(Sense::new(SenseKey::NOT_READY, code))
    }

    /// What the guest must learn, once.
    pub(super) fn take_attention(&mut self) -> Option<AdditionalSense> {
        self.attention.take()
    }

    /// What REQUEST SENSE tells, once.
    pub(super) fn take_sense(&mut self) -> Sense {
        let sense = std::mem::replace(&mut self.sense, Sense::NONE);
        match self.attention {
            Some(news) if sense == Sense::NONE => {
                self.attention = None;
                Sense::attention(news)
            }
            _ => sense,
        }
    }

    /// What a command came to.
    pub(super) fn remember(&mut self, sense: Sense) {
        self.sense = sense;
    }

    /// What happened to the medium since somebody asked.
    pub(super) fn take_event(&mut self) -> u8 {
        std::mem::replace(&mut self.event, MEDIA_NO_CHANGE)
    }

    pub(super) fn lock(&mut self, locked: bool) {
        self.locked = locked;
    }

    /// Moves the tray out.
    pub(super) fn eject(&mut self) -> Result<(), Sense> {
        if self.locked {
            let code = AdditionalSense::MEDIUM_REMOVAL_PREVENTED;
            return Err(Sense::new(SenseKey::ILLEGAL_REQUEST, code));
        }
        if std::mem::replace(&mut self.loaded, false) {
            self.event = MEDIA_REMOVAL;
        }
        Ok(())
    }

    /// Moves the tray in.
    pub(super) fn load(&mut self) {
        if !std::mem::replace(&mut self.loaded, true) {
            self.event = MEDIA_NEW;
            self.attention = Some(AdditionalSense::MEDIUM_MAY_HAVE_CHANGED);
        }
    }
}
