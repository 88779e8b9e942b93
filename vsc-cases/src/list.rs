//! The list of all cases.

/// Calls a macro once for each facility, with its cases: `callback!(Facility, module: [name => source, …]);`.
///
/// Cases are `async fn name<E: Environment>(environment: &E) -> CaseResult` in `vsc_cases::module`.
#[macro_export]
macro_rules! for_each_case {
    ($callback:ident) => {
        $callback!(VmBus, vmbus: [
            the_host_agrees_to_a_version_and_keeps_to_it => "Linux, drivers/hv/connection.c, vmbus_connect",
            a_version_that_does_not_exist_is_refused => "Linux, drivers/hv/connection.c, vmbus_negotiate_version",
            every_offer_has_a_number_of_its_own => "Linux, drivers/hv/channel_mgmt.c, vmbus_onoffer",
            all_offers_come_before_their_end => "Linux, drivers/hv/channel_mgmt.c, vmbus_onoffers_delivered",
            offers_are_the_same_after_an_unload => "Linux, drivers/hv/channel_mgmt.c, vmbus_initiate_unload",
            a_second_contact_without_an_unload_starts_anew => "OpenVMM, vmbus_server/src/channels.rs, initiate_contact",
            primary_channels_have_index_0 => "Linux, include/linux/hyperv.h, struct vmbus_channel_offer",
        ]);
        $callback!(Channels, channels: [
            every_channel_opens_and_closes => "Linux, drivers/hv/channel.c, __vmbus_open",
            a_channel_opens_again_after_it_was_closed => "Linux, drivers/hv/channel.c, vmbus_disconnect_ring",
            channels_open_at_the_same_time => "Linux, drivers/hv/channel.c, __vmbus_open",
            rings_of_one_page_and_of_a_thousand_are_taken => "Linux, drivers/hv/channel.c, vmbus_alloc_ring",
            a_channel_can_be_bound_to_every_processor => "Linux, drivers/hv/channel_mgmt.c, init_vp_index",
            signals_can_move_to_another_processor => "Linux, drivers/hv/channel.c, vmbus_send_modifychannel",
            the_bus_can_be_left_with_channels_open => "Linux, drivers/hv/channel_mgmt.c, vmbus_initiate_unload",
        ]);
        $callback!(Gpadls, gpadls: [
            one_page_is_shared_and_taken_back => "Linux, drivers/hv/channel.c, __vmbus_establish_gpadl",
            memory_of_many_messages_is_shared => "Linux, drivers/hv/channel.c, create_gpadl_header",
            a_hundred_pieces_are_shared_at_the_same_time => "Linux, drivers/hv/channel.c, __vmbus_establish_gpadl",
            shared_memory_goes_with_the_connection => "Linux, drivers/hv/channel_mgmt.c, vmbus_initiate_unload",
        ]);
        $callback!(Storage, storage: [
            the_controller_starts_and_finds_disks => "Linux, drivers/scsi/storvsc_drv.c, storvsc_channel_init",
            what_is_written_is_read_again => "SBC-3, WRITE and READ commands",
            pieces_across_pages_keep_their_order => "Linux, drivers/scsi/storvsc_drv.c, storvsc_queuecommand",
            a_flush_is_answered => "SBC-3, SYNCHRONIZE CACHE (10) command",
            a_read_beyond_the_end_is_refused => "SBC-3, LOGICAL BLOCK ADDRESS OUT OF RANGE",
            a_read_only_disk_stays_as_it_is => "SPC-4, WRITE PROTECTED",
            many_requests_are_in_flight_at_the_same_time => "Linux, drivers/scsi/storvsc_drv.c, storvsc_queuecommand",
        ]);
        $callback!(Network, network: [
            a_card_starts_stops_and_starts_again => "Linux, drivers/net/hyperv/netvsc.c, netvsc_device_add",
            a_card_tells_its_address_and_its_mtu => "Linux, drivers/net/hyperv/rndis_filter.c, rndis_filter_query_device_mac",
            two_cards_have_two_addresses => "IEEE 802.3, MAC addresses",
            frames_of_every_size_arrive_as_they_were_sent => "Linux, drivers/net/hyperv/netvsc.c, netvsc_send",
            a_short_frame_arrives_perhaps_longer => "IEEE 802.3, minimum frame size",
            a_broadcast_reaches_the_other_card => "IEEE 802.3, broadcast",
            a_burst_arrives_whole_and_in_order => "Linux, drivers/net/hyperv/netvsc.c, netvsc_receive",
            a_burst_costs_few_packets => "Linux, drivers/net/hyperv/netvsc.c, netvsc_copy_to_send_buf",
            a_frame_longer_than_the_mtu_is_refused => "Linux, drivers/net/hyperv/netvsc_drv.c, netvsc_change_mtu",
        ]);
        $callback!(Integration, integration: [
            heartbeats_come_and_are_answered => "Linux, drivers/hv/hv_util.c, heartbeat_onchannelcallback",
            the_hosts_time_comes_at_the_beginning => "Linux, drivers/hv/hv_util.c, timesync_onchannelcallback",
        ]);
    };
}
