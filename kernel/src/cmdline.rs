//! The kernel's command line, as `docs/interfaces.md` defines it.

use core::fmt;

use log::LevelFilter;

use crate::MAX_VPS;

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
    /// Seconds after which a case of the conformance matrix counts as hanging.
    pub case_limit: u32,
    /// What to do.
    pub job: Job<'a>,
    /// How to study.
    pub study: StudyOptions,
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
            case_limit: 30,
            job: Job::Tests(None),
            study: StudyOptions {
                vps: None,
                acquisitions: 10_000,
                duration_ms: None,
                hold: 50,
                gap: 50,
            },
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
    /// More than one of `list`, `test`, `conformance` and `study`.
    TwoJobs(&'a str),
    /// This key belongs to another job.
    OtherJob(&'a str),
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
                "`{key}` is a second job; give only one of list, test, conformance and study"
            ),
            Self::OtherJob(key) => write!(f, "`{key}` needs `conformance`; add it"),
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
    for word in line.split_ascii_whitespace() {
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
        _ => return Err(CmdlineError::OtherJob("after")),
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
    if let "events" | "list" | "testdev" | "panic" = key {
        if value.is_some() {
            return Err(CmdlineError::NeedlessValue(key));
        }
        options.events |= key == "events";
        options.testdev |= key == "testdev";
        return Ok(match key {
            "list" => Some(Job::List),
            "panic" => Some(Job::Panic),
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
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn an_empty_line_runs_all_tests_with_the_documented_defaults() {
        let options = parse("  ").unwrap();
        assert_eq!(options, Options::default());
        assert_eq!(options.job, Job::Tests(None));
        assert_eq!(options.study.acquisitions, 10_000);
    }

    #[test]
    fn every_documented_key_is_understood() {
        let line = "log=debug console=uart apic=xapic vps=64 events study=spin,tas-enlightened \
                    study-vps=4 acquisitions=1000000000 duration=250 hold=0 gap=1000000";
        let options = parse(line).unwrap();
        assert_eq!(options.log, LevelFilter::Debug);
        assert_eq!((options.console, options.apic), (Console::Uart, Apic::Xapic));
        assert_eq!((options.vps, options.events), (Some(64), true));
        assert_eq!(options.job, Job::Study("spin,tas-enlightened"));
        let study = StudyOptions {
            vps: Some(4),
            acquisitions: 1_000_000_000,
            duration_ms: Some(250),
            hold: 0,
            gap: 1_000_000,
        };
        assert_eq!(options.study, study);
    }

    #[test]
    fn tests_are_all_or_named() {
        assert_eq!(parse("test=all").unwrap().job, Job::Tests(None));
        assert_eq!(parse("test=a::b,c::d").unwrap().job, Job::Tests(Some("a::b,c::d")));
        assert!(parse("test=a,,b").is_err());
    }

    #[test]
    fn the_conformance_matrix_is_whole_or_named_or_a_rest() {
        let cases = |line| match parse(line).unwrap().job {
            Job::Conformance(cases) => (cases.names, cases.after),
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(cases("conformance"), (None, None));
        assert_eq!(cases("conformance=all"), (None, None));
        assert_eq!(cases("conformance=a::b,SynIC"), (Some("a::b,SynIC"), None));
        assert_eq!(cases("after=a::b conformance"), (None, Some("a::b")));
        assert_eq!(parse("after=a::b test=all"), Err(CmdlineError::OtherJob("after")));
        assert_eq!(parse("conformance after="), Err(CmdlineError::NoValue("after")));
        assert!(parse("conformance=a,,b").is_err());
        assert_eq!(parse("conformance list"), Err(CmdlineError::TwoJobs("list")));
        let options = parse("conformance testdev case-limit=3").unwrap();
        assert!(options.testdev && options.case_limit == 3);
    }

    #[test]
    fn unknown_keys_are_named() {
        assert_eq!(parse("quiet"), Err(CmdlineError::UnknownKey("quiet")));
        assert_eq!(parse("Log=info"), Err(CmdlineError::UnknownKey("Log")));
        assert_eq!(parse("=1"), Err(CmdlineError::UnknownKey("")));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for word in [
            "vps=0",
            "vps=65",
            "vps=+4",
            "vps=4x",
            "vps=99999999999999999999",
            "study-vps=0",
            "acquisitions=0",
            "acquisitions=1000000001",
            "hold=1000001",
            "gap=-1",
            "case-limit=0",
            "case-limit=3601",
            "log=loud",
            "console=vga",
            "apic=x3apic",
            "study=mutex",
            "study=spin,",
            "study=spin@",
            "study=spin@0",
            "study=spin@65",
            "study=spin@2@2",
            "study=@2",
            "scaling=0",
            "scaling=1000001",
            "duration=0",
            "duration=600001",
        ] {
            let error = parse(word).unwrap_err();
            assert!(matches!(error, CmdlineError::BadValue { .. }), "{word}: {error:?}");
        }
    }

    #[test]
    fn values_where_none_belongs_and_the_reverse_are_refused() {
        assert_eq!(parse("events=1"), Err(CmdlineError::NeedlessValue("events")));
        for key in ["vps", "log", "test", "study", "hold"] {
            assert_eq!(parse(key), Err(CmdlineError::NoValue(key)));
        }
        assert_eq!(parse("log="), Err(CmdlineError::NoValue("log")));
    }

    #[test]
    fn each_lock_of_a_study_may_have_its_own_number_of_processors() {
        let Job::Study(list) = parse("study=spin@2,tas,tas-enlightened@64").unwrap().job else {
            panic!("a study")
        };
        let found: std::vec::Vec<_> = entries(list).collect();
        assert_eq!(found, [("spin", Some(2)), ("tas", None), ("tas-enlightened", Some(64))]);
    }

    #[test]
    fn jobs_exclude_one_another() {
        assert_eq!(parse("list test=all"), Err(CmdlineError::TwoJobs("test")));
        assert_eq!(parse("panic list"), Err(CmdlineError::TwoJobs("list")));
        assert_eq!(parse("panic events").unwrap().job, Job::Panic);
        assert_eq!(parse("study=spin list"), Err(CmdlineError::TwoJobs("list")));
    }

    #[test]
    fn an_error_says_what_failed_on_what_and_what_to_do() {
        assert_eq!(
            parse("vps=65").unwrap_err().to_string(),
            "cannot use the kernel's command line: `65` is not a value for `vps`; use 1 to 64"
        );
    }
}
