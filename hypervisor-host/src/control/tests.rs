//! The socket, its clients, and requests that make no sense.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, ClientError};
use super::machine::{HasEnding, MachineFacility};
use super::protocol::{Answer, MOST_LINE_BYTES, Request, handle};
use super::server::MOST_CLIENTS;
use super::*;
use crate::outcome::{Ending, Outcome, Reason};

/// A path that nobody else has; removed at the end of a test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("enl-control-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Says what it is told; `hang` takes as long as `release` is kept.
struct Echo {
    release: std::sync::Mutex<mpsc::Receiver<()>>,
}

impl Facility for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn verbs(&self) -> &'static [&'static str] {
        &["say", "fail", "hang"]
    }

    fn call(&self, verb: &str, arguments: Arguments) -> Result<Value, Failure> {
        match verb {
            "say" => Ok(Value::Object(arguments.0)),
            "hang" => {
                let _ = crate::stats::lock(&self.release).recv();
                Ok(json!("released"))
            }
            _ => Err(Failure::failed("cannot say it: no voice; try again")),
        }
    }

    fn status(&self) -> Value {
        json!("well")
    }
}

struct TestMachine(Ending);

impl HasEnding for TestMachine {
    fn ending(&self) -> &Ending {
        &self.0
    }
}

struct Running {
    server: Option<ControlServer>,
    machine: Arc<TestMachine>,
    release: mpsc::Sender<()>,
    place: Place,
}

fn facilities() -> (Facilities, Arc<TestMachine>, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let machine = Arc::new(TestMachine(Ending::new().unwrap()));
    let facilities: Facilities = vec![
        Arc::new(MachineFacility::new(machine.clone(), json!({"vps": 2}))),
        Arc::new(Echo { release: released.into() }),
    ];
    (facilities, machine, release)
}

fn run() -> Running {
    let place = Place::new();
    let (facilities, machine, release) = facilities();
    let server = ControlSocket::bind(&place.0).unwrap().serve(facilities).unwrap();
    Running { server: Some(server), machine, release, place }
}

fn say(text: &str) -> Request {
    Request::new("echo", "say").with("text", text)
}

#[test]
fn requests_are_answered_in_turn_and_clients_at_the_same_time() {
    let running = run();
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(&running.place.0).unwrap()).collect();
    for text in ["a", "b", "\n\"ü🎉"] {
        for client in &mut clients {
            assert_eq!(client.ask(&say(text)).unwrap(), Ok(json!({"text": text})));
        }
    }
    let failure = clients[0].ask(&Request::new("echo", "fail")).unwrap().unwrap_err();
    assert_eq!(failure, Failure::failed("cannot say it: no voice; try again"));
    let status = clients[1].ask(&Request::new("machine", "status")).unwrap();
    assert_eq!(status, Ok(json!({"machine": {"vps": 2, "ended": null}, "echo": "well"})));
}

#[test]
fn one_slow_request_keeps_no_other_client_waiting() {
    let running = run();
    let mut slow = BufReader::new(UnixStream::connect(&running.place.0).unwrap());
    slow.get_mut().write_all(b"{\"on\":\"echo\",\"do\":\"hang\"}\n").unwrap();
    let mut quick = Client::connect(&running.place.0).unwrap();
    assert!(quick.ask(&say("x")).unwrap().is_ok());
    running.release.send(()).unwrap();
    let mut line = String::new();
    slow.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"ok\":\"released\"}\n");
}

#[test]
fn only_the_user_may_connect_and_nothing_is_left_behind() {
    let mut running = run();
    let mode = std::fs::metadata(&running.place.0).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = Client::connect(&running.place.0).unwrap();
    client.ask(&say("x")).unwrap().unwrap();
    running.server = None;
    assert!(!running.place.0.exists());
    assert!(matches!(client.ask(&say("x")), Err(ClientError::Talk { .. })));
    assert!(matches!(Client::connect(&running.place.0), Err(ClientError::Connect { .. })));
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let running = run();
    let error = ControlSocket::bind(&running.place.0).unwrap_err();
    assert!(matches!(error, SocketError::InUse(_)), "{error}");
    assert!(Client::connect(&running.place.0).is_ok(), "the live one still answers");
    let stale = Place::new();
    drop(UnixListener::bind(&stale.0).unwrap());
    assert!(stale.0.exists());
    let socket = ControlSocket::bind(&stale.0).unwrap();
    assert!(UnixStream::connect(socket.path()).is_ok());
}

#[test]
fn other_files_are_left_alone() {
    let file = Place::new();
    std::fs::write(&file.0, "mine").unwrap();
    let error = ControlSocket::bind(&file.0).unwrap_err().to_string();
    assert!(error.contains("something else"), "{error}");
    assert_eq!(std::fs::read_to_string(&file.0).unwrap(), "mine");
    let long = std::env::temp_dir().join("x".repeat(120));
    let error = ControlSocket::bind(&long).unwrap_err().to_string();
    assert!(error.contains("107 bytes"), "{error}");
    let nowhere = file.0.join("below");
    assert!(matches!(ControlSocket::bind(&nowhere), Err(SocketError::System { .. })));
}

#[test]
fn a_socket_that_another_machine_has_taken_over_is_not_removed() {
    let place = Place::new();
    let first = ControlSocket::bind(&place.0).unwrap();
    std::fs::remove_file(&place.0).unwrap();
    let second = ControlSocket::bind(&place.0).unwrap();
    drop(first);
    assert!(UnixStream::connect(second.path()).is_ok());
}

#[test]
fn lines_that_are_no_requests_are_refused_and_the_client_goes_on() {
    let running = run();
    let mut lines = BufReader::new(UnixStream::connect(&running.place.0).unwrap());
    for line in [
        "",
        "hello",
        "[]",
        "{\"on\":\"echo\"}",
        "{\"on\":\"echo\",\"do\":7}",
        "{\"on\":\"echo\",\"do\":\"sing\"}",
        "{\"on\":\"disk\",\"do\":\"add\"}",
        "{\"on\":\"machine\",\"do\":\"wait\"}",
        "{\"on\":\"machine\",\"do\":\"wait\",\"seconds\":-1}",
        "{\"on\":\"machine\",\"do\":\"wait\",\"seconds\":1,\"more\":1}",
        "{\"on\":\"machine\",\"do\":\"status\",\"more\":1}",
    ] {
        lines.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        lines.read_line(&mut answer).unwrap();
        let answer: Answer = serde_json::from_str(&answer).unwrap();
        let failure = Result::from(answer).unwrap_err();
        assert_eq!(failure.kind, FailureKind::BadRequest, "{line}: {failure}");
    }
    lines.get_mut().write_all(b"\xFF\xFE\n").unwrap();
    let mut answer = String::new();
    lines.read_line(&mut answer).unwrap();
    assert!(answer.contains("bad-request"), "{answer}");
}

#[test]
fn a_line_without_end_ends_the_client() {
    let running = run();
    let stream = UnixStream::connect(&running.place.0).unwrap();
    let mut lines = BufReader::new(stream);
    // All of it at once: the server need not read what comes behind.
    lines.get_mut().write_all(&vec![b' '; MOST_LINE_BYTES]).unwrap();
    let mut answer = String::new();
    lines.read_line(&mut answer).unwrap();
    assert!(answer.contains("65536 bytes at most"), "{answer}");
    assert_eq!(lines.read_line(&mut answer).unwrap(), 0, "and then the end");
}

#[test]
fn a_last_line_needs_no_end() {
    let running = run();
    let mut stream = UnixStream::connect(&running.place.0).unwrap();
    stream.write_all(b"{\"on\":\"echo\",\"do\":\"say\"}").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    assert_eq!(answer, "{\"ok\":{}}\n");
}

#[test]
fn there_are_not_too_many_clients() {
    let running = run();
    let mut clients: Vec<_> =
        (0..MOST_CLIENTS).map(|_| Client::connect(&running.place.0).unwrap()).collect();
    for client in &mut clients {
        client.ask(&say("x")).unwrap().unwrap();
    }
    let one_more = UnixStream::connect(&running.place.0).unwrap();
    let answer = std::io::read_to_string(one_more).unwrap();
    assert!(answer.contains("16 clients at a time"), "{answer}");
    drop(clients.pop());
    let deadline = Instant::now() + Duration::from_secs(10);
    while Client::connect(&running.place.0).unwrap().ask(&say("x")).is_err() {
        assert!(Instant::now() < deadline, "the place of the one that is gone is free");
    }
}

#[test]
fn the_end_of_the_machine_can_be_waited_for() {
    let mut running = run();
    let mut client = Client::connect(&running.place.0).unwrap();
    let wait = |seconds: u32| Request::new("machine", "wait").with("seconds", seconds);
    assert_eq!(client.ask(&wait(0)).unwrap(), Ok(json!({"ended": null})));
    let machine = running.machine.clone();
    let waiter = std::thread::spawn(move || client.ask(&wait(60)).unwrap().unwrap());
    std::thread::sleep(Duration::from_millis(20));
    machine.0.set(Outcome::guest(Reason::PowerOff, 0));
    // The machine's end does not take away the answer.
    running.server = None;
    let ended = json!({"ended": {"reason": "power-off", "code": 0, "detail": null}});
    assert_eq!(waiter.join().unwrap(), ended);
}

#[test]
fn the_end_of_the_machine_does_not_wait_for_ever() {
    let mut running = run();
    let mut stream = UnixStream::connect(&running.place.0).unwrap();
    stream.write_all(b"{\"on\":\"echo\",\"do\":\"hang\"}\n").unwrap();
    let mut other = Client::connect(&running.place.0).unwrap();
    other.ask(&say("x")).unwrap().unwrap();
    let begun = Instant::now();
    running.server = None;
    assert!(begun.elapsed() < Duration::from_secs(4));
}

proptest::proptest! {
    /// Whatever a line is, there is an answer that is a line.
    #[test]
    fn every_line_has_an_answer(line: Vec<u8>, on in "[a-z]{0,8}|machine|echo", verb in ".{0,6}|status|wait|say") {
        let (facilities, _, release) = facilities();
        drop(release);
        let request = json!({"on": on, "do": verb, "text": String::from_utf8_lossy(&line)});
        for line in [line.as_slice(), request.to_string().as_bytes()] {
            let answer = serde_json::to_string(&handle(line, &facilities)).unwrap();
            assert!(!answer.contains('\n') && answer.starts_with('{'));
        }
    }
}
