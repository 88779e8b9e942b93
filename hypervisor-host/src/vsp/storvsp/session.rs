//! The beginning of the protocol, and what is not SCSI.
//!
//! | state | takes | then |
//! | --- | --- | --- |
//! | begin | `BEGIN_INITIALIZATION` | version |
//! | version | `QUERY_PROTOCOL_VERSION`, again while it is refused | properties |
//! | properties | `QUERY_PROPERTIES` | end |
//! | end | `CREATE_SUB_CHANNELS`, `END_INITIALIZATION` | ready |
//! | ready | requests, resets, `CREATE_SUB_CHANNELS` | |
//!
//! Everything else is answered with `INVALID_DEVICE_STATE`, and changes nothing.

use hv_abi::storvsp::{
    ChannelProperties, Operation, STORAGE_CHANNEL_SUPPORTS_MULTI_CHANNEL, StorvspVersion,
    VstorStatus,
};

use super::StorvspOptions;
use super::packet::{Answer, Question};
use crate::storage::scsi::MAX_TRANSFER_BYTES;

/// How far a channel has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Version,
    Properties(StorvspVersion),
    End(StorvspVersion),
    Ready(StorvspVersion),
}

/// What a question leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// This answer.
    Answer(Answer),
    /// This answer, and the channel is ready for requests.
    Ready(Answer),
    /// A SCSI request.
    Execute,
    /// A reset: of one unit, or of all.
    Reset {
        /// One.
        one: bool,
    },
    /// Sub-channels are to be offered.
    SubChannels(u16),
}

/// A channel's state.
pub(super) struct Session {
    state: State,
    newest: StorvspVersion,
    /// Sub-channels that may still be asked for.
    sub_channels: u16,
}

impl Session {
    /// Of a primary channel. `multi_channel`: the bus has sub-channels.
    pub(super) fn primary(options: StorvspOptions, multi_channel: bool) -> Self {
        let sub_channels = if multi_channel { options.sub_channels } else { 0 };
        Self { state: State::Begin, newest: options.newest, sub_channels }
    }

    /// Of a sub-channel, whose primary channel has agreed on `version`.
    pub(super) fn secondary(version: StorvspVersion) -> Self {
        Self { state: State::Ready(version), newest: version, sub_channels: 0 }
    }

    /// The version, once the channel is ready.
    pub(super) fn version(&self) -> Option<StorvspVersion> {
        if let State::Ready(version) = self.state { Some(version) } else { None }
    }

    /// So many sub-channels were offered.
    pub(super) fn offered(&mut self, count: u16) {
        self.sub_channels = self.sub_channels.saturating_sub(count);
    }

    /// Takes a question.
    pub(super) fn take(&mut self, question: &Question) -> Step {
        let answer = |status| Step::Answer(question.answer(status));
        match (self.state, question.operation) {
            (_, operation) if !is_known(operation) => answer(VstorStatus::INVALID_DEVICE_REQUEST),
            (State::Begin, Operation::BEGIN_INITIALIZATION) => {
                self.state = State::Version;
                answer(VstorStatus::SUCCESS)
            }
            (State::Version, Operation::QUERY_PROTOCOL_VERSION) => self.query_version(question),
            (State::Properties(version), Operation::QUERY_PROPERTIES) => {
                self.state = State::End(version);
                let properties = self.properties(version);
                Step::Answer(question.answer_with(VstorStatus::SUCCESS, &properties))
            }
            (State::End(version), Operation::END_INITIALIZATION) => {
                self.state = State::Ready(version);
                Step::Ready(question.answer(VstorStatus::SUCCESS))
            }
            (State::End(version) | State::Ready(version), Operation::CREATE_SUB_CHANNELS) => {
                let count = question.sub_channels();
                if version < StorvspVersion::V5_1 || count > self.sub_channels {
                    return answer(VstorStatus::INVALID_PARAMETER);
                }
                Step::SubChannels(count)
            }
            (State::Ready(_), Operation::EXECUTE_SRB) => Step::Execute,
            (State::Ready(_), Operation::RESET_LUN) => Step::Reset { one: true },
            (State::Ready(_), Operation::RESET_BUS | Operation::RESET_ADAPTER) => {
                Step::Reset { one: false }
            }
            _ => answer(VstorStatus::INVALID_DEVICE_STATE),
        }
    }

    fn query_version(&mut self, question: &Question) -> Step {
        let asked = question.version();
        let version = asked.major_minor;
        let accepted = version.is_known() && version <= self.newest;
        if accepted {
            self.state = State::Properties(version);
        }
        let status = match accepted {
            true => VstorStatus::SUCCESS,
            false => VstorStatus::REVISION_MISMATCH,
        };
        Step::Answer(question.answer_with(status, &asked))
    }

    fn properties(&self, version: StorvspVersion) -> ChannelProperties {
        let several = version >= StorvspVersion::V5_1 && self.sub_channels > 0;
        ChannelProperties {
            max_channel_cnt: if several { self.sub_channels } else { 0 },
            flags: if several { STORAGE_CHANNEL_SUPPORTS_MULTI_CHANNEL } else { 0 },
            max_transfer_bytes: MAX_TRANSFER_BYTES,
            ..Default::default()
        }
    }
}

/// Whether a guest can ask this of a SCSI controller at all. `FCHBA_DATA` is for Fibre Channel.
fn is_known(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::EXECUTE_SRB
            | Operation::RESET_LUN
            | Operation::RESET_ADAPTER
            | Operation::RESET_BUS
            | Operation::BEGIN_INITIALIZATION
            | Operation::END_INITIALIZATION
            | Operation::QUERY_PROTOCOL_VERSION
            | Operation::QUERY_PROPERTIES
            | Operation::CREATE_SUB_CHANNELS
    )
}
