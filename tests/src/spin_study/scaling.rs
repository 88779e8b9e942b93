//! Scaling: the guest's work held against the same work on the bare machine.

use anyhow::{Context, Result};
use object::{Object, ObjectSection, ObjectSymbol};
use serde::{Deserialize, Serialize};

use super::findings::median;
use crate::events::Scaling;

/// The same work on both sides, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Repetition.
    pub repetition: u32,
    /// On the bare machine.
    pub bare: Scaling,
    /// In the guest.
    pub guest: Scaling,
}

/// Puts both sides of one repetition together: both do the same, in the same order.
///
/// # Errors
///
/// Says what one side did otherwise, or came to something else.
pub fn pair(repetition: u32, bare: Vec<Scaling>, guest: &[Scaling]) -> Result<Vec<Pair>, String> {
    if bare.len() != guest.len() {
        return Err(format!(
            "{} pieces of work on the bare machine, {} in the guest",
            bare.len(),
            guest.len()
        ));
    }
    let pair = |(bare, guest): (Scaling, &Scaling)| {
        let Scaling { work, width, amount, .. } = &bare;
        if (&guest.work, &guest.width, &guest.amount) != (work, width, amount) {
            let Scaling { work: other, width: there, .. } = guest;
            return Err(format!("{work} on {width} was done, in the guest {other} on {there}"));
        }
        if guest.result != bare.result {
            let (here, there) = (bare.result, guest.result);
            return Err(format!("{work} on {width} came to {here}, in the guest to {there}"));
        }
        Ok(Pair { repetition, guest: guest.clone(), bare })
    };
    bare.into_iter().zip(guest).map(pair).collect()
}

/// One kind of work at one width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Width {
    /// The work.
    pub work: String,
    /// Virtual processors, and threads.
    pub width: u32,
    /// Repetitions.
    pub repetitions: usize,
    /// Speed of the guest ÷ speed of the bare machine: the median of the ratios of each repetition.
    pub guest_to_bare: f64,
    /// Least and greatest of these ratios.
    pub range: (f64, f64),
    /// The bare machine's least time ÷ the guest's least: what it is where nothing disturbed either.
    pub least_times: f64,
    /// Work done together in the same time ÷ that done by one, bare.
    pub bare_scaling: f64,
    /// The same in the guest.
    pub guest_scaling: f64,
}

/// Aimed at, wherever each virtual processor has a processor to itself.
pub const AIM: f64 = 0.95;

/// What all repetitions say, in the order of the work.
pub fn widths(pairs: &[Pair]) -> Vec<Width> {
    let mut kinds: Vec<(String, u32)> = Vec::new();
    for pair in pairs {
        let kind = (pair.bare.work.clone(), pair.bare.width);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let of = |work: &str, width: u32| {
        let work = work.to_string();
        pairs.iter().filter(move |pair| pair.bare.work == work && pair.bare.width == width)
    };
    let time = |one: &Scaling| one.elapsed_100ns.max(1) as f64;
    let width = |(work, width): (String, u32)| {
        let ratios: Vec<f64> =
            of(&work, width).map(|pair| time(&pair.bare) / time(&pair.guest)).collect();
        let scaling = |side: fn(&Pair) -> &Scaling| {
            let one = median(of(&work, 1).map(|pair| time(side(pair)))).unwrap_or(0.0);
            let all = median(of(&work, width).map(|pair| time(side(pair)))).unwrap_or(1.0);
            f64::from(width) * one / all
        };
        let least = |side: fn(&Pair) -> &Scaling| {
            of(&work, width).map(|pair| time(side(pair))).fold(f64::INFINITY, f64::min)
        };
        Width {
            least_times: least(|pair| &pair.bare) / least(|pair| &pair.guest),
            repetitions: ratios.len(),
            guest_to_bare: median(ratios.iter().copied()).unwrap_or(0.0),
            range: (
                ratios.iter().copied().fold(f64::INFINITY, f64::min),
                ratios.iter().copied().fold(0.0, f64::max),
            ),
            bare_scaling: scaling(|pair| &pair.bare),
            guest_scaling: scaling(|pair| &pair.guest),
            work,
            width,
        }
    };
    kinds.into_iter().map(width).collect()
}

/// What is wrong if the work's functions are not byte for byte the same in two programs; `None` if they are.
///
/// # Errors
///
/// If a file can't be read as a program.
pub fn code_differs(one: &[u8], other: &[u8]) -> Result<Option<String>> {
    for work in workload::WORKS {
        let (one, other) = (function(one, work.name)?, function(other, work.name)?);
        let wrong = match (one, other) {
            (Some(one), Some(other)) if one == other && !one.is_empty() => continue,
            (Some(one), Some(other)) => {
                format!(
                    "has {} bytes of code in one, {} others in the other",
                    one.len(),
                    other.len()
                )
            }
            _ => "is not in both".to_string(),
        };
        return Ok(Some(format!("the function of the work {} {wrong}", work.name)));
    }
    Ok(None)
}

fn function<'f>(file: &'f [u8], work: &str) -> Result<Option<&'f [u8]>> {
    let program = object::File::parse(file).context("cannot read the program as ELF")?;
    let wanted = format!("workload::works::{work}");
    let is_it = |name: &str| format!("{:#}", rustc_demangle::demangle(name)) == wanted;
    let Some(symbol) = program.symbols().find(|symbol| symbol.name().is_ok_and(is_it)) else {
        return Ok(None);
    };
    let section = symbol.section_index().context("the function is in no section")?;
    let section = program.section_by_index(section)?;
    Ok(section.data_range(symbol.address(), symbol.size())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(work: &str, width: u32, elapsed_100ns: u64, result: u64) -> Scaling {
        Scaling { work: work.into(), width, amount: 3, elapsed_100ns, result }
    }

    #[test]
    fn a_guest_that_did_other_work_is_told() {
        let bare = || vec![done("compute", 1, 100, 7)];
        assert!(pair(0, bare(), &[done("compute", 1, 100, 8)]).unwrap_err().contains("came to 7"));
        assert!(pair(0, bare(), &[done("compute", 2, 100, 7)]).is_err());
        assert!(pair(0, bare(), &[]).is_err());
        assert_eq!(pair(0, bare(), &[done("compute", 1, 200, 7)]).unwrap().len(), 1);
    }

    #[test]
    fn ratios_are_taken_within_a_repetition() {
        let both = |repetition, drift: u64| {
            let bare = vec![done("compute", 1, 95 * drift, 7), done("compute", 2, 95 * drift, 9)];
            let guest = [done("compute", 1, 100 * drift, 7), done("compute", 2, 125 * drift, 9)];
            pair(repetition, bare, &guest).unwrap()
        };
        let pairs = [both(0, 1), both(1, 90), both(2, 7)].concat();
        let [one, two] = &widths(&pairs)[..] else { panic!("two widths") };
        assert!((one.guest_to_bare - 0.95).abs() < 1e-9, "{one:?}");
        assert!((two.guest_to_bare - 0.76).abs() < 1e-9, "{two:?}");
        assert!((two.bare_scaling - 2.0).abs() < 1e-9, "{two:?}");
        assert!((two.guest_scaling - 1.6).abs() < 1e-9, "{two:?}");
    }

    #[test]
    fn work_that_takes_no_time_divides_by_nothing() {
        let pairs = pair(0, vec![done("compute", 1, 0, 7)], &[done("compute", 1, 0, 7)]).unwrap();
        assert!(widths(&pairs)[0].guest_to_bare.is_finite());
    }

    #[test]
    fn a_program_without_the_work_and_no_program_are_told() {
        assert!(code_differs(b"no program", b"none either").is_err());
        // This test's own program has the work, as it uses the table of it.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(code_differs(&own, &own).unwrap(), None);
    }
}
