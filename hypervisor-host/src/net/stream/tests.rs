use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;
use crate::net::frame::MAX_FRAME;
use crate::net::memory::{is_readable, wait_readable};

fn pair() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    (Stream::new(ours.into(), "a test".into()).unwrap(), theirs)
}

fn receive(stream: &Stream) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; 2000];
    let received = stream.receive(&mut buffer)?;
    Ok(received.map(|received| buffer[..received.length].to_vec()))
}

#[test]
fn frames_are_written_behind_their_big_endian_length() {
    let (stream, mut theirs) = pair();
    stream.send(&Frame::complete(&[7; 3])).unwrap();
    stream.send(&Frame::complete(&[8; 258])).unwrap();
    stream.flush();
    let mut bytes = [0; 4 + 3 + 4 + 258];
    theirs.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes[..7], [0, 0, 0, 3, 7, 7, 7]);
    assert_eq!(bytes[7..12], [0, 0, 1, 2, 8]);
}

#[test]
fn frames_are_put_together_from_pieces() {
    let (stream, mut theirs) = pair();
    let bytes = [&[0, 0, 0, 2, 1, 2][..], &[0, 0, 0, 0], &[0, 0, 0, 1, 3]].concat();
    let mut frames = Vec::new();
    for byte in bytes {
        theirs.write_all(&[byte]).unwrap();
        assert!(wait_readable(stream.readiness(), Duration::from_secs(5)));
        while let Some(frame) = receive(&stream).unwrap() {
            frames.push(frame);
        }
        assert!(!is_readable(stream.readiness()));
    }
    assert_eq!(frames, [vec![1, 2], vec![], vec![3]]);
}

#[test]
fn a_frame_that_does_not_fit_is_left_out() {
    let (stream, mut theirs) = pair();
    theirs.write_all(&3000_u32.to_be_bytes()).unwrap();
    theirs.write_all(&[1; 3000]).unwrap();
    theirs.write_all(&[0, 0, 0, 1, 9]).unwrap();
    assert_eq!(receive(&stream).unwrap(), Some(vec![9]));
}

#[test]
fn an_absurd_length_ends_the_stream() {
    let (stream, mut theirs) = pair();
    theirs.write_all(&(MAX_FRAME as u32 + 1).to_be_bytes()).unwrap();
    assert!(receive(&stream).is_err());
    assert!(!stream.link_up() && !is_readable(stream.readiness()));
    assert_eq!(stream.send(&Frame::complete(&[1])), Err(SendError::Down));
}

#[test]
fn the_other_ends_going_is_noticed() {
    let (stream, theirs) = pair();
    drop(theirs);
    assert!(wait_readable(stream.readiness(), Duration::from_secs(5)));
    assert!(receive(&stream).is_err());
    assert!(!stream.link_up());
}

#[test]
fn who_receives_is_told_of_an_end_that_the_sender_found_first() {
    let (stream, theirs) = pair();
    drop(theirs);
    stream.send(&Frame::complete(&[1])).unwrap();
    stream.flush();
    assert_eq!(stream.send(&Frame::complete(&[1])), Err(SendError::Down));
    assert!(is_readable(stream.readiness()));
    assert!(receive(&stream).is_err());
    assert!(!is_readable(stream.readiness()));
}

#[test]
fn a_slow_reader_costs_frames_and_nothing_else() {
    let (stream, mut theirs) = pair();
    let frame = [5; 1500];
    let mut taken = 0_usize;
    while stream.send(&Frame::complete(&frame)).is_ok() {
        taken += 1;
        stream.flush();
    }
    assert_eq!(stream.send(&Frame::complete(&frame)), Err(SendError::Full));
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; taken * 1504];
        theirs.read_exact(&mut all).unwrap();
        let good = |chunk: &[u8]| chunk[..4] == [0, 0, 5, 0xDC] && chunk[4..] == [5; 1500];
        (all.chunks(1504).all(good), theirs)
    });
    // Room is told of as readiness; whoever is told calls `receive`.
    while !reader.is_finished() {
        wait_readable(stream.readiness(), Duration::from_millis(20));
        assert_eq!(receive(&stream).unwrap(), None);
    }
    assert!(reader.join().unwrap().0);
}

#[test]
fn addresses_are_told_apart() {
    let parse = |text: &str| text.parse::<StreamAddress>();
    assert_eq!(parse("localhost:99"), Ok(StreamAddress::Tcp("localhost:99".into())));
    assert_eq!(parse("[::1]:99"), Ok(StreamAddress::Tcp("[::1]:99".into())));
    assert_eq!(parse("/a/b:1"), Ok(StreamAddress::Unix("/a/b:1".into())));
    assert_eq!(parse("sock"), Ok(StreamAddress::Unix("sock".into())));
    for text in ["", "host:", "host:0", "host:65536", "host:x"] {
        assert_eq!(parse(text), Err(()), "{text}");
    }
    let error = Stream::connect(&StreamAddress::Unix("/nowhere/at/all".into()));
    let text = error.map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("/nowhere/at/all") && text.contains("; start"), "{text}");
}
