//! One open channel of the key-value exchange.

use std::sync::Arc;
use std::time::Instant;

use hv_abi::ic::kvp::{KvpOperation, KvpPool};
use hv_abi::ic::{IcMessageType, IcStatus};

use super::super::calls::{Call, Calls, Contact};
use super::super::error::{CallError, IcError};
use super::super::message::Answer;
use super::super::session::{Next, Session, Versions, unexpected};
use super::HostItems;
use super::wire::{Found, decode, encode};

/// What the guest is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    Get { pool: KvpPool, key: String },
    Set { pool: KvpPool, key: String, value: String },
    Delete { pool: KvpPool, key: String },
    Enumerate { pool: KvpPool, index: u32 },
}

impl Question {
    pub(super) fn operation(&self) -> KvpOperation {
        match self {
            Self::Get { .. } => KvpOperation::GET,
            Self::Set { .. } => KvpOperation::SET,
            Self::Delete { .. } => KvpOperation::DELETE,
            Self::Enumerate { .. } => KvpOperation::ENUMERATE,
        }
    }
}

pub(super) type KvpCalls = Calls<Question, Found>;

/// One open channel.
pub struct KvpSession {
    calls: Arc<KvpCalls>,
    host_items: Arc<HostItems>,
    open: Option<(u8, Call<Question, Found>)>,
}

impl KvpSession {
    pub(super) fn new(calls: Arc<KvpCalls>, host_items: Arc<HostItems>) -> Self {
        Self { calls, host_items, open: None }
    }
}

impl Session for KvpSession {
    const TYPE: IcMessageType = IcMessageType::KVPEXCHANGE;

    fn ready(&mut self, _now: Instant, versions: Versions) {
        for (key, value) in self.host_items.iter() {
            let (pool, key, value) = (KvpPool::AUTO_EXTERNAL, key.into(), value.into());
            self.calls.push(Question::Set { pool, key, value });
        }
        self.calls.set_contact(Contact::Agreed(versions));
    }

    fn refused(&mut self) {
        self.calls.set_contact(Contact::NoCommonVersion);
    }

    fn poll(&mut self, _now: Instant, transaction: u8) -> Next {
        if self.open.is_some() {
            return Next::default();
        }
        let Some(call) = self.calls.next() else { return Next::default() };
        let message = encode(&call.question);
        self.open = Some((transaction, call));
        Next { request: Some(message), at: None }
    }

    fn answer(&mut self, _now: Instant, answer: &Answer<'_>) -> Result<(), IcError> {
        let open = self.open.take_if(|(transaction, _)| *transaction == answer.transaction);
        let (_, call) = open.ok_or_else(|| unexpected(answer))?;
        self.calls.count_answer();
        let result = match answer.status {
            IcStatus::S_OK => Ok(decode(&call.question, answer)?),
            IcStatus::S_CONT => Err(CallError::NoSuchKey),
            status => Err(CallError::Refused(status)),
        };
        call.reply(result);
        Ok(())
    }
}

impl Drop for KvpSession {
    fn drop(&mut self) {
        self.calls.closed();
    }
}
