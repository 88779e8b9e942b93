//! The receive and the transmit process, as far as registers tell of them.

use super::Work;

/// What a process is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum State {
    Stopped,
    Running,
    /// It found a descriptor that is the driver's.
    Suspended,
}

/// A process. Frames are moved by the device's thread; while it is at one, `busy` is set.
#[derive(Debug)]
pub(in super::super) struct Process {
    /// The list's first descriptor.
    pub base: u32,
    /// The next descriptor.
    pub cursor: u32,
    pub state: State,
    /// It is to stop when it is no longer busy.
    stopping: bool,
    pub busy: bool,
    /// Grows with each poll demand, so that none is missed.
    demands: u32,
    /// Grows with each reset, so that work begun before it has no effect.
    generation: u32,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            base: 0,
            cursor: 0,
            state: State::Stopped,
            stopping: false,
            busy: false,
            demands: 0,
            generation: 0,
        }
    }
}

impl Process {
    /// The list is elsewhere from now on.
    pub(super) fn set_base(&mut self, value: u32) {
        self.base = value & !3;
        self.cursor = self.base;
    }

    pub(super) fn start(&mut self) {
        self.stopping = false;
        if self.state == State::Stopped {
            self.state = State::Running;
        }
    }

    /// Stops it, or has it stop. Whether it stopped just now.
    pub(super) fn stop(&mut self) -> bool {
        if self.state == State::Stopped {
            return false;
        }
        self.stopping = self.busy;
        if !self.busy {
            self.state = State::Stopped;
        }
        !self.busy
    }

    /// Stops it in the middle of things.
    pub(super) fn abort(&mut self) {
        self.state = State::Stopped;
        self.stopping = false;
    }

    pub(super) fn demand(&mut self) {
        self.demands = self.demands.wrapping_add(1);
        if self.state == State::Suspended {
            self.state = State::Running;
        }
    }

    /// A reset: work that is being done ends without effect.
    pub(super) fn reset(&mut self) {
        let (busy, generation) = (self.busy, self.generation.wrapping_add(1));
        *self = Self { busy, generation, ..Self::default() };
    }

    pub(super) fn begin(&mut self, stride: u32) -> Work {
        self.busy = true;
        Work {
            cursor: self.cursor,
            base: self.base,
            stride,
            was_suspended: self.state == State::Suspended,
            demands: self.demands,
            generation: self.generation,
        }
    }

    /// Work is over. Whether it counts.
    pub(super) fn end(&mut self, work: &Work) -> bool {
        self.busy = false;
        self.generation == work.generation
    }

    /// Stops it if it was to stop after this work. Whether it did.
    pub(super) fn finish_stop(&mut self) -> bool {
        let stops = self.stopping && self.state != State::Stopped;
        if stops {
            self.abort();
        }
        stops
    }

    /// There was no descriptor. Whether it is suspended by that now, and was not before: a demand since the look counts.
    pub(super) fn suspend(&mut self, work: &Work) -> bool {
        if self.demands != work.demands || self.state == State::Stopped {
            return false;
        }
        let new = self.state == State::Running;
        self.state = State::Suspended;
        new
    }
}
