//! A TCP peer that sends and takes streams whose bytes can be told from their place.
//!
//! A client says in 24 bytes what it wants: `probe-up` or `probe-dn`, the number of bytes and the seed, little-endian. Whoever
//! takes the stream compares it, and answers with the number of bytes that were right.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::pattern::{fill, first_difference};

const UP: &[u8; 8] = b"probe-up";
const DOWN: &[u8; 8] = b"probe-dn";
const CHUNK: usize = 64 << 10;
/// A peer that says nothing for this long is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which way the stream goes, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Up,
    /// From the server.
    Down,
}

/// Serves clients, each on a thread of its own, until the process ends; tells the address first.
///
/// # Errors
///
/// The address can't be had.
pub fn serve(address: &str, tell: impl FnOnce(SocketAddr)) -> Result<()> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    tell(listener.local_addr()?);
    for client in listener.incoming() {
        let client = client.context("cannot take a client")?;
        std::thread::spawn(move || {
            if let Err(error) = answer(client) {
                eprintln!("probe: a client: {error:#}");
            }
        });
    }
    Ok(())
}

fn answer(mut client: TcpStream) -> Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let (mut word, mut bytes, mut seed) = ([0; 8], [0; 8], [0; 8]);
    client.read_exact(&mut word)?;
    client.read_exact(&mut bytes)?;
    client.read_exact(&mut seed)?;
    let (bytes, seed) = (u64::from_le_bytes(bytes), u64::from_le_bytes(seed));
    match &word {
        UP => take(&mut client, bytes, seed),
        DOWN => give(&mut client, bytes, seed),
        _ => bail!("it asks for something unknown"),
    }
}

/// Sends or takes `bytes` of the stream of `seed`, and has the other end say that all were right.
///
/// # Errors
///
/// There is no connection, it breaks, or bytes are wrong.
pub fn transfer(address: &str, direction: Direction, bytes: u64, seed: u64) -> Result<()> {
    let place = address.to_socket_addrs().ok().and_then(|mut all| all.next());
    let place = place.with_context(|| format!("{address} is no address"))?;
    let mut server = TcpStream::connect_timeout(&place, PATIENCE)
        .with_context(|| format!("cannot reach {address}"))?;
    server.set_read_timeout(Some(PATIENCE))?;
    server.set_write_timeout(Some(PATIENCE))?;
    server.write_all(if direction == Direction::Up { UP } else { DOWN })?;
    server.write_all(&bytes.to_le_bytes())?;
    server.write_all(&seed.to_le_bytes())?;
    match direction {
        Direction::Up => give(&mut server, bytes, seed),
        Direction::Down => take(&mut server, bytes, seed),
    }
}

fn give(peer: &mut TcpStream, bytes: u64, seed: u64) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut sent = 0;
    while sent < bytes {
        let part = &mut buffer[..(bytes - sent).min(CHUNK as u64) as usize];
        fill(seed, sent, part);
        peer.write_all(part).with_context(|| format!("sending after {sent} bytes"))?;
        sent += part.len() as u64;
    }
    let mut right = [0; 8];
    peer.read_exact(&mut right).context("the peer does not say what it got")?;
    match u64::from_le_bytes(right) {
        right if right == bytes => Ok(()),
        right => bail!("only {right} of {bytes} bytes arrived as they were sent"),
    }
}

fn take(peer: &mut TcpStream, bytes: u64, seed: u64) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut taken = 0;
    while taken < bytes {
        let part = &mut buffer[..(bytes - taken).min(CHUNK as u64) as usize];
        peer.read_exact(part).with_context(|| format!("receiving after {taken} bytes"))?;
        if let Some(at) = first_difference(seed, taken, part) {
            peer.write_all(&at.to_le_bytes())?;
            bail!("byte {at} is not what was sent");
        }
        taken += part.len() as u64;
    }
    Ok(peer.write_all(&taken.to_le_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn server() -> String {
        let (tell, told) = channel();
        std::thread::spawn(move || serve("127.0.0.1:0", |address| tell.send(address).unwrap()));
        told.recv().unwrap().to_string()
    }

    #[test]
    fn streams_arrive_both_ways() {
        let address = server();
        transfer(&address, Direction::Up, 300_001, 1).unwrap();
        transfer(&address, Direction::Down, 300_001, 2).unwrap();
        transfer(&address, Direction::Up, 0, 3).unwrap();
    }

    #[test]
    fn a_wrong_byte_is_noticed_by_the_one_who_takes() {
        let address = server();
        let mut liar = TcpStream::connect(address).unwrap();
        liar.write_all(UP).unwrap();
        liar.write_all(&16_u64.to_le_bytes()).unwrap();
        liar.write_all(&1_u64.to_le_bytes()).unwrap();
        let mut bytes = [0; 16];
        fill(1, 0, &mut bytes);
        bytes[9] ^= 1;
        liar.write_all(&bytes).unwrap();
        let mut right = [0; 8];
        liar.read_exact(&mut right).unwrap();
        assert_eq!(u64::from_le_bytes(right), 9);
    }
}
