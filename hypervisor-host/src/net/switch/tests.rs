use std::time::{Duration, Instant};

use super::*;
use crate::net::memory::wait_readable;

/// A frame between cards of these numbers; 255 is everybody.
fn frame(to: u8, from: u8, payload: u8) -> Vec<u8> {
    let mut frame = vec![payload; 60];
    frame[..6].copy_from_slice(&if to == 255 { [255; 6] } else { [2, 0, 0, 0, 0, to] });
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, from]);
    frame
}

fn next(port: &SwitchPort) -> Option<u8> {
    let mut buffer = [0; 100];
    let received = port.receive(&mut buffer).unwrap()?;
    assert_eq!(received.length, 60);
    Some(buffer[59])
}

fn send(port: &SwitchPort, frame: &[u8]) {
    port.send(&Frame::complete(frame)).unwrap();
    port.flush();
}

#[test]
fn unknown_addresses_and_broadcasts_go_to_all_others() {
    let switch = Switch::private();
    let ports = [(); 3].map(|()| switch.plug_in().unwrap());
    send(&ports[0], &frame(1, 0, 7));
    send(&ports[0], &frame(255, 0, 8));
    assert_eq!((next(&ports[0]), next(&ports[1]), next(&ports[2])), (None, Some(7), Some(7)));
    assert_eq!((next(&ports[1]), next(&ports[2])), (Some(8), Some(8)));
}

#[test]
fn known_addresses_get_their_frames_alone() {
    let switch = Switch::private();
    let ports = [(); 3].map(|()| switch.plug_in().unwrap());
    send(&ports[1], &frame(255, 1, 1));
    assert_eq!((next(&ports[0]), next(&ports[2])), (Some(1), Some(1)));
    send(&ports[0], &frame(1, 0, 9));
    assert_eq!((next(&ports[1]), next(&ports[2])), (Some(9), None));
    // The card moves to another port, and goes.
    send(&ports[2], &frame(255, 1, 2));
    assert_eq!((next(&ports[0]), next(&ports[1])), (Some(2), Some(2)));
    send(&ports[0], &frame(1, 0, 3));
    assert_eq!((next(&ports[1]), next(&ports[2])), (None, Some(3)));
    let [first, second, third] = ports;
    drop(third);
    send(&first, &frame(1, 0, 4));
    assert_eq!(next(&second), Some(4));
}

#[test]
fn a_card_that_does_not_read_costs_only_its_own_frames() {
    let switch = Switch::private();
    let ports = [(); 3].map(|()| switch.plug_in().unwrap());
    send(&ports[1], &frame(255, 1, 0));
    let full = (0..5000).find(|_| ports[0].send(&Frame::complete(&frame(1, 0, 1))).is_err());
    assert!(full.is_some_and(|count| count > 500));
    assert_eq!(next(&ports[2]), Some(0));
    send(&ports[0], &frame(255, 0, 5));
    assert_eq!(next(&ports[2]), Some(5));
    assert_eq!(ports[0].send(&Frame::complete(&[0; 11])), Err(SendError::Refused));
}

fn folder(test: &str) -> PathBuf {
    std::env::temp_dir().join(format!("enlighten-switch-{test}-{}", std::process::id()))
}

fn shared(folder: &std::path::Path) -> Arc<Switch> {
    Switch::at(Place::within(folder.into(), "lan").unwrap()).unwrap()
}

/// Sends broadcasts from one port until the other has one of them.
fn reaches(from: &SwitchPort, to: &SwitchPort, mark: u8) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        send(from, &frame(255, 1, mark));
        wait_readable(to.readiness(), Duration::from_millis(20));
        while let Some(payload) = next(to) {
            if payload == mark {
                return;
            }
        }
    }
    panic!("nothing came through");
}

#[test]
fn switches_of_the_same_name_are_one_and_survive_the_first_ones_end() {
    let folder = folder("star");
    let first = shared(&folder);
    let port_of_first = first.plug_in().unwrap();
    let others = [shared(&folder), shared(&folder)];
    let ports = others.each_ref().map(|switch| switch.plug_in().unwrap());
    reaches(&ports[0], &ports[1], 1);
    reaches(&ports[1], &port_of_first, 2);
    reaches(&port_of_first, &ports[0], 3);
    drop(port_of_first);
    drop(first);
    reaches(&ports[0], &ports[1], 4);
    reaches(&ports[1], &ports[0], 5);
    drop(ports);
    drop(others);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder("open");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Place::within(folder.clone(), "lan").map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("XDG_RUNTIME_DIR"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}
