//! Every case that Linux can try, in the order of `vsc-cases`.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use kernel::matrix::Facility;
use vsc_cases::scsi::target::ScsiDisk;
use vsc_cases::{CaseResult, Problem};

use super::sg::SgTarget;
use super::{bus, cards, channels, components, disks};

/// A case.
#[derive(Debug, Clone, Copy)]
pub struct LinuxCase {
    /// The facility that it is about.
    pub facility: &'static str,
    /// Its name, as in the kernel's image, where `vsc-cases` are below `synthetic`.
    pub name: &'static str,
    /// What tries it.
    pub run: fn() -> CaseResult,
}

/// Polls a future that never waits.
pub(super) fn at_once(future: impl Future<Output = CaseResult>) -> CaseResult {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Problem::Fail("the case waits for what nobody wakes it for".into())),
    }
}

/// A SCSI case, through Linux's driver.
fn with_disk(body: impl AsyncFnOnce(ScsiDisk<'_, SgTarget>) -> CaseResult) -> CaseResult {
    let target = SgTarget::first()?;
    at_once(async { body(ScsiDisk::find(&target).await?).await })
}

/// Why requests can't be written byte by byte.
fn not_by_sg_io() -> CaseResult {
    let reason = "SG_IO leaves these bytes of the request to Linux's driver";
    Err(Problem::Skip(reason.into()))
}

/// Cases of ours, one of the names of `vsc-cases` each.
macro_rules! own {
    ($all:ident, $facility:ident: $module:literal, $here:ident: [$($name:ident),* $(,)?]) => {
        $all.extend([$(LinuxCase {
            facility: Facility::$facility.name(),
            name: concat!("synthetic::", $module, "::", stringify!($name)),
            run: $here::$name,
        }),*])
    };
}

/// The SCSI cases of `vsc-cases`' list; what is about the request around them can't be tried, and the rest has cases of its own.
macro_rules! listed {
    (Storage, scsi: [$($name:ident => $source:expr),* $(,)?]) => {
        fn scsi_cases() -> Vec<LinuxCase> {
            vec![$(LinuxCase {
                facility: Facility::Storage.name(),
                name: concat!("synthetic::scsi::", stringify!($name)),
                run: || with_disk(async |disk| vsc_cases::scsi::on::$name(&disk).await),
            }),*]
        }
    };
    (Storage, srb: [$($name:ident => $source:expr),* $(,)?]) => {
        fn srb_cases() -> Vec<LinuxCase> {
            vec![$(LinuxCase {
                facility: Facility::Storage.name(),
                name: concat!("synthetic::srb::", stringify!($name)),
                run: not_by_sg_io,
            }),*]
        }
    };
    ($facility:ident, $module:ident: $cases:tt) => {};
}
vsc_cases::for_each_case!(listed);

/// All cases.
pub fn all() -> Vec<LinuxCase> {
    let mut all = Vec::new();
    own!(all, VmBus: "vmbus", bus: [
        the_host_agrees_to_a_version_and_keeps_to_it,
        every_offer_has_a_number_of_its_own,
        offers_are_the_same_after_an_unload,
        primary_channels_have_index_0,
    ]);
    own!(all, Channels: "channels", channels: [
        every_channel_opens_and_closes,
        a_channel_opens_again_after_it_was_closed,
        channels_open_at_the_same_time,
        signals_can_move_to_another_processor,
    ]);
    own!(all, Gpadls: "gpadls", channels: [memory_of_many_messages_is_shared]);
    own!(all, VmBus: "contacts", bus: [
        every_version_can_be_had_in_turn,
        devices_are_the_same_at_every_version,
    ]);
    own!(all, Storage: "storage", disks: [
        the_controller_starts_and_finds_disks,
        what_is_written_is_read_again,
        pieces_across_pages_keep_their_order,
        a_flush_is_answered,
        a_read_beyond_the_end_is_refused,
        a_read_only_disk_stays_as_it_is,
        many_requests_are_in_flight_at_the_same_time,
    ]);
    all.extend(scsi_cases());
    all.extend(srb_cases());
    own!(all, Network: "network", cards: [
        a_card_starts_stops_and_starts_again,
        a_card_tells_its_address_and_its_mtu,
        two_cards_have_two_addresses,
        frames_of_every_size_arrive_as_they_were_sent,
        a_short_frame_arrives_perhaps_longer,
        a_broadcast_reaches_the_other_card,
        a_burst_arrives_whole_and_in_order,
        a_burst_costs_few_packets,
        a_frame_longer_than_the_mtu_is_refused,
    ]);
    own!(all, Integration: "integration", components: [
        heartbeats_come_and_are_answered,
        the_hosts_time_comes_at_the_beginning,
    ]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Facility and name of every case of `vsc-cases`.
    fn rows() -> Vec<(&'static str, &'static str)> {
        let mut rows = Vec::new();
        macro_rules! row {
            ($facility:ident, $module:ident: [$($name:ident => $source:expr),* $(,)?]) => { $(
                rows.push((Facility::$facility.name(), concat!("synthetic::", stringify!($module), "::", stringify!($name))));
            )* };
        }
        vsc_cases::for_each_case!(row);
        rows
    }

    #[test]
    fn every_case_is_a_row_of_the_matrix_once() {
        let (rows, mut names) = (rows(), Vec::new());
        for case in all() {
            assert!(rows.contains(&(case.facility, case.name)), "{}", case.name);
            assert!(!names.contains(&case.name), "{} twice", case.name);
            names.push(case.name);
        }
        assert!(names.len() > 80, "only {}", names.len());
    }

    #[test]
    fn a_case_that_would_wait_for_ever_fails() {
        let result = at_once(std::future::pending());
        assert!(matches!(result, Err(Problem::Fail(_))), "{result:?}");
    }
}
