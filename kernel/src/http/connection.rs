//! A connection: requests in, responses out, nothing kept beyond one head and one open file.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Deref;

use super::request::{self, Method, Request};
use super::response::{self, Head, Part};
use super::{MAX_HEAD_BYTES, Status};
use crate::files::FileError;
use crate::files::cache::Chunk;
use crate::files::volume::{File, Volume};

/// Most bytes read from a file at once.
const PIECE_BYTES: usize = 16 << 10;
const HTML: &str = "text/html; charset=utf-8";
/// What a folder is shown by, if it has it.
const INDEX: [&str; 2] = ["index.html", "index.htm"];

/// What [`Connection::fill`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filled {
    /// Bytes to send.
    pub bytes: usize,
    /// What must be read from the disk before it goes on.
    pub wants: Option<Chunk>,
    /// A file was read: what follows it on the disk will be wanted.
    pub reads_on: bool,
}

struct Body {
    file: File,
    next: u32,
    left: u32,
}

/// One connection.
#[derive(Default)]
pub struct Connection {
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    body: Option<Body>,
    /// A request was taken up and needs something from the disk first.
    waits: bool,
    ends: bool,
    broken: bool,
    responses: u64,
}

impl Connection {
    /// Bytes that [`Connection::receive`] takes now: never more than a head may have.
    pub fn room(&self) -> usize {
        if self.ends { usize::MAX } else { MAX_HEAD_BYTES - self.input.len() }
    }

    /// Takes what has arrived, up to [`Connection::room`] bytes. After the last request it is thrown away.
    pub fn receive(&mut self, bytes: &[u8]) {
        if !self.ends {
            let bytes = &bytes[..bytes.len().min(self.room())];
            self.input.extend_from_slice(bytes);
        }
    }

    /// Responses that were sent to their end.
    pub fn responses(&self) -> u64 {
        self.responses
    }

    /// Whether a response is under way, or will be when the disk has answered.
    pub fn is_responding(&self) -> bool {
        self.waits || self.body.is_some() || self.sent < self.output.len()
    }

    /// Whether everything was said that there is to say.
    pub fn is_over(&self) -> bool {
        self.ends && !self.is_responding()
    }

    /// Whether a file broke off in the middle, so that the peer must see no regular end.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Closes what is open, and is as new.
    pub fn reset(&mut self) {
        let input = core::mem::take(&mut self.input);
        *self = Self { input, ..Self::default() };
        self.input.clear();
    }

    /// Puts what is to be sent next into `room`.
    pub fn fill<B: Deref<Target = [u8]>>(
        &mut self,
        volume: &Volume<'_, B>,
        room: &mut [u8],
    ) -> Filled {
        let mut filled = Filled::default();
        self.waits = false;
        while filled.bytes < room.len() {
            let was_responding = self.is_responding();
            let step = self.step(volume, &mut room[filled.bytes..], &mut filled.reads_on);
            if was_responding && !self.is_responding() && !self.broken {
                self.responses += 1;
            }
            match step {
                Ok(Some(bytes)) => filled.bytes += bytes,
                Ok(None) => break,
                Err(chunk) => {
                    filled.wants = Some(chunk);
                    self.waits = true;
                    break;
                }
            }
        }
        filled
    }

    /// Bytes put into `room`, perhaps 0 though there is more to come; `None`: nothing is to be done.
    fn step<B: Deref<Target = [u8]>>(
        &mut self,
        volume: &Volume<'_, B>,
        room: &mut [u8],
        reads_on: &mut bool,
    ) -> Result<Option<usize>, Chunk> {
        if let Some(head) = self.output.get(self.sent..).filter(|head| !head.is_empty()) {
            let bytes = head.len().min(room.len());
            room[..bytes].copy_from_slice(&head[..bytes]);
            self.sent += bytes;
            return Ok(Some(bytes));
        }
        if let Some(body) = &mut self.body {
            let most = room.len().min(body.left as usize).min(PIECE_BYTES);
            match volume.read(&body.file, body.next, &mut room[..most]) {
                Ok(bytes) if bytes != 0 => {
                    *reads_on = true;
                    body.next += bytes as u32;
                    body.left -= bytes as u32;
                    if body.left == 0 {
                        self.body = None;
                    }
                    return Ok(Some(bytes));
                }
                Err(FileError::Missing(chunk)) => return Err(chunk),
                // The head has promised more.
                _ => {
                    self.body = None;
                    (self.ends, self.broken) = (true, true);
                    return Ok(None);
                }
            }
        }
        if self.ends {
            return Ok(None);
        }
        match request::parse(&self.input) {
            Ok(None) => return Ok(None),
            Ok(Some(request)) => {
                self.ends = !request.keep_alive;
                if let Err(error) = self.respond(volume, &request) {
                    self.ends = false;
                    return Err(error);
                }
                self.input.drain(..request.bytes);
            }
            Err(status) => {
                self.ends = true;
                self.input.clear();
                self.page(status, None, false);
            }
        }
        Ok(Some(0))
    }

    fn respond<B: Deref<Target = [u8]>>(
        &mut self,
        volume: &Volume<'_, B>,
        request: &Request,
    ) -> Result<(), Chunk> {
        let is_head = request.method == Method::Head;
        match find(volume, request) {
            Ok(Found::File(file, name)) => self.file(file, &name, request),
            Ok(Found::Listing(page)) => {
                let content = Some((HTML, page.len() as u64));
                self.say(Head { content, ..Head::new(Status::OK, !self.ends) }, &page, is_head);
            }
            Ok(Found::Folder(path)) => self.page(Status::MOVED_PERMANENTLY, Some(&path), is_head),
            Err(FileError::Missing(chunk)) => return Err(chunk),
            Err(FileError::NotFound) => self.page(Status::NOT_FOUND, None, is_head),
            Err(FileError::Broken) => self.page(Status::INTERNAL_SERVER_ERROR, None, is_head),
        }
        Ok(())
    }

    fn file(&mut self, file: File, name: &str, request: &Request) {
        let tag = &*format!("\"{:x}-{:x}-{:x}\"", file.modified, file.bytes, file.first_cluster());
        if request.if_none_match.contain(tag) {
            let head = Head { tag: Some(tag), ..Head::new(Status::NOT_MODIFIED, !self.ends) };
            return self.put(head.to_string());
        }
        let of = u64::from(file.bytes);
        // A range is for GET only (RFC 9110 §14.2).
        let is_get = request.method == Method::Get;
        let is_meant = request.if_range.as_deref().is_none_or(|wanted| wanted == tag);
        let range = request.range.filter(|_| is_get && is_meant);
        let (status, part) = match range.map(|range| range.resolve(of)) {
            None => (Status::OK, Part { first: 0, count: of, of }),
            Some(Some((first, count))) => (Status::PARTIAL_CONTENT, Part { first, count, of }),
            Some(None) => (Status::RANGE_NOT_SATISFIABLE, Part { first: 0, count: 0, of }),
        };
        let head = Head {
            content: Some((response::content_type(name), part.count)),
            part: Some(part),
            tag: Some(tag),
            ..Head::new(status, !self.ends)
        };
        self.put(head.to_string());
        if is_get && part.count != 0 {
            // Parts of a file whose length has 32 bits.
            self.body = Some(Body { file, next: part.first as u32, left: part.count as u32 });
        }
    }

    fn page(&mut self, status: Status, location: Option<&str>, is_head: bool) {
        let text = format!("<!DOCTYPE html><title>{status}</title><h1>{status}</h1>\n");
        let content = Some((HTML, text.len() as u64));
        self.say(Head { content, location, ..Head::new(status, !self.ends) }, &text, is_head);
    }

    fn say(&mut self, head: Head<'_>, text: &str, is_head: bool) {
        let mut all = head.to_string();
        if !is_head {
            all.push_str(text);
        }
        self.put(all);
    }

    fn put(&mut self, text: String) {
        self.output = text.into_bytes();
        self.sent = 0;
    }
}

enum Found {
    /// A file and the name that tells its type.
    File(File, String),
    /// A folder, as a page.
    Listing(String),
    /// A folder that was asked for as if it were a file: its right path, so that links in its page lead somewhere.
    Folder(String),
}

fn find<B: Deref<Target = [u8]>>(
    volume: &Volume<'_, B>,
    request: &Request,
) -> Result<Found, FileError> {
    let path = &*request.path;
    if !volume.is_folder(path)? {
        if request.is_folder {
            return Err(FileError::NotFound);
        }
        let name = path.last().cloned().unwrap_or_default();
        return Ok(Found::File(volume.open_file(path)?, name));
    }
    if !request.is_folder && !path.is_empty() {
        return Ok(Found::Folder(response::folder_path(path)));
    }
    for index in INDEX {
        let mut inside = path.to_vec();
        inside.push(index.into());
        match volume.open_file(&inside) {
            Err(FileError::NotFound) => {}
            found => return Ok(Found::File(found?, index.into())),
        }
    }
    Ok(Found::Listing(response::listing(path, &volume.list(path)?)))
}

#[cfg(test)]
mod tests;
