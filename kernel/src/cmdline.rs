//! The kernel's command line, as `docs/interfaces.md` defines it.

use core::fmt;

use log::LevelFilter;

use crate::MAX_VPS;
use crate::ide::scratch::MAX_SECTORS;

/// The locks of the spin-wait study.
pub const LOCK_NAMES: [&str; 9] = [
    "spin",
    "tas",
    "ticket",
    "mcs",
    "spin-enlightened",
    "tas-enlightened",
    "ticket-enlightened",
    "mcs-enlightened",
    "mcs-notifying",
];

/// Which console to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Console {
    /// The host's bulk console where offered, else the UART.
    Auto,
    /// COM1.
    Uart,
    /// The host's bulk console.
    Host,
}

/// In which mode to use the local APICs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apic {
    /// x2APIC where the processor has it.
    Auto,
    /// Memory-mapped registers.
    Xapic,
    /// Model-specific registers.
    X2apic,
}

/// What to do once everything is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job<'a> {
    /// Print the names of the tests.
    List,
    /// Panic, to see what a host makes of it.
    Panic,
    /// Run all tests, or those in a comma-separated list.
    Tests(Option<&'a str>),
    /// Run the conformance matrix or part of it.
    Conformance(Conformance<'a>),
    /// Run the spin-wait study with each lock of a comma-separated list, each with `@` and a number of virtual
    /// processors if it is not to be [`StudyOptions::vps`]; [`entries`] takes it apart.
    Study(&'a str),
    /// List the drives on the IDE controller, and try them; so many sectors are written in each mode of PIO.
    Ide(u32),
    /// Connect to VMBus, list what the host offers, disconnect.
    Vmbus,
    /// Read and write disks and send packets, between marks.
    IoBench(IoBench),
    /// Read, write and send at random for so many seconds, and check every byte.
    Soak(u32),
    /// Serve a disk's files over HTTP.
    Serve,
    /// Send bytes to the echo server at this IPv4 address and back, by the first DEC 21140A.
    Tulip([u8; 4]),
    /// Do each kind of work of the crate `workload`, so much of it, on 1, 2, 4… virtual processors.
    Scaling(u32),
}

/// Which cases of the conformance matrix to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conformance<'a> {
    /// Cases or facilities, comma-separated; all of the matrix if `None`.
    pub names: Option<&'a str>,
    /// Only those after this case.
    pub after: Option<&'a str>,
}

/// How to measure I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoBench {
    /// Times that each piece of work is done.
    pub operations: u32,
    /// The ways to a device to go.
    pub paths: IoPaths,
    /// All work: large blocks in sequence, short and jumbo frames, and frames that come.
    pub all: bool,
}

impl Default for IoBench {
    fn default() -> Self {
        Self { operations: 1, paths: IoPaths::SYNTHETIC, all: false }
    }
}

/// A driver, as a way to a disk or a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoPath {
    /// A disk on VMBus.
    Storvsc,
    /// A card on VMBus.
    Netvsc,
    /// A disk on an IDE controller, by the data register, with blocks of up to 16 sectors.
    IdePio,
    /// A disk on an IDE controller, by the bus master.
    IdeDma,
    /// A DEC 21140A on PCI.
    Tulip,
}

impl IoPath {
    /// In the order in which they are gone.
    pub const ALL: [Self; 5] =
        [Self::Storvsc, Self::Netvsc, Self::IdePio, Self::IdeDma, Self::Tulip];

    /// As on the command line and in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Storvsc => "storvsc",
            Self::Netvsc => "netvsc",
            Self::IdePio => "ide-pio",
            Self::IdeDma => "ide-dma",
            Self::Tulip => "tulip",
        }
    }
}

/// Some of [`IoPath::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoPaths(u8);

impl IoPaths {
    /// Those on VMBus.
    pub const SYNTHETIC: Self = Self(1 << IoPath::Storvsc as u8 | 1 << IoPath::Netvsc as u8);

    /// Whether it has this one.
    pub const fn contains(self, path: IoPath) -> bool {
        self.0 & 1 << path as u8 != 0
    }

    /// Reads names with commas between them.
    fn parse(text: &str) -> Option<Self> {
        text.split(',').try_fold(Self(0), |Self(paths), name| {
            let path = IoPath::ALL.into_iter().find(|path| path.name() == name)?;
            Some(Self(paths | 1 << path as u8))
        })
    }
}

/// The spin-wait study's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StudyOptions {
    /// Virtual processors that take part; all if `None`.
    pub vps: Option<u32>,
    /// Acquisitions by each of them, if `duration_ms` is not given.
    pub acquisitions: u64,
    /// Every processor takes the lock for this long.
    pub duration_ms: Option<u32>,
    /// Iterations of the critical section's work loop.
    pub hold: u32,
    /// Iterations of the work loop between two acquisitions.
    pub gap: u32,
}

/// How to serve files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeOptions {
    /// The server's IPv4 address.
    pub address: [u8; 4],
    /// Bits of it that name the network.
    pub prefix: u8,
    /// The router to other networks.
    pub gateway: Option<[u8; 4]>,
    /// Responses after which it ends; 0 for never.
    pub requests: u32,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { address: [10, 9, 0, 2], prefix: 24, gateway: None, requests: 0 }
    }
}

/// A command line, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options<'a> {
    /// Most detailed level printed.
    pub log: LevelFilter,
    /// Which console to use.
    pub console: Console,
    /// In which mode to use the local APICs.
    pub apic: Apic,
    /// Start no more virtual processors than this.
    pub vps: Option<u32>,
    /// Print `@enl` lines.
    pub events: bool,
    /// The virtual machine has a device compatible with QEMU's `hyperv-testdev` at port 0x3000.
    pub testdev: bool,
    /// The only version of VMBus's protocol to ask for; all of them from the newest down if `None`.
    pub vmbus_version: Option<(u16, u16)>,
    /// Seconds after which a case of the conformance matrix counts as hanging.
    pub case_limit: u32,
    /// What to do.
    pub job: Job<'a>,
    /// How to study.
    pub study: StudyOptions,
    /// How to serve.
    pub serve: ServeOptions,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            log: LevelFilter::Info,
            console: Console::Auto,
            apic: Apic::Auto,
            vps: None,
            events: false,
            testdev: false,
            vmbus_version: None,
            case_limit: 30,
            job: Job::Tests(None),
            study: StudyOptions {
                vps: None,
                acquisitions: 10_000,
                duration_ms: None,
                hold: 50,
                gap: 50,
            },
            serve: ServeOptions::default(),
        }
    }
}

/// Why a command line is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CmdlineError<'a> {
    /// No such key.
    UnknownKey(&'a str),
    /// The key needs a value.
    NoValue(&'a str),
    /// The key takes no value.
    NeedlessValue(&'a str),
    /// The value is not among those allowed.
    BadValue {
        /// Key.
        key: &'a str,
        /// Value.
        value: &'a str,
        /// What would be allowed.
        allowed: &'static str,
    },
    /// More than one job.
    TwoJobs(&'a str),
    /// This key belongs to another job, which is named second.
    OtherJob(&'a str, &'static str),
}

impl fmt::Display for CmdlineError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot use the kernel's command line: ")?;
        match self {
            Self::UnknownKey(key) => {
                write!(f, "`{key}` is not an option; docs/interfaces.md lists the options")
            }
            Self::NoValue(key) => write!(f, "`{key}` needs a value; write {key}=VALUE"),
            Self::NeedlessValue(key) => write!(f, "`{key}` takes no value; write {key} alone"),
            Self::BadValue { key, value, allowed } => {
                write!(f, "`{value}` is not a value for `{key}`; use {allowed}")
            }
            Self::TwoJobs(key) => write!(
                f,
                "`{key}` is a second job; give only one of list, test, conformance, study, scaling, vmbus, serve and tulip"
            ),
            Self::OtherJob(key, job) => write!(f, "`{key}` needs `{job}`; add it"),
        }
    }
}

/// Reads a command line. A key that comes twice counts as it stands last.
///
/// # Errors
/// [`CmdlineError`] for the first word that is wrong.
pub fn parse(line: &str) -> Result<Options<'_>, CmdlineError<'_>> {
    let mut options = Options::default();
    let (mut job, mut after) = (None, None);
    let (mut paths, mut works) = (None, None);
    for word in line.split_ascii_whitespace() {
        if let Some(names) = word.strip_prefix("io-paths=") {
            paths = Some(Pair { key: "io-paths", value: Some(names) }.paths()?);
            continue;
        }
        if let Some(name) = word.strip_prefix("io-works=") {
            works = Some(Pair { key: "io-works", value: Some(name) }.works()?);
            continue;
        }
        if let Some(name) = word.strip_prefix("after=") {
            after = Some(Pair { key: "after", value: Some(name) }.value()?);
            continue;
        }
        let new_job = parse_word(word, &mut options)?;
        if new_job.is_some() && job.is_some() {
            return Err(CmdlineError::TwoJobs(word.split('=').next().unwrap_or(word)));
        }
        job = job.or(new_job);
    }
    match (&mut job, after) {
        (_, None) => {}
        (Some(Job::Conformance(cases)), Some(_)) => cases.after = after,
        _ => return Err(CmdlineError::OtherJob("after", "conformance")),
    }
    match (&mut job, paths, works) {
        (_, None, None) => {}
        (Some(Job::IoBench(bench)), paths, works) => {
            bench.paths = paths.unwrap_or(bench.paths);
            bench.all = works.unwrap_or(bench.all);
        }
        (_, Some(_), _) => return Err(CmdlineError::OtherJob("io-paths", "io-bench")),
        (_, None, Some(_)) => return Err(CmdlineError::OtherJob("io-works", "io-bench")),
    }
    options.job = job.unwrap_or(options.job);
    Ok(options)
}

fn parse_word<'a>(
    word: &'a str,
    options: &mut Options<'a>,
) -> Result<Option<Job<'a>>, CmdlineError<'a>> {
    let (key, value) = match word.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (word, None),
    };
    if let "events" | "list" | "testdev" | "panic" | "vmbus" | "serve" = key {
        if value.is_some() {
            return Err(CmdlineError::NeedlessValue(key));
        }
        options.events |= key == "events";
        options.testdev |= key == "testdev";
        return Ok(match key {
            "list" => Some(Job::List),
            "panic" => Some(Job::Panic),
            "vmbus" => Some(Job::Vmbus),
            "serve" => Some(Job::Serve),
            _ => None,
        });
    }
    let pair = Pair { key, value };
    match key {
        "log" => options.log = pair.level()?,
        "console" => options.console = pair.console()?,
        "apic" => options.apic = pair.apic()?,
        "vps" => options.vps = Some(pair.vps()?),
        "study-vps" => options.study.vps = Some(pair.vps()?),
        "acquisitions" => {
            options.study.acquisitions = pair.number(1, 1_000_000_000, "1 to 1000000000")?;
        }
        "duration" => {
            let milliseconds = pair.number(1, 600_000, "1 to 600000 (milliseconds)")?;
            options.study.duration_ms = Some(milliseconds as u32);
        }
        "hold" => options.study.hold = pair.work()?,
        "gap" => options.study.gap = pair.work()?,
        "ip" => (options.serve.address, options.serve.prefix) = pair.address_with_prefix()?,
        "gateway" => options.serve.gateway = Some(pair.address()?),
        "serve-requests" => {
            options.serve.requests = pair.number(0, 1_000_000_000, "0 to 1000000000")? as u32;
        }
        "ide" => {
            let sectors = match value {
                Some(_) => pair.number(1, MAX_SECTORS, "1 to 592 (sectors)")?,
                None => MAX_SECTORS,
            };
            return Ok(Some(Job::Ide(sectors as u32)));
        }
        "tulip" => return Ok(Some(Job::Tulip(pair.address()?))),
        "vmbus-version" => options.vmbus_version = Some(pair.version()?),
        "case-limit" => options.case_limit = pair.number(1, 3600, "1 to 3600")? as u32,
        "conformance" if value.is_none() => {
            return Ok(Some(Job::Conformance(Conformance::default())));
        }
        "conformance" => {
            let names = Some(pair.names()?).filter(|&names| names != "all");
            return Ok(Some(Job::Conformance(Conformance { names, after: None })));
        }
        "test" => return Ok(Some(Job::Tests(Some(pair.names()?).filter(|&names| names != "all")))),
        "scaling" => {
            let amount = pair.number(1, 1_000_000, "1 to 1000000")?;
            return Ok(Some(Job::Scaling(amount as u32)));
        }
        "io-bench" => {
            let operations = pair.number(1, 1_000_000, "1 to 1000000")? as u32;
            return Ok(Some(Job::IoBench(IoBench { operations, ..IoBench::default() })));
        }
        "soak" => {
            let seconds = pair.number(1, 86_400, "1 to 86400 (seconds)")?;
            return Ok(Some(Job::Soak(seconds as u32)));
        }
        "study" => return Ok(Some(Job::Study(pair.locks()?))),
        _ => return Err(CmdlineError::UnknownKey(key)),
    }
    Ok(None)
}

struct Pair<'a> {
    key: &'a str,
    value: Option<&'a str>,
}

impl<'a> Pair<'a> {
    fn value(&self) -> Result<&'a str, CmdlineError<'a>> {
        self.value.filter(|value| !value.is_empty()).ok_or(CmdlineError::NoValue(self.key))
    }

    fn bad(&self, value: &'a str, allowed: &'static str) -> CmdlineError<'a> {
        CmdlineError::BadValue { key: self.key, value, allowed }
    }

    fn level(&self) -> Result<LevelFilter, CmdlineError<'a>> {
        let value = self.value()?;
        match value {
            "off" => Ok(LevelFilter::Off),
            "error" => Ok(LevelFilter::Error),
            "warn" => Ok(LevelFilter::Warn),
            "info" => Ok(LevelFilter::Info),
            "debug" => Ok(LevelFilter::Debug),
            "trace" => Ok(LevelFilter::Trace),
            _ => Err(self.bad(value, "off, error, warn, info, debug or trace")),
        }
    }

    fn console(&self) -> Result<Console, CmdlineError<'a>> {
        match self.value()? {
            "auto" => Ok(Console::Auto),
            "uart" => Ok(Console::Uart),
            "host" => Ok(Console::Host),
            value => Err(self.bad(value, "auto, uart or host")),
        }
    }

    fn apic(&self) -> Result<Apic, CmdlineError<'a>> {
        match self.value()? {
            "auto" => Ok(Apic::Auto),
            "xapic" => Ok(Apic::Xapic),
            "x2apic" => Ok(Apic::X2apic),
            value => Err(self.bad(value, "auto, xapic or x2apic")),
        }
    }

    fn vps(&self) -> Result<u32, CmdlineError<'a>> {
        const { assert!(MAX_VPS == 64) }
        self.number(1, MAX_VPS as u64, "1 to 64").map(|number| number as u32)
    }

    fn work(&self) -> Result<u32, CmdlineError<'a>> {
        self.number(0, 1_000_000, "0 to 1000000").map(|number| number as u32)
    }

    fn number(
        &self,
        least: u64,
        most: u64,
        allowed: &'static str,
    ) -> Result<u64, CmdlineError<'a>> {
        let value = self.value()?;
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse().ok().filter(|number| (least..=most).contains(number) && digits);
        number.ok_or(self.bad(value, allowed))
    }

    fn version(&self) -> Result<(u16, u16), CmdlineError<'a>> {
        let value = self.value()?;
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let (major, minor) = value.split_once('.').filter(|(a, b)| digits(a) && digits(b)).unzip();
        match (major.and_then(|text| text.parse().ok()), minor.and_then(|text| text.parse().ok())) {
            (Some(major), Some(minor)) => Ok((major, minor)),
            _ => Err(self.bad(value, "a version such as 5.3")),
        }
    }

    fn address(&self) -> Result<[u8; 4], CmdlineError<'a>> {
        let value = self.value()?;
        address(value).ok_or(self.bad(value, "the IPv4 address of a machine, such as 10.9.0.1"))
    }

    fn address_with_prefix(&self) -> Result<([u8; 4], u8), CmdlineError<'a>> {
        let value = self.value()?;
        let parsed = value.split_once('/').and_then(|(host, prefix)| {
            let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
            let prefix = prefix.parse().ok().filter(|bits| (1..=30).contains(bits) && digits);
            address(host).zip(prefix)
        });
        let allowed = "the IPv4 address of a machine and 1 to 30 bits, such as 10.9.0.2/24";
        parsed.ok_or(self.bad(value, allowed))
    }

    fn paths(&self) -> Result<IoPaths, CmdlineError<'a>> {
        let value = self.value()?;
        let allowed = "storvsc, netvsc, ide-pio, ide-dma and tulip, with commas between them";
        IoPaths::parse(value).ok_or(self.bad(value, allowed))
    }

    /// Whether it is all work.
    fn works(&self) -> Result<bool, CmdlineError<'a>> {
        match self.value()? {
            "few" => Ok(false),
            "all" => Ok(true),
            value => Err(self.bad(value, "few or all")),
        }
    }

    fn names(&self) -> Result<&'a str, CmdlineError<'a>> {
        let value = self.value()?;
        if value.split(',').any(str::is_empty) {
            return Err(self.bad(value, "all, or names from `list` with commas between them"));
        }
        Ok(value)
    }

    fn locks(&self) -> Result<&'a str, CmdlineError<'a>> {
        let value = self.value()?;
        match value.split(',').find(|&word| entry(word).is_none()) {
            None => Ok(value),
            Some(word) => Err(self.bad(
                word,
                "spin, tas, ticket, mcs, each alone or with -enlightened, with @VPS or not, commas between",
            )),
        }
    }
}

/// An address that one machine can have.
fn address(text: &str) -> Option<[u8; 4]> {
    let address: core::net::Ipv4Addr = text.parse().ok()?;
    let one = !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast();
    (one && !address.is_loopback()).then(|| address.octets())
}

/// A lock's name and the number of virtual processors that take part, if it was given with `@`, for each word of
/// [`Job::Study`]. Words that are no such thing are left out; [`parse`] refuses them.
pub fn entries(list: &str) -> impl Iterator<Item = (&str, Option<u32>)> {
    list.split(',').filter_map(entry)
}

fn entry(word: &str) -> Option<(&str, Option<u32>)> {
    let (name, vps) = match word.split_once('@') {
        Some((name, _)) => {
            let pair = Pair { key: name, value: word.get(name.len() + 1..) };
            (name, Some(pair.vps().ok()?))
        }
        None => (word, None),
    };
    LOCK_NAMES.contains(&name).then_some((name, vps))
}

#[cfg(test)]
mod tests;
