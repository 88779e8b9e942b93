//! What the kernel's job `scaling` does, on the bare machine: `bare-metal AMOUNT CPU[,CPU...]`.
//!
//! Does each kind of work of the crate `workload` with 1, 2, 4… threads, each pinned to a processor of the list, and
//! prints the same event lines as the kernel.

use std::process::ExitCode;
use std::sync::Barrier;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use hypervisor_host::partition::vp::pin_to;
use tests::events::{PREFIX, Scaling};
use workload::{AREA_WORDS, Common, ROUNDS, WORKS, Work};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare-metal: error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [amount, cpus] = &words[..] else {
        bail!("{} words were given. Give two: AMOUNT CPU[,CPU...]", words.len());
    };
    let amount = amount.parse().with_context(|| format!("'{amount}' is no amount"))?;
    let number = |cpu: &str| cpu.parse().with_context(|| format!("'{cpu}' is no processor"));
    let cpus: Vec<usize> = cpus.split(',').map(number).collect::<Result<_>>()?;
    let mut areas = vec![vec![1; AREA_WORDS]; cpus.len()];
    let widths = std::iter::successors(Some(1), |width| Some(width * 2));
    for width in widths.take_while(|width| *width <= cpus.len()) {
        for work in (0..ROUNDS).flat_map(|_| &WORKS) {
            let done = measure(work, &cpus[..width], &mut areas, amount)?;
            println!("{PREFIX}{}", line(&done)?);
        }
    }
    Ok(())
}

fn measure(work: &Work, cpus: &[usize], areas: &mut [Vec<u64>], amount: u32) -> Result<Scaling> {
    let (common, start) = (Common::new(), Barrier::new(cpus.len()));
    let origin = Instant::now();
    let part = |cpu: usize, area: &mut Vec<u64>| -> Result<_> {
        let pinned = pin_to(cpu).with_context(|| format!("cannot run on processor {cpu}"));
        workload::prepare(area);
        start.wait();
        pinned?;
        let begin = origin.elapsed();
        let result = work.run(&common, area, amount);
        Ok((begin, origin.elapsed(), result))
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = std::iter::zip(cpus, areas)
            .map(|(&cpu, area)| scope.spawn(move || part(cpu, area)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("the work does not panic")).collect()
    });
    let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
    let first = parts.iter().map(|part| part.0).min().unwrap_or_default();
    let last = parts.iter().map(|part| part.1).max().unwrap_or_default();
    let sum = parts.iter().fold(common.count(), |sum, part| sum.wrapping_add(part.2));
    Ok(Scaling {
        work: work.name.into(),
        width: u32::try_from(cpus.len())?,
        amount,
        elapsed_100ns: u64::try_from((last - first).as_nanos() / 100)?,
        result: sum,
    })
}

fn line(done: &Scaling) -> Result<String> {
    let mut event = serde_json::to_value(done)?;
    event["event"] = "scaling".into();
    Ok(event.to_string())
}
