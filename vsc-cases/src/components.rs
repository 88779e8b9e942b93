//! The integration components, answered byte for byte: versions, samples, sequences, and answers that make no sense.

use alloc::format;
use alloc::vec::Vec;

use hv_abi::guid::Guid;
use hv_abi::ic::heartbeat::{HEARTBEAT_V3, HeartbeatMessage};
use hv_abi::ic::kvp::{
    KVP_MESSAGE_BYTES, KVP_V4, KvpExchangeValue, KvpHeader, KvpOperation, KvpPool,
};
use hv_abi::ic::timesync::{
    ICTIMESYNCFLAG_SYNC, TIMESYNC_V1, TIMESYNC_V3, TIMESYNC_V4, TimesyncMessage,
    TimesyncRefMessage, WLTIMEDELTA,
};
use hv_abi::ic::{
    HEARTBEAT_INTERFACE, IcMessageType, IcStatus, IcVersion, KVP_INTERFACE, SHUTDOWN_INTERFACE,
    TIMESYNC_INTERFACE,
};
use vsc_drivers::SECOND_100NS;
use zerocopy::{FromBytes, IntoBytes};

use crate::ic_client::{Component, Request, answer, with_component};
use crate::support::{check, skip};
use crate::{CaseResult, Environment, Problem};

const HEARTBEAT: (Guid, &str) = (HEARTBEAT_INTERFACE, "heartbeat");
const SHUTDOWN: (Guid, &str) = (SHUTDOWN_INTERFACE, "shutdown");
const TIMESYNC: (Guid, &str) = (TIMESYNC_INTERFACE, "time synchronisation");
const KVP: (Guid, &str) = (KVP_INTERFACE, "key-value exchange");
/// 2020, in units of 100 ns since 1601.
const LATE: u64 = WLTIMEDELTA + 1_577_836_800 * SECOND_100NS;

/// The lists have no version twice and one that every guest since Windows Server 2012 knows; one of it can be had.
async fn negotiates<E: Environment>(environment: &E, which: (Guid, &str)) -> CaseResult {
    with_component(environment, which, async |component| {
        let offered = component.offered().await?;
        for list in [&offered.framework, &offered.message] {
            let mut sorted = list.clone();
            sorted.sort();
            sorted.dedup();
            check(sorted.len() == list.len(), || format!("twice the same: {list:?}"))?;
        }
        let three = IcVersion::new(3, 0);
        check(offered.framework.contains(&three) && offered.message.contains(&three), || {
            format!("no 3.0 in {:?}, {:?}", offered.framework, offered.message)
        })?;
        component.choose(&offered, Some((three, three))).await
    })
    .await
}

/// A guest that refuses is left alone, until it opens the channel anew.
/// It would go on within so many `seconds`.
async fn accepts_a_refusal<E: Environment>(
    environment: &E,
    which: (Guid, &str),
    seconds: u64,
) -> CaseResult {
    with_component(environment, which, async |component| {
        let offered = component.offered().await?;
        component.choose(&offered, None).await?;
        let more = component.request_within(seconds).await?;
        check(more.is_none(), || "it goes on asking".into())
    })
    .await?;
    negotiates(environment, which).await
}

/// Answers that make no sense: the channel may end, and can be opened anew.
async fn survives_nonsense<E: Environment>(environment: &E, which: (Guid, &str)) -> CaseResult {
    let wrongs: [fn(&Request) -> Vec<u8>; 6] = [
        |_| Vec::new(),
        |_| [1_u8, 0, 0, 0, 4, 0, 0, 0].to_vec(),
        // A pipe's length behind the packet's end, the message's behind the pipe's.
        |request| changed(request, 4, 0xFF),
        |request| changed(request, 18, 0xFF),
        // Neither question nor answer; an answer to something else.
        |request| changed(request, 25, 0),
        |request| changed(request, 24, 0x77),
    ];
    for wrong in wrongs {
        with_component(environment, which, async |component| {
            let request = component.request().await?;
            component.send(request.transaction, &wrong(&request)).await
        })
        .await?;
    }
    negotiates(environment, which).await
}

/// An answer with one byte replaced.
fn changed(request: &Request, at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = answer(request, IcStatus::S_OK, &request.body);
    if let Some(place) = bytes.get_mut(at) {
        *place = byte;
    }
    bytes
}

macro_rules! of_each {
    ($($(#[$doc:meta])* $name:ident = $what:ident($which:ident $(, $more:expr)?),)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// As every case.
        pub async fn $name<E: Environment>(environment: &E) -> CaseResult {
            $what(environment, $which $(, $more)?).await
        }
    )* };
}

of_each! {
    /// Versions of the heartbeat.
    heartbeat_negotiates = negotiates(HEARTBEAT),
    /// ... of shutdown.
    shutdown_negotiates = negotiates(SHUTDOWN),
    /// ... of time synchronisation.
    time_negotiates = negotiates(TIMESYNC),
    /// ... of key-value exchange.
    keys_negotiate = negotiates(KVP),
    /// Heartbeats, which come every second or two, are not sent to who knows no version.
    heartbeat_accepts_a_refusal = accepts_a_refusal(HEARTBEAT, 3),
    /// Nor are times, the first of which comes at once.
    time_accepts_a_refusal = accepts_a_refusal(TIMESYNC, 1),
    /// Six kinds of nonsense instead of an answer.
    heartbeat_survives_nonsense = survives_nonsense(HEARTBEAT),
    /// ... to shutdown.
    shutdown_survives_nonsense = survives_nonsense(SHUTDOWN),
    /// ... to time synchronisation.
    time_survives_nonsense = survives_nonsense(TIMESYNC),
    /// ... to key-value exchange.
    keys_survive_nonsense = survives_nonsense(KVP),
}

async fn next<E: Environment>(
    component: &Component<E>,
    message_type: IcMessageType,
) -> Result<Request, Problem> {
    let request = component.request().await?;
    check(request.header.message_type == message_type, || format!("{:?}", request.header))?;
    Ok(request)
}

/// The first bytes of a message.
fn read<T: FromBytes>(request: &Request) -> Result<T, Problem> {
    let read = T::read_from_prefix(&request.body).map(|(read, _)| read);
    read.map_err(|_| Problem::Fail(format!("a message of {} bytes", request.body.len())))
}

/// Each question has a number that the answer counts on from, and another transaction.
///
/// # Errors
///
/// As every case.
pub async fn heartbeats_are_numbered<E: Environment>(environment: &E) -> CaseResult {
    with_component(environment, HEARTBEAT, async |component| {
        component.begin(HEARTBEAT_V3).await?;
        let mut seen = Vec::new();
        for _ in 0..2 {
            let request = next(component, IcMessageType::HEARTBEAT).await?;
            check(request.header.message_version == HEARTBEAT_V3, || {
                format!("version {}", request.header.message_version)
            })?;
            let mut message: HeartbeatMessage = read(&request)?;
            seen.push((message.seq_num, request.header.transaction_id));
            message.seq_num = message.seq_num.wrapping_add(1);
            component.answer(&request, IcStatus::S_OK, message.as_bytes()).await?;
        }
        check(seen[0].0 < seen[1].0 && seen[0].1 != seen[1].1, || format!("{seen:?}"))
    })
    .await
}

async fn first_time<E: Environment>(environment: &E, version: IcVersion) -> CaseResult {
    with_component(environment, TIMESYNC, async |component| {
        component.begin(version).await?;
        let request = next(component, IcMessageType::TIMESYNC).await?;
        let (time, flags) = if version >= TIMESYNC_V4 {
            let message: TimesyncRefMessage = read(&request)?;
            (message.parent_time.get(), message.flags)
        } else {
            let message: TimesyncMessage = read(&request)?;
            (message.parent_time.get(), message.flags)
        };
        component.answer(&request, IcStatus::S_OK, &request.body).await?;
        check(flags & ICTIMESYNCFLAG_SYNC != 0, || format!("flags {flags:#x}"))?;
        check(time > LATE, || format!("the host's time is {time}"))
    })
    .await
}

macro_rules! times {
    ($($(#[$doc:meta])* $name:ident => $version:ident,)*) => { $(
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// As every case.
        pub async fn $name<E: Environment>(environment: &E) -> CaseResult {
            first_time(environment, $version).await
        }
    )* };
}

times! {
    /// The first message sets the clock, in version 1.0's form.
    the_clock_is_set_first_at_1_0 => TIMESYNC_V1,
    /// ... in 3.0's.
    the_clock_is_set_first_at_3_0 => TIMESYNC_V3,
    /// ... in 4.0's, with the guest's reference time.
    the_clock_is_set_first_at_4_0 => TIMESYNC_V4,
}

/// The first question gives the guest a key in the host's own table, with lengths within the message.
///
/// # Errors
///
/// As every case.
pub async fn keys_of_the_host_are_well_formed<E: Environment>(environment: &E) -> CaseResult {
    with_component(environment, KVP, async |component| {
        component.begin(KVP_V4).await?;
        let Some(request) = component.request_within(5).await? else {
            return skip("the host gives no keys");
        };
        check(request.header.message_type == IcMessageType::KVPEXCHANGE, || {
            format!("{:?}", request.header)
        })?;
        check(request.body.len() <= KVP_MESSAGE_BYTES, || format!("{}", request.body.len()))?;
        let header: KvpHeader = read(&request)?;
        if header.operation == KvpOperation::SET {
            let body = request.body.get(hv_abi::ic::kvp::KVP_BODY_OFFSET..).unwrap_or_default();
            let value = KvpExchangeValue::read_from_prefix(body);
            let (value, _) = value.map_err(|_| Problem::Fail("a value cut short".into()))?;
            let (key, data) = (value.key_size as usize, value.value_size as usize);
            let fits = (2..=value.key.len()).contains(&key) && data <= value.value.len();
            check(fits && key % 2 == 0, || format!("key of {key} bytes, value of {data}"))?;
            check(header.pool != KvpPool::GUEST, || "it writes the guest's own table".into())?;
        }
        component.answer(&request, IcStatus::S_OK, &request.body).await
    })
    .await
}

/// A guest that knows none of it answers so, and is asked on.
///
/// # Errors
///
/// As every case.
pub async fn a_guest_may_refuse_every_key<E: Environment>(environment: &E) -> CaseResult {
    with_component(environment, KVP, async |component| {
        component.begin(KVP_V4).await?;
        for status in [IcStatus::E_FAIL, IcStatus::INVALIDARG, IcStatus::GUID_NOTFOUND] {
            let Some(request) = component.request_within(3).await? else { return Ok(()) };
            component.answer(&request, status, &request.body).await?;
        }
        Ok(())
    })
    .await?;
    negotiates(environment, KVP).await
}
