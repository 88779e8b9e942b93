//! Work that a guest does between marks, as it tells of it: the kernel's job `io-bench`, and the scripts inside Linux
//! (`make bench`, `make compare`).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::events::PREFIX;

/// A piece of work between two marks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Work {
    /// The driver.
    pub path: String,
    /// `read`, `write`, `send` or `receive`; `nothing` for what marks cost themselves.
    pub work: String,
    /// Requests at a time; 0: as many as there is room for.
    pub depth: u32,
    /// How often.
    pub operations: u64,
    /// Bytes of each.
    pub bytes: u64,
    /// By the guest's clock, in 100 ns.
    pub elapsed_100ns: u64,
}

/// All that a guest says that it did: the kernel's events `io`, or lines of a script's.
pub fn works(text: &str) -> Vec<Work> {
    text.lines().filter_map(work).collect()
}

/// What a line says that was done.
pub fn work(line: &str) -> Option<Work> {
    event(line).or_else(|| words(line))
}

/// The kernel's event `io`.
fn event<W: DeserializeOwned>(line: &str) -> Option<W> {
    let json: serde_json::Value =
        serde_json::from_str(line.trim_end().strip_prefix(PREFIX)?).ok()?;
    (json.get("event")? == "io").then(|| serde_json::from_value(json).ok())?
}

/// `IO storvsc read 32 2000 4096 1234567`.
fn words(line: &str) -> Option<Work> {
    let mut words = line.trim().strip_prefix("IO ")?.split_whitespace();
    let (path, work) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut number = || words.next()?.parse::<u64>().ok();
    Some(Work {
        path,
        work,
        depth: number()?.try_into().ok()?,
        operations: number()?,
        bytes: number()?,
        elapsed_100ns: number()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_guests_words_are_understood_and_noise_is_not() {
        let text = "noise\n@enl {\"event\":\"end\",\"code\":0}\nIO read x\r\nIO storvsc read 32 10 4096 77\r\n\
                    @enl {\"event\":\"io\",\"path\":\"netvsc\",\"work\":\"send\",\"depth\":0,\"operations\":5,\"bytes\":1514,\"elapsed_100ns\":9}\n";
        let works = works(text);
        assert_eq!(works.len(), 2);
        let numbers = |work: &Work| (work.depth, work.operations, work.bytes, work.elapsed_100ns);
        assert_eq!((works[0].path.as_str(), works[0].work.as_str()), ("storvsc", "read"));
        assert_eq!(numbers(&works[0]), (32, 10, 4096, 77));
        assert_eq!((works[1].path.as_str(), works[1].work.as_str()), ("netvsc", "send"));
        assert_eq!(numbers(&works[1]), (0, 5, 1514, 9));
    }
}
