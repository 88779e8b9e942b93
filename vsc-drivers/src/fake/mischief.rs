//! How a host misbehaves.

use std::vec::Vec;

use hv_abi::vmbus::message::MessageType;

/// What a host does when a message of the guest comes, instead of answering it well.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mischief {
    /// Never answers. What the message asks for is not done.
    Silence,
    /// Does what the message asks for, and never says so.
    Mute,
    /// Answers after so many units of 100 ns.
    Late(u64),
    /// Answers twice.
    Twice,
    /// Refuses with this status.
    Refuse(u32),
    /// Answers with only so many bytes of its answer.
    Cut(usize),
    /// Takes the channel back, and doesn't answer.
    Rescind,
    /// Takes the channel back right after its answer.
    AnswerAndRescind,
    /// Says something else first.
    First(Vec<Vec<u8>>),
    /// Says something else, and doesn't do what the message asks for.
    Instead(Vec<Vec<u8>>),
}

/// For which messages.
pub(super) struct Rule {
    pub(super) message: MessageType,
    /// How many of them are left.
    pub(super) times: usize,
    pub(super) mischief: Mischief,
}

/// Takes the first rule that fits.
pub(super) fn take(rules: &mut Vec<Rule>, message: MessageType) -> Option<Mischief> {
    let index = rules.iter().position(|rule| rule.message == message)?;
    let rule = &mut rules[index];
    rule.times -= 1;
    let mischief = rule.mischief.clone();
    if rule.times == 0 {
        rules.remove(index);
    }
    Some(mischief)
}
