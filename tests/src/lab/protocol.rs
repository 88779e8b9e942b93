//! What passes between the runner and the lab's agent: one JSON object on each line.
//!
//! The lines go over a virtio-serial port of their own, so nothing the lab's kernel prints can come
//! between them. Bytes are base64. The reader takes neither whole lines nor valid ones for granted.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::job::{Exit, Job, Stream};

/// Name of the virtio-serial port in the lab.
pub const PORT_NAME: &str = "enlighten";
/// Most bytes of output or of a file in one message.
pub const CHUNK_BYTES: usize = 32 << 10;
/// A longer line is garbage: a chunk in base64 and its frame are well below.
const MAX_LINE_BYTES: usize = 256 << 10;

/// From the runner to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Run a job; its number comes back in each message about it.
    Run {
        /// The job's number.
        id: usize,
        /// What to run.
        job: Job,
    },
}

/// From the agent to the runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// The agent is ready.
    Hello {
        /// Release of the lab's kernel.
        kernel: String,
        /// Processors the lab has.
        cpus: usize,
        /// Whether `/dev/kvm` is there; else what went wrong.
        kvm: Result<(), String>,
    },
    /// The lab responds; sent every [`BEAT_SECONDS`] of lab time.
    Beat,
    /// A job printed something.
    Output {
        /// The job's number.
        id: usize,
        /// Which stream.
        stream: Stream,
        /// What it printed.
        #[serde(with = "base64_bytes")]
        data: Vec<u8>,
    },
    /// A piece of a collected file; pieces come in order.
    File {
        /// The job's number.
        id: usize,
        /// The file, as the job named it.
        path: String,
        /// The next bytes of it.
        #[serde(with = "base64_bytes")]
        data: Vec<u8>,
    },
    /// A job ended; the last message about it.
    Done {
        /// The job's number.
        id: usize,
        /// How it ended.
        exit: Exit,
        /// How long it ran, in microseconds of lab time.
        micros: u64,
        /// Bytes of output that were not sent.
        dropped_bytes: u64,
    },
}

/// Lab time between two beats.
pub const BEAT_SECONDS: u64 = 2;

/// One message as a line.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Serializing these types cannot fail: no maps with odd keys, no failing `Serialize`.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Puts messages together from whatever pieces arrive.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    overlong: bool,
    garbage_lines: u64,
}

impl Decoder {
    /// Takes the next bytes and returns the messages that they complete.
    pub fn push<T: DeserializeOwned>(&mut self, bytes: &[u8]) -> Vec<T> {
        let mut messages = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, ends) = match piece.split_last() {
                Some((b'\n', rest)) => (rest, true),
                _ => (piece, false),
            };
            self.extend(piece);
            if ends {
                messages.extend(self.finish());
            }
        }
        messages
    }

    /// Lines so far that were no message.
    pub fn garbage_lines(&self) -> u64 {
        self.garbage_lines
    }

    fn extend(&mut self, piece: &[u8]) {
        if self.line.len() + piece.len() > MAX_LINE_BYTES {
            self.overlong = true;
            self.line.clear();
        }
        if !self.overlong {
            self.line.extend_from_slice(piece);
        }
    }

    fn finish<T: DeserializeOwned>(&mut self) -> Option<T> {
        let line = std::mem::take(&mut self.line);
        let message = if std::mem::take(&mut self.overlong) {
            None
        } else {
            serde_json::from_slice(&line).ok()
        };
        if message.is_none() && !line.trim_ascii().is_empty() {
            self.garbage_lines += 1;
        }
        message
    }
}

/// Bytes as base64 text.
mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(data: &[u8]) -> Message {
        Message::Output { id: 3, stream: Stream::Stderr, data: data.to_vec() }
    }

    #[test]
    fn a_message_survives_the_wire_byte_by_byte() {
        let message = output(b"a\nb\0\xff");
        let mut decoder = Decoder::default();
        let mut got = Vec::new();
        for byte in encode(&message) {
            got.extend(decoder.push::<Message>(&[byte]));
        }
        assert_eq!(got, [message]);
    }

    #[test]
    fn the_wire_format_is_a_json_line_with_base64() {
        // "hi" is "aGk=" in RFC 4648.
        let line = br#"{"Output":{"id":3,"stream":"Stderr","data":"aGk="}}"#;
        assert_eq!(encode(&output(b"hi")), [&line[..], b"\n"].concat());
        assert_eq!(Decoder::default().push::<Message>(&[&line[..], b"\r\n"].concat()).len(), 1);
    }

    #[test]
    fn garbage_between_messages_costs_only_its_own_line() {
        let mut stream = b"\xfe\xff{\"Beat\nboot noise\n".to_vec();
        stream.extend(encode(&Message::Beat));
        stream.extend(b"{\"Output\":{\"id\":0,\"stream\":\"Stdout\",\"data\":\"!!\"}}\n\n");
        stream.extend(encode(&Message::Beat));
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push::<Message>(&stream), [Message::Beat, Message::Beat]);
        assert_eq!(decoder.garbage_lines(), 3);
    }

    #[test]
    fn an_endless_line_is_dropped_and_the_next_one_read() {
        let mut decoder = Decoder::default();
        for _ in 0..100 {
            assert!(decoder.push::<Message>(&[b'x'; 10_000]).is_empty());
            assert!(decoder.line.len() <= MAX_LINE_BYTES);
        }
        assert!(decoder.push::<Message>(b"\n").is_empty());
        assert_eq!(decoder.push::<Message>(&encode(&Message::Beat)), [Message::Beat]);
    }

    #[test]
    fn a_partial_line_waits_for_its_rest() {
        let line = encode(&Message::Beat);
        let mut decoder = Decoder::default();
        assert!(decoder.push::<Message>(&line[..4]).is_empty());
        assert_eq!(decoder.push::<Message>(&line[4..]), [Message::Beat]);
    }
}
