use std::time::Duration;

use vm_memory::{Bytes, GuestAddress};
use vmbus_ring::GpaRange;

use super::driver::{Driver, packet_message};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn frames_are_sent_from_guest_memory_and_from_sections() {
    let mut driver = Driver::ready(1);
    let direct = driver.send_direct(0, &packet_message(&[1; 1514]));
    driver.expect_completion(direct, 1);
    assert_eq!(driver.peer.receive(SOON), Some(vec![1; 1514]));
    let both = [packet_message(&[2; 60]), packet_message(&[3; 100])].concat();
    let section = driver.send_section(1, &both);
    driver.expect_completion(section, 1);
    assert_eq!(driver.peer.receive(SOON), Some(vec![2; 60]));
    assert_eq!(driver.peer.receive(SOON), Some(vec![3; 100]));
    let counts = driver.card.counts();
    assert_eq!((counts.tx_frames, counts.tx_packets, counts.tx_bytes), (3, 2, 1674));
}

#[test]
fn a_message_may_begin_in_a_section_and_go_on_in_guest_memory() {
    let mut driver = Driver::ready(1);
    // Linux's partial copies: a whole message and the next one's head in the section, its frame in two ranges.
    let (first, second) = (packet_message(&[4; 60]), packet_message(&[5; 300]));
    let section = [&first[..], &second[..44]].concat();
    driver
        .guest
        .memory
        .write_slice(&section, GuestAddress(driver.send_pages[0] * 4096 + 2 * 6144))
        .unwrap();
    let pages = driver.guest.pages(2);
    for page in &pages {
        driver.guest.memory.write_slice(&[5; 200], GuestAddress(page * 4096 + 100)).unwrap();
    }
    let range = |byte_count, index: usize| GpaRange {
        byte_count,
        byte_offset: 100,
        pages: &pages[index..=index],
    };
    let sent = driver.send_ranges(0, 2, section.len() as u32, &[range(200, 0), range(100, 1)]);
    driver.expect_completion(sent, 1);
    assert_eq!(driver.peer.receive(SOON), Some(vec![4; 60]));
    assert_eq!(driver.peer.receive(SOON), Some(vec![5; 300]));
}

#[test]
fn many_frames_come_in_few_packets_and_none_is_lost() {
    let mut driver = Driver::ready(1);
    let frame = |number: u16| {
        let mut frame = vec![0xFF; 60];
        frame[20..22].copy_from_slice(&number.to_le_bytes());
        frame
    };
    let mut sent = 0..2000;
    let mut got = 0;
    while got < 2000 {
        for number in sent.by_ref().take(100) {
            driver.peer.send(&frame(number)).unwrap();
        }
        let until = sent.start;
        for bytes in driver.frames(usize::from(until - got)) {
            assert_eq!(bytes, frame(got));
            got += 1;
        }
    }
    let counts = driver.card.counts();
    assert_eq!((counts.rx_frames, counts.rx_no_buffer), (2000, 0));
    assert!(counts.rx_packets < 2000, "{counts:?}");
}

#[test]
fn a_guest_that_does_not_complete_gets_what_fits_and_then_the_rest() {
    let mut driver = Driver::ready(1);
    for _ in 0..1000 {
        driver.peer.send(&[0xFF; 60]).unwrap();
    }
    // 64 pages are 151 parts, of which 8 are kept for answers.
    let mut taken = Vec::new();
    let mut frames = 0;
    while frames < 143 {
        let got = driver.next_packet();
        frames += got.ranges.len();
        taken.push(got.transaction);
    }
    driver.expect_silence();
    // The guest's questions are answered all the same.
    let mtu = driver.control(&[4, 28, 3, 0x0001_0106, 0, 20, 0]);
    assert_eq!(mtu.len(), 28);
    for transaction in taken {
        driver.complete(transaction);
    }
    driver.frames(1000 - 143);
    assert_eq!(driver.card.counts().rx_no_buffer, 0);
}

#[test]
fn jumbo_frames_pass_where_the_guest_asked_for_them() {
    let mut driver = Driver::open(1);
    assert_eq!(driver.call(&[1, 0x6_0000, 0x6_0000]).word(3), 1);
    driver.tell(&[125, 9014, 0, 0, 0]);
    let buffer = driver.call(&[101, driver.receive_gpadl, super::driver::RECEIVE_ID]);
    assert!(buffer.word(4) >= 9014 + 92, "{}", buffer.word(4));
    assert_eq!(driver.call(&[104, driver.send_gpadl, 0]).word(1), 1);
    driver.start();
    driver.peer.send(&[0xFF; 9014]).unwrap();
    assert_eq!(driver.frames(1), [[0xFF; 9014]]);
    let sent = driver.send_direct(0, &packet_message(&[7; 9014]));
    driver.expect_completion(sent, 1);
    assert_eq!(driver.peer.receive(SOON), Some(vec![7; 9014]));
}

#[test]
fn a_cable_that_is_out_passes_nothing() {
    let mut driver = Driver::ready(1);
    driver.card.set_link(false);
    let got = driver.next_packet();
    driver.complete(got.transaction);
    let sent = driver.send_direct(0, &packet_message(&[7; 60]));
    driver.expect_completion(sent, 1);
    driver.peer.send(&[0xFF; 60]).unwrap();
    driver.expect_silence();
    assert_eq!(driver.peer.receive(Duration::ZERO), None);
    let counts = driver.card.counts();
    assert_eq!((counts.tx_dropped, counts.rx_filtered), (1, 1));
}
