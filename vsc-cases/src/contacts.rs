//! Contacts and messages that make no sense: the bus refuses or ignores them, and works for whoever comes next.

use alloc::format;
use alloc::vec;

use hv_abi::vmbus::message::{
    ContactTarget, InitiateContact, MessageHeader, MessageType, RelidReleased, VmbusMessage,
};
use hv_abi::vmbus::version::VmbusVersion;
use hv_abi::vmbus::{
    VMBUS_MAX_MESSAGE_BYTES, VMBUS_MESSAGE_CONNECTION_ID, VMBUS_MESSAGE_CONNECTION_ID_4,
};
use vsc_drivers::task::{beside, sleep_until};
use vsc_drivers::{BusError, BusOptions, Hal, SECOND_100NS};
use zerocopy::IntoBytes;

use crate::macros::cases;
use crate::raw::{Bare, bare, header, hostile, post, post_on, tell};
use crate::support::{check, connected, failed, options, skip};
use crate::{CaseResult, Environment};

/// Messages of a flood.
const FLOOD: u32 = 300;

/// All that a guest may say, but for the contact.
const REQUESTS: [MessageType; 9] = [
    MessageType::REQUESTOFFERS,
    MessageType::OPENCHANNEL,
    MessageType::CLOSECHANNEL,
    MessageType::GPADL_HEADER,
    MessageType::GPADL_BODY,
    MessageType::GPADL_TEARDOWN,
    MessageType::RELID_RELEASED,
    MessageType::MODIFYCHANNEL,
    MessageType::UNLOAD,
];

fn contact(version: VmbusVersion) -> InitiateContact {
    InitiateContact {
        header: header(InitiateContact::TYPE),
        vmbus_version_requested: version,
        target_vcpu: 0,
        target: 0,
        monitor_page1: 0,
        monitor_page2: 0,
    }
}

/// A contact by which the host can answer with nothing but a refusal.
async fn refused<H: Hal>(hal: &H) -> CaseResult {
    tell(hal, &contact(VmbusVersion::new(99, 0))).await
}

cases! { hostile:
    /// Types that nobody has defined, small and large.
    async fn messages_of_unknown_types_are_ignored(_, bus) {
        for message_type in [0, 2, 25, 26, 31, 100, 0x8000_0000, u32::MAX] {
            let mut bytes = [0; 64];
            bytes[..4].copy_from_slice(&u32::to_le_bytes(message_type));
            post(&bus.hal, &bytes).await?;
        }
        bus.answered(0).await
    }

    /// Nothing behind the header where more belongs.
    async fn messages_without_a_body_are_ignored(_, bus) {
        for message_type in REQUESTS {
            if ![MessageType::REQUESTOFFERS, MessageType::UNLOAD].contains(&message_type) {
                post(&bus.hal, header(message_type).as_bytes()).await?;
            }
        }
        post(&bus.hal, header(MessageType::INITIATE_CONTACT).as_bytes()).await?;
        bus.answered(0).await
    }

    /// Not even a header.
    async fn messages_shorter_than_a_header_are_ignored(_, bus) {
        for bytes in [0, 1, 4, 7] {
            // The hypervisor may refuse what is empty.
            let _ = post_on(&bus.hal, VMBUS_MESSAGE_CONNECTION_ID, &[1; 8][..bytes]).await;
        }
        bus.answered(0).await
    }

    /// An offer, an answer, a rescind: said by the guest they mean nothing.
    async fn what_only_hosts_say_is_ignored(_, bus) {
        for message_type in [
            MessageType::OFFERCHANNEL,
            MessageType::RESCIND_CHANNELOFFER,
            MessageType::ALLOFFERS_DELIVERED,
            MessageType::OPENCHANNEL_RESULT,
            MessageType::GPADL_CREATED,
            MessageType::GPADL_TORNDOWN,
            MessageType::VERSION_RESPONSE,
            MessageType::UNLOAD_RESPONSE,
        ] {
            let mut bytes = vec![0; VMBUS_MAX_MESSAGE_BYTES];
            bytes[..8].copy_from_slice(header(message_type).as_bytes());
            bytes[8..12].copy_from_slice(&bus.channel().to_le_bytes());
            post(&bus.hal, &bytes).await?;
        }
        bus.answered(0).await
    }

    /// The offers come once for each connection.
    async fn offers_can_be_requested_once(_, bus) {
        let offers = bus.bus().offers().len();
        for _ in 0..3 {
            post(&bus.hal, header(MessageType::REQUESTOFFERS).as_bytes()).await?;
        }
        bus.answered(0).await?;
        check(bus.bus().offers().len() == offers, || "there are other offers now".into())
    }

    /// A number that was not taken back can't be given back, and one that does not exist neither.
    async fn numbers_of_nothing_are_not_given_back(_, bus) {
        for child_relid in [0, 1999, 2048, u32::MAX] {
            let header = header(RelidReleased::TYPE);
            tell(&bus.hal, &RelidReleased { header, child_relid }).await?;
        }
        bus.answered(0).await
    }

    /// More than anybody keeps: the ones that mean something come through in the end.
    async fn a_flood_of_nonsense_leaves_the_bus_usable(_, bus) {
        let mut bytes = vec![0xA5; VMBUS_MAX_MESSAGE_BYTES];
        for number in 0..FLOOD {
            bytes[..4].copy_from_slice(&(1000 + number).to_le_bytes());
            post(&bus.hal, &bytes).await?;
        }
        bus.answered(0).await
    }

    /// From version 5.0 on, contacts go by another connection than all else.
    async fn the_connection_for_contacts_takes_nothing_else(_, bus) {
        if bus.version() < VmbusVersion::V5_0 {
            return skip(format!("the connection is {}", bus.version()));
        }
        for message_type in [MessageType::REQUESTOFFERS, MessageType::UNLOAD] {
            let bytes = header(message_type);
            let _ = post_on(&bus.hal, VMBUS_MESSAGE_CONNECTION_ID_4, bytes.as_bytes()).await;
        }
        bus.answered(0).await
    }
}

cases! { bare:
    /// Before there is a connection nothing is done and nothing is answered, until a contact comes.
    async fn nothing_is_answered_before_contact(_, bare) {
        for message_type in REQUESTS {
            let mut bytes = vec![0; 200];
            bytes[..8].copy_from_slice(header(message_type).as_bytes());
            post(&bare.hal, &bytes).await?;
        }
        refused(&bare.hal).await?;
        bare.answered(1).await
    }

    /// Each is answered, with a refusal.
    async fn every_unknown_version_is_refused(_, bare) {
        let odd = [(0, 0), (0, 14), (1, 2), (2, 3), (3, 1), (4, 2), (5, 4), (6, 1), (0x7FFF, 0)];
        for (number, (major, minor)) in odd.into_iter().enumerate() {
            tell(&bare.hal, &contact(VmbusVersion::new(major, minor))).await?;
            bare.answered(number as u64 + 1).await?;
        }
        Ok(())
    }

    /// From version 3.0 on a contact says which processor gets the messages. To one that does not exist nothing can be said.
    async fn a_contact_for_a_processor_that_is_not_there_is_ignored(_, bare) {
        let Bare { hal, version, .. } = bare;
        if *version < VmbusVersion::V3_0 {
            return skip(format!("the connection is {version}"));
        }
        for target_vcpu in [4096, 0xFFFF, u32::MAX] {
            tell(hal, &InitiateContact { target_vcpu, ..contact(*version) }).await?;
        }
        refused(hal).await?;
        bare.answered(1).await
    }

    /// From version 5.0 on it says which source gets them.
    async fn a_contact_for_a_source_that_is_not_there_is_ignored(_, bare) {
        let Bare { hal, version, .. } = bare;
        if *version < VmbusVersion::V5_0 {
            return skip(format!("the connection is {version}"));
        }
        for sint in [16, 255] {
            let target = ContactTarget::new(sint, 0).0;
            let contact = InitiateContact { target, ..contact(*version) };
            let _ = post_on(hal, VMBUS_MESSAGE_CONNECTION_ID_4, contact.as_bytes()).await;
        }
        refused(hal).await?;
        bare.answered(1).await
    }

    /// Before version 2.4 a page has the signals' bits. One that is not RAM leads to a refusal.
    async fn an_interrupt_page_must_be_memory(_, bare) {
        let Bare { hal, version, .. } = bare;
        if *version >= VmbusVersion::V2_4 {
            return skip(format!("the connection is {version}"));
        }
        for (number, target) in [u64::MAX, 1 << 52, u64::MAX << 12].into_iter().enumerate() {
            tell(hal, &InitiateContact { target, ..contact(*version) }).await?;
            bare.answered(number as u64 + 1).await?;
        }
        Ok(())
    }

    /// Two, or none; and both must be RAM.
    async fn monitor_pages_come_in_pairs_and_are_memory(_, bare) {
        let Bare { hal, version, .. } = bare;
        if *version < VmbusVersion::V2_4 {
            return skip(format!("the connection is {version}"));
        }
        let pairs = [(0x1000, 0), (0, 0x1000), (u64::MAX, u64::MAX), (1 << 52, 1 << 52)];
        for (number, (monitor_page1, monitor_page2)) in pairs.into_iter().enumerate() {
            tell(hal, &InitiateContact { monitor_page1, monitor_page2, ..contact(*version) }).await?;
            bare.answered(number as u64 + 1).await?;
        }
        Ok(())
    }

    /// A kernel that starts again and again, without a word of farewell.
    async fn contacts_may_follow_each_other_quickly(_, bare) {
        for _ in 0..50 {
            tell(&bare.hal, &contact(VmbusVersion::new(99, 0))).await?;
        }
        let answers = || bare.bus.counts().unexpected_answers;
        // The next connection must not take a refusal for its own, and all after it those of the ones before. Nothing says which is
        // the last: on a busy machine the host's thread may rest for some while between two.
        let mut before = u64::MAX;
        while answers() < 50 && (answers() == 0 || answers() != before) {
            before = answers();
            sleep_until(&bare.hal, bare.hal.now_100ns() + SECOND_100NS / 2).await;
        }
        // An answer that was not delivered yet is forgotten with its connection.
        check((1..=50).contains(&answers()), || format!("{} answers", answers()))
    }

    /// An unload without a connection, and a second one after the first.
    async fn an_unload_of_nothing_is_ignored(_, bare) {
        for _ in 0..3 {
            post(&bare.hal, MessageHeader::new(MessageType::UNLOAD).as_bytes()).await?;
        }
        refused(&bare.hal).await?;
        bare.answered(1).await
    }
}

/// Each that both sides know, from the newest to the oldest: the host keeps to the one that was asked for.
///
/// # Errors
///
/// As every case.
pub async fn every_version_can_be_had_in_turn<E: Environment>(environment: &E) -> CaseResult {
    // Whether there is a bus at all.
    connected(environment, async |_| Ok(())).await?;
    let mut agreed = 0;
    for version in VmbusVersion::ALL {
        let bus = environment.new_bus(BusOptions::default().forced(version));
        let one = async {
            match bus.connect().await {
                Err(BusError::NoVersion) => return Ok(()),
                Ok(had) => check(had == version, || format!("{had} instead of {version}"))?,
                Err(error) => return Err(failed("connect")(error)),
            }
            agreed += 1;
            bus.all_offers_delivered().await.map_err(failed("all offers"))?;
            bus.unload().await.map_err(failed("unload"))
        };
        beside(bus.run(), one).await?;
    }
    check(agreed > 0, || "the host agrees to none".into())
}

/// The same devices, whatever the version.
///
/// # Errors
///
/// As every case.
pub async fn devices_are_the_same_at_every_version<E: Environment>(environment: &E) -> CaseResult {
    let mut devices = alloc::vec::Vec::new();
    let first = environment.new_bus(options(environment));
    beside(first.run(), async {
        crate::support::connect(&first).await?;
        first.all_offers_delivered().await.map_err(failed("all offers"))?;
        devices.extend(first.offers().iter().map(|offer| (offer.interface, offer.instance)));
        first.unload().await.map_err(failed("unload"))
    })
    .await?;
    devices.sort();
    for version in [VmbusVersion::V6_0, VmbusVersion::V4_0, VmbusVersion::V2_4] {
        let bus = environment.new_bus(BusOptions::default().forced(version));
        let one = async {
            if bus.connect().await.is_err() {
                return Ok(());
            }
            bus.all_offers_delivered().await.map_err(failed("all offers"))?;
            let mut found: alloc::vec::Vec<_> =
                bus.offers().iter().map(|offer| (offer.interface, offer.instance)).collect();
            found.sort();
            bus.unload().await.map_err(failed("unload"))?;
            check(found == devices, || format!("{} devices at {version}", found.len()))
        };
        beside(bus.run(), one).await?;
    }
    Ok(())
}
