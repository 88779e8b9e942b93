//! Commands as requests.

use serde_json::json;

use super::super::components::DEFAULT_SECONDS;
use super::super::protocol::{MACHINE, Request};
use super::{DiskWhat, KvpWhat, Link, NetWhat, ShutdownArgs, What};
use crate::vsp::ic::shutdown::ShutdownKind;

impl What {
    /// The request, for a guest that has so many seconds.
    pub(super) fn request(&self, seconds: u32) -> Request {
        match self {
            Self::Status => Request::new(MACHINE, "status"),
            Self::Heartbeat => Request::new("heartbeat", "get"),
            Self::Shutdown(shutdown) => shutdown.request().with("seconds", seconds),
            Self::Kvp(kvp) => kvp.request().with("seconds", seconds),
            Self::Disk(disk) => disk.request(),
            Self::Net(net) => net.request(),
        }
    }
}

impl ShutdownArgs {
    fn request(&self) -> Request {
        let kind = match (self.reboot, self.hibernate) {
            (true, _) => ShutdownKind::Restart,
            (_, true) => ShutdownKind::Hibernate,
            _ => ShutdownKind::PowerOff,
        };
        let request = Request::new("shutdown", "request");
        request.with("kind", json!(kind)).with("force", self.force)
    }
}

impl KvpWhat {
    fn request(&self) -> Request {
        match self {
            Self::Get { key, pool } => {
                let request = Request::new("kvp", "get").with("key", key.as_str());
                match pool {
                    Some(pool) => request.with("pool", json!(pool)),
                    None => request,
                }
            }
            Self::Set { key, value, pool } => Request::new("kvp", "set")
                .with("key", key.as_str())
                .with("value", value.as_str())
                .with("pool", json!(pool)),
            Self::Delete { key, pool } => {
                Request::new("kvp", "delete").with("key", key.as_str()).with("pool", json!(pool))
            }
            Self::List { pool } => Request::new("kvp", "list").with("pool", json!(pool)),
        }
    }
}

impl DiskWhat {
    fn request(&self) -> Request {
        match self {
            Self::List => Request::new("disk", "list"),
            Self::Add { disk } => Request::new("disk", "add").with("disk", disk.as_str()),
            Self::Remove { name } => Request::new("disk", "remove").with("name", name.as_str()),
            Self::Resize { name, size } => Request::new("disk", "resize")
                .with("name", name.as_str())
                .with("size", size.as_str()),
        }
    }
}

impl NetWhat {
    fn request(&self) -> Request {
        match self {
            Self::List => Request::new("net", "list"),
            Self::Link { name, state } => Request::new("net", "link")
                .with("name", name.as_str())
                .with("up", *state == Link::Up),
        }
    }
}

const _: () = assert!(DEFAULT_SECONDS == 10, "what the help of --timeout says");
