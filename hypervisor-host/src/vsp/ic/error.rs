//! What can go wrong with a component: a guest that breaks the protocol, or a request that leads nowhere.

use std::time::Duration;

use hv_abi::ic::{IcMessageType, IcStatus, IcVersion};
use thiserror::Error;

/// A guest broke the protocol; its channel is closed for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IcError {
    /// A packet of another kind than in-band.
    #[error("a packet of a kind that has no place here")]
    PacketKind,
    /// A packet without room for the headers.
    #[error("a packet of {0} bytes is too short for the headers")]
    TooShort(usize),
    /// The pipe header is no data's.
    #[error("pipe packet of type {0}")]
    PipeType(u32),
    /// The pipe header tells of more or fewer bytes than can be.
    #[error("the pipe header tells of {told} bytes, where there are {present}")]
    PipeLength {
        /// Bytes that the header tells of.
        told: u32,
        /// Bytes behind it.
        present: usize,
    },
    /// The message's header tells of more bytes than the packet has.
    #[error("the message's header tells of {told} bytes, where there are {present}")]
    MessageLength {
        /// Bytes that the header tells of.
        told: u16,
        /// Bytes behind it.
        present: usize,
    },
    /// Not marked as an answer.
    #[error("flags {0:#x} are not an answer's")]
    NoAnswer(u8),
    /// An answer to nothing that was asked.
    #[error("an answer of type {} to transaction {transaction}, which does not wait for it", .message_type.0)]
    Unexpected {
        /// Its type.
        message_type: IcMessageType,
        /// Its transaction.
        transaction: u8,
    },
    /// The answer's message is too short.
    #[error("a message of {present} bytes, where {needed} are needed")]
    MessageShort {
        /// Bytes that are there.
        present: usize,
        /// Bytes that are needed.
        needed: usize,
    },
    /// The answer does not choose one version of each kind.
    #[error("{framework} and {message} versions chosen, instead of one each")]
    VersionCount {
        /// Versions of the framework.
        framework: u16,
        /// Versions of the message.
        message: u16,
    },
    /// The guest chose a version that was not offered.
    #[error("version {0}, which was not offered")]
    VersionNotOffered(IcVersion),
    /// The guest's number is not the next one.
    #[error("heartbeat {found}, where {expected} was due")]
    Sequence {
        /// The guest's number.
        found: u64,
        /// The number that was due.
        expected: u64,
    },
    /// The answer is about something else than the question.
    #[error("the answer is for operation {found}, the question was {expected}")]
    Operation {
        /// The answer's operation.
        found: u8,
        /// The question's.
        expected: u8,
    },
    /// A text or number has a size that can't be.
    #[error("a {what} of {size} bytes")]
    Size {
        /// What it is.
        what: &'static str,
        /// Its size.
        size: u32,
    },
    /// A value has a type that there is not.
    #[error("a value of type {0}")]
    ValueType(u32),
}

/// A request to a guest led to nothing. All but [`TooLong`](Self::TooLong) may go away with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CallError {
    /// The guest has not opened the channel, or not agreed on versions yet.
    #[error("the guest has no driver for it, or none yet")]
    NoDriver,
    /// Guest and host have no version in common.
    #[error("the guest's driver has no version in common with this host")]
    NoCommonVersion,
    /// Too many requests wait already.
    #[error("too many requests wait already")]
    Busy,
    /// The guest did not answer in time.
    #[error("the guest did not answer within {} seconds", .0.as_secs_f32())]
    NoAnswer(Duration),
    /// The guest closed the channel, or broke the protocol.
    #[error("the guest's driver went away")]
    Gone,
    /// The guest's version is too old for it.
    #[error("the guest's driver has version {has}; this needs {needs}")]
    TooOld {
        /// What is spoken.
        has: IcVersion,
        /// What knows the request.
        needs: IcVersion,
    },
    /// The guest refused.
    #[error("the guest refused, with status {0}")]
    Refused(IcStatus),
    /// The guest has no such key.
    #[error("the guest has no such key there")]
    NoSuchKey,
    /// A text is longer than the protocol can say.
    #[error("a {what} has {most} UTF-16 units at most")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// The most.
        most: usize,
    },
    /// The guest's table has no end.
    #[error("the guest lists more than {0} keys")]
    Endless(u32),
}
