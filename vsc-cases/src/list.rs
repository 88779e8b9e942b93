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
        $callback!(VmBus, contacts: [
            messages_of_unknown_types_are_ignored => "OpenVMM, vmbus_server/src/channels.rs, handle_synic_message",
            messages_without_a_body_are_ignored => "OpenVMM, vmbus_server/src/channels.rs, Message::parse",
            messages_shorter_than_a_header_are_ignored => "OpenVMM, vmbus_server/src/channels.rs, Message::parse",
            what_only_hosts_say_is_ignored => "Linux, include/linux/hyperv.h, enum vmbus_channel_message_type",
            offers_can_be_requested_once => "OpenVMM, vmbus_server/src/channels.rs, handle_request_offers",
            numbers_of_nothing_are_not_given_back => "OpenVMM, vmbus_server/src/channels.rs, handle_rel_id_released",
            a_flood_of_nonsense_leaves_the_bus_usable => "Linux, drivers/hv/connection.c, vmbus_post_msg",
            the_connection_for_contacts_takes_nothing_else => "Linux, include/linux/hyperv.h, VMBUS_MESSAGE_CONNECTION_ID_4",
            nothing_is_answered_before_contact => "OpenVMM, vmbus_server/src/channels.rs, check_connected",
            every_unknown_version_is_refused => "Linux, drivers/hv/connection.c, vmbus_negotiate_version",
            a_contact_for_a_processor_that_is_not_there_is_ignored => "Linux, include/linux/hyperv.h, struct vmbus_channel_initiate_contact",
            a_contact_for_a_source_that_is_not_there_is_ignored => "Linux, include/linux/hyperv.h, struct vmbus_channel_initiate_contact",
            an_interrupt_page_must_be_memory => "Linux, include/linux/hyperv.h, struct vmbus_channel_initiate_contact",
            monitor_pages_come_in_pairs_and_are_memory => "Linux, drivers/hv/connection.c, vmbus_negotiate_version",
            contacts_may_follow_each_other_quickly => "OpenVMM, vmbus_server/src/channels.rs, initiate_contact",
            an_unload_of_nothing_is_ignored => "Linux, drivers/hv/channel_mgmt.c, vmbus_initiate_unload",
            every_version_can_be_had_in_turn => "Linux, drivers/hv/connection.c, vmbus_versions",
            devices_are_the_same_at_every_version => "Linux, drivers/hv/channel_mgmt.c, vmbus_onoffer",
        ]);
        $callback!(Channels, hostile_channels: [
            channels_that_do_not_exist_do_not_open => "Linux, drivers/hv/channel.c, __vmbus_open",
            a_channel_does_not_open_without_memory => "Linux, drivers/hv/channel.c, __vmbus_open",
            an_open_channel_does_not_open_again => "OpenVMM, vmbus_server/src/channels.rs, handle_open_channel",
            rings_must_lie_within_their_memory => "OpenVMM, vmbus_channel/src/gpadl_ring.rs",
            a_channel_does_not_open_for_a_processor_that_is_not_there => "Linux, include/linux/hyperv.h, struct vmbus_channel_open_channel",
            memory_of_one_channel_is_no_other_channels => "OpenVMM, vmbus_server/src/channels.rs, handle_open_channel",
            closing_what_is_not_open_does_nothing => "OpenVMM, vmbus_server/src/channels.rs, handle_close_channel",
            a_channel_that_was_closed_twice_opens_again => "Linux, drivers/hv/channel.c, vmbus_close_internal",
            signals_of_closed_channels_do_not_move => "Linux, drivers/hv/channel.c, vmbus_send_modifychannel",
            rings_of_two_channels_do_not_overlap => "Linux, drivers/hv/channel.c, vmbus_alloc_ring",
        ]);
        $callback!(Gpadls, hostile_gpadls: [
            a_gpadl_without_ranges_is_refused => "Linux, drivers/hv/channel.c, create_gpadl_header",
            a_range_without_bytes_is_refused => "Linux, drivers/hv/channel.c, create_gpadl_header",
            a_list_shorter_than_its_ranges_is_refused => "Linux, drivers/hv/channel.c, create_gpadl_header",
            a_range_longer_than_its_pages_is_refused => "Linux, drivers/hv/channel.c, create_gpadl_header",
            an_offset_beyond_the_first_page_is_refused => "Linux, drivers/hv/channel.c, create_gpadl_header",
            pages_that_are_no_memory_are_refused => "Linux, drivers/hv/channel.c, create_gpadl_header",
            a_gpadl_needs_a_number_and_a_channel => "Linux, drivers/hv/channel.c, vmbus_gpadl handles",
            a_number_in_use_is_refused => "OpenVMM, vmbus_server/src/channels.rs, handle_gpadl_header",
            a_range_may_begin_and_end_within_pages => "Linux, include/linux/hyperv.h, struct gpa_range",
            a_gpadl_may_have_several_ranges => "Linux, include/linux/hyperv.h, struct vmbus_channel_gpadl_header",
            a_list_may_come_in_pieces_of_any_size => "Linux, include/linux/hyperv.h, struct vmbus_channel_gpadl_body",
            a_body_without_a_header_is_ignored => "OpenVMM, vmbus_server/src/channels.rs, handle_gpadl_body",
            a_teardown_of_nothing_is_ignored => "Linux, drivers/hv/channel.c, vmbus_teardown_gpadl",
            lists_that_are_never_ended_are_forgotten => "OpenVMM, vmbus_server/src/channels.rs, GpadlState::InProgress",
            a_number_can_be_used_again => "Linux, drivers/hv/channel.c, vmbus_teardown_gpadl",
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
