//! Which parts of the Hyper-V interface a guest is offered, and their names on the command line.
//!
//! A name is a flag of `hv_abi::cpuid` in lower case with `-` for `_`, or `spin-wait` for the threshold of
//! long spin waits. Where the name is a flag of two sets it means both. What KVM lacks is never offered,
//! whatever is asked for.

use std::fmt;

use bitflags::Flags;
use hv_abi::cpuid::{Features, Privileges, Recommendations};
use thiserror::Error;

/// The name that stands for a threshold.
const SPIN_WAIT: &str = "spin-wait";

/// A choice of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Privileges of the partition.
    pub privileges: Privileges,
    /// Features.
    pub features: Features,
    /// Recommendations.
    pub recommendations: Recommendations,
    /// The guest is told after how many tries to notify of a long spin wait.
    pub spin_wait: bool,
}

/// A list names a part that there is not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name:?} is no part of this host's Hyper-V interface; name some of: {known}")]
pub struct UnknownPart {
    /// The name.
    pub name: String,
    /// All names there are.
    pub known: String,
}

impl Offered {
    /// All that this host stands for.
    pub const ALL: Self = Self {
        privileges: Privileges::VP_RUNTIME
            .union(Privileges::TIME_REF_COUNT)
            .union(Privileges::SYNIC)
            .union(Privileges::SYNTHETIC_TIMERS)
            .union(Privileges::APIC_ACCESS)
            .union(Privileges::HYPERCALL)
            .union(Privileges::VP_INDEX)
            .union(Privileges::RESET)
            .union(Privileges::REFERENCE_TSC)
            .union(Privileges::GUEST_IDLE)
            .union(Privileges::FREQUENCIES)
            .union(Privileges::REENLIGHTENMENT)
            .union(Privileges::TSC_INVARIANT)
            .union(Privileges::POST_MESSAGES)
            .union(Privileges::SIGNAL_EVENTS)
            .union(Privileges::EXTENDED_HYPERCALLS),
        features: Features::HYPERCALL_XMM_INPUT
            .union(Features::GUEST_IDLE_STATE)
            .union(Features::FREQUENCY_MSRS)
            .union(Features::GUEST_CRASH_MSRS)
            .union(Features::STIMER_DIRECT),
        recommendations: Recommendations::REMOTE_TLB_FLUSH
            .union(Recommendations::APIC_ACCESS)
            .union(Recommendations::RELAXED_TIMING)
            .union(Recommendations::DEPRECATE_AUTO_EOI)
            .union(Recommendations::CLUSTER_IPI)
            .union(Recommendations::EX_PROCESSOR_MASKS),
        spin_wait: true,
    };

    /// What this host serves by itself, whatever KVM has.
    pub const OWN: Self = Self {
        privileges: Privileges::GUEST_IDLE.union(Privileges::EXTENDED_HYPERCALLS),
        features: Features::GUEST_IDLE_STATE.union(Features::GUEST_CRASH_MSRS),
        // Auto-EOI is not KVM's to deprecate: older kernels have it, and don't say so.
        recommendations: Recommendations::DEPRECATE_AUTO_EOI,
        spin_wait: true,
    };

    /// The same on a computer with an invariant TSC whose KVM lacks the control register.
    pub const OWN_INVARIANT_TSC: Self =
        Self { privileges: Self::OWN.privileges.union(Privileges::TSC_INVARIANT), ..Self::OWN };

    /// Nothing but the leaves themselves.
    pub const NONE: Self = Self {
        privileges: Privileges::empty(),
        features: Features::empty(),
        recommendations: Recommendations::empty(),
        spin_wait: false,
    };

    /// The parts of both.
    pub const fn union(self, other: Self) -> Self {
        Self {
            privileges: self.privileges.union(other.privileges),
            features: self.features.union(other.features),
            recommendations: self.recommendations.union(other.recommendations),
            spin_wait: self.spin_wait || other.spin_wait,
        }
    }

    /// The parts of both at once.
    pub const fn intersection(self, other: Self) -> Self {
        Self {
            privileges: self.privileges.intersection(other.privileges),
            features: self.features.intersection(other.features),
            recommendations: self.recommendations.intersection(other.recommendations),
            spin_wait: self.spin_wait && other.spin_wait,
        }
    }

    /// The parts of `self` that `other` lacks.
    pub const fn difference(self, other: Self) -> Self {
        Self {
            privileges: self.privileges.difference(other.privileges),
            features: self.features.difference(other.features),
            recommendations: self.recommendations.difference(other.recommendations),
            spin_wait: self.spin_wait && !other.spin_wait,
        }
    }

    /// The parts that a list of names means.
    ///
    /// # Errors
    /// A name that stands for nothing this host offers.
    pub fn parse_list(list: &str) -> Result<Self, UnknownPart> {
        list.split(',').try_fold(Self::NONE, |all, name| Ok(all.union(Self::named(name.trim())?)))
    }

    /// All names, in the order of their bits.
    pub fn names() -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let flags = flag_names(Self::ALL.privileges)
            .chain(flag_names(Self::ALL.features))
            .chain(flag_names(Self::ALL.recommendations))
            .chain([SPIN_WAIT.into()]);
        for name in flags {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn named(name: &str) -> Result<Self, UnknownPart> {
        let found = Self {
            privileges: flag(Self::ALL.privileges, name),
            features: flag(Self::ALL.features, name),
            recommendations: flag(Self::ALL.recommendations, name),
            spin_wait: name == SPIN_WAIT,
        };
        if found == Self::NONE {
            return Err(UnknownPart { name: name.into(), known: Self::names().join(", ") });
        }
        Ok(found)
    }
}

impl Default for Offered {
    /// All but the advice to reach the APIC by MSRs (x2APIC and the processors' virtual APICs do better) and the
    /// control of an invariant TSC, with which Linux makes no use of the TSC page.
    fn default() -> Self {
        let left_out = Self {
            privileges: Privileges::TSC_INVARIANT,
            recommendations: Recommendations::APIC_ACCESS,
            ..Self::NONE
        };
        Self::ALL.difference(left_out)
    }
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Self::names()
            .into_iter()
            .filter(|name| Self::named(name).is_ok_and(|part| part.difference(*self) != part))
            .collect();
        f.write_str(&names.join(","))
    }
}

fn flag_names<F: Flags>(flags: F) -> impl Iterator<Item = String> {
    let names = F::FLAGS
        .iter()
        .filter(move |flag| flags.contains(F::from_bits_retain(flag.value().bits())));
    names.map(|flag| option_name(flag.name()))
}

/// The flag with this name if it is one of `flags`, else nothing.
fn flag<F: Flags>(flags: F, name: &str) -> F {
    let known = F::FLAGS.iter().find(|flag| option_name(flag.name()) == name);
    let bits = known.map_or(F::empty(), |flag| F::from_bits_retain(flag.value().bits()));
    bits.intersection(flags)
}

fn option_name(constant: &str) -> String {
    constant.to_ascii_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_two_sets_means_both() {
        let apic = Offered::parse_list("apic-access").unwrap();
        assert_eq!(apic.privileges, Privileges::APIC_ACCESS);
        assert_eq!(apic.recommendations, Recommendations::APIC_ACCESS);
    }

    #[test]
    fn what_is_taken_away_is_gone_and_nothing_else() {
        let off = Offered::parse_list("cluster-ipi, spin-wait").unwrap();
        let left = Offered::default().difference(off);
        assert!(!left.spin_wait);
        assert!(!left.recommendations.contains(Recommendations::CLUSTER_IPI));
        assert_eq!(left.privileges, Offered::default().privileges);
        assert_eq!(left.union(off), Offered::default());
    }

    #[test]
    fn every_name_can_be_given_back() {
        let names = Offered::names();
        assert_eq!(Offered::parse_list(&names.join(",")), Ok(Offered::ALL));
        for name in ["hypercall", "synic", "stimer-direct", "remote-tlb-flush", "spin-wait"] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_told_with_those_there_are() {
        for list in ["bogus", "", "hypercall,,synic", "HYPERCALL", "create-partitions"] {
            let text = Offered::parse_list(list).unwrap_err().to_string();
            assert!(text.contains("no part") && text.contains("cluster-ipi"), "{text}");
        }
    }

    #[test]
    fn the_choice_prints_as_a_list_of_its_names() {
        let some = Offered::parse_list("synic,hypercall").unwrap();
        assert_eq!(some.to_string(), "synic,hypercall");
        assert_eq!(Offered::NONE.to_string(), "");
    }
}
