//! Command lines, good and bad.

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
    assert_eq!(parse("after=a::b test=all"), Err(CmdlineError::OtherJob("after", "conformance")));
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
        "vmbus-version=5",
        "vmbus-version=5.",
        "vmbus-version=+5.3",
        "vmbus-version=5.65536",
        "vmbus-version=5.3.1",
        "ip=10.9.0.2",
        "ip=10.9.0.2/",
        "ip=10.9.0.2/0",
        "ip=10.9.0.2/31",
        "ip=10.9.0.2/+8",
        "ip=10.9.0/24",
        "ip=224.0.0.1/24",
        "ip=127.0.0.1/8",
        "gateway=10.9.0.256",
        "gateway=0.0.0.0",
        "gateway=10.9.0.1/24",
        "serve-requests=-1",
        "serve-requests=1000000001",
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
    assert_eq!(parse("vmbus list"), Err(CmdlineError::TwoJobs("list")));
}

#[test]
fn io_is_measured_so_often() {
    let bench = |line| match parse(line).unwrap().job {
        Job::IoBench(bench) => bench,
        job => panic!("{job:?}"),
    };
    assert_eq!(bench("io-bench=500"), IoBench { operations: 500, ..IoBench::default() });
    let some = bench("io-paths=netvsc io-bench=5 io-works=all");
    assert!(some.all && some.paths.contains(IoPath::Netvsc));
    assert!(!some.paths.contains(IoPath::Storvsc));
    for wrong in [
        "io-paths=netvsc",
        "io-works=all vmbus",
        "io-bench=1 io-paths=x",
        "io-bench=1 io-paths=",
        "io-bench=1 io-works=most",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
    assert!(parse("io-bench").is_err() && parse("io-bench=0").is_err());
    assert_eq!(parse("vmbus io-bench=1"), Err(CmdlineError::TwoJobs("io-bench")));
}

#[test]
fn a_soak_lasts_seconds() {
    assert_eq!(parse("soak=300 events").unwrap().job, Job::Soak(300));
    for wrong in ["soak", "soak=0", "soak=86401", "soak=1 vmbus"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn an_error_says_what_failed_on_what_and_what_to_do() {
    assert_eq!(
        parse("vps=65").unwrap_err().to_string(),
        "cannot use the kernel's command line: `65` is not a value for `vps`; use 1 to 64"
    );
}

#[test]
fn a_version_of_vmbus_is_two_numbers() {
    let options = parse("vmbus vmbus-version=0.13").unwrap();
    assert_eq!((options.job, options.vmbus_version), (Job::Vmbus, Some((0, 13))));
}

#[test]
fn an_echo_server_has_an_address() {
    assert_eq!(parse("ide").unwrap().job, Job::Ide(592));
    assert_eq!(parse("ide=48").unwrap().job, Job::Ide(48));
    assert!(matches!(parse("ide=593"), Err(CmdlineError::BadValue { key: "ide", .. })));
    let options = parse("tulip=10.0.2.100 ip=10.0.2.15/24").unwrap();
    assert_eq!(options.job, Job::Tulip([10, 0, 2, 100]));
    assert_eq!((options.serve.address, options.serve.prefix), ([10, 0, 2, 15], 24));
    assert_eq!(parse("tulip"), Err(CmdlineError::NoValue("tulip")));
    assert!(matches!(parse("tulip=here"), Err(CmdlineError::BadValue { key: "tulip", .. })));
}

#[test]
fn a_server_has_an_address_a_router_and_an_end() {
    let options = parse("serve ip=192.168.7.20/16 gateway=192.168.0.1 serve-requests=5").unwrap();
    let expected = ServeOptions {
        address: [192, 168, 7, 20],
        prefix: 16,
        gateway: Some([192, 168, 0, 1]),
        requests: 5,
    };
    assert_eq!((options.job, options.serve), (Job::Serve, expected));
    let options = parse("serve").unwrap();
    assert_eq!(options.serve, ServeOptions::default());
    assert_eq!(parse("serve=1"), Err(CmdlineError::NeedlessValue("serve")));
    assert_eq!(parse("serve list"), Err(CmdlineError::TwoJobs("list")));
}
