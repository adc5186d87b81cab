//! How is a known mistake run by itself, and the right thing beside it?

use std::collections::BTreeSet;

use super::{Evidence, Extent, Scenario, Workload};
use crate::Result;
use crate::bug::{Bug, Entry};
use crate::pace::duration_text;

/// Virtual users: enough to meet all the time, few enough for the smallest server.
const VUS: u32 = 20;

impl Scenario {
    /// The scenario of a bug, with the bug in it. It claims nothing: what is broken needs no control to show that it can be.
    ///
    /// # Errors
    /// When the built-in scenario or the catalogue is malformed; a test keeps that from happening.
    pub fn of_bug(bug: Bug) -> Result<Self> {
        let entry = bug.entry();
        let mut scenario = alone(entry)?;
        if let Workload::Booking(booking) = &mut scenario.workload {
            booking.bug = Some(bug);
        }
        scenario.faults = entry.alone.faults.iter().map(|fault| fault.parse()).collect::<Result<_>>()?;
        Ok(scenario)
    }

    /// The same scenarios without the bugs, one of each name, under every strategy that one of the bugs is run under.
    ///
    /// # Errors
    /// As [`Self::of_bug`].
    pub fn without_bugs(bugs: &[Bug]) -> Result<Vec<Self>> {
        let entries: Vec<&Entry> = bugs.iter().map(|bug| bug.entry()).collect();
        let names: BTreeSet<&str> = entries.iter().map(|entry| entry.alone.scenario).collect();
        names
            .into_iter()
            .map(|name| {
                let of_name: Vec<&Entry> = entries.iter().copied().filter(|entry| entry.alone.scenario == name).collect();
                let mut scenario = alone(of_name[0])?;
                if let Workload::Booking(booking) = &mut scenario.workload {
                    booking.strategies = of_name.iter().filter_map(|entry| entry.strategies.first().copied()).collect();
                    booking.strategies.sort_unstable();
                    booking.strategies.dedup();
                }
                Ok(scenario)
            })
            .collect()
    }
}

/// What one types to run a bug by itself, with everything that a run shows and the controls besides.
pub fn typed(bug: Bug) -> String {
    let Entry { strategies, alone, .. } = bug.entry();
    let mut typed = format!("dbstress {}", alone.scenario);
    for strategy in strategies.iter().take(1) {
        typed += &format!(" --strategy {}", strategy.name());
    }
    typed += &format!(" --bug {bug} --vus {VUS} --duration {}", duration_text(alone.duration));
    if let Some(total) = alone.total {
        typed += &format!(" --total {total}");
    }
    if !alone.hold.is_zero() {
        typed += &format!(" --hold {}", duration_text(alone.hold));
    }
    if let Some(deadline) = alone.deadline {
        typed += &format!(" --retry-deadline {}", duration_text(deadline));
    }
    for fault in alone.faults {
        typed += &format!(" --fault {fault}");
    }
    typed
}

fn alone(entry: &Entry) -> Result<Scenario> {
    let alone = &entry.alone;
    let mut scenario = Scenario::built_in(alone.scenario)?;
    scenario.claims.clear();
    scenario.evidence = Evidence::default();
    scenario.load.vus = VUS;
    scenario.load.extent = Extent::Constant { duration: Some(alone.duration), iterations: None };
    scenario.load.retry.deadline = alone.deadline.unwrap_or(scenario.load.retry.deadline);
    if let Workload::Booking(booking) = &mut scenario.workload {
        booking.strategies = entry.strategies.iter().take(1).copied().collect();
        booking.total = alone.total.unwrap_or(booking.total);
        booking.hold = alone.hold;
    }
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_goes_with_what_it_is_run_under() {
        for bug in Bug::ALL {
            let mistakes = Scenario::of_bug(bug).unwrap().mistakes();
            assert!(mistakes.is_empty(), "{bug}: {mistakes:?}");
        }
    }

    #[test]
    fn what_is_typed_can_contend_although_it_claims_something() {
        for bug in Bug::ALL {
            let mut scenario = Scenario::of_bug(bug).unwrap();
            scenario.claims = Scenario::built_in(&scenario.name).unwrap().claims;
            let plan = crate::plan::Plan::of(&scenario, Default::default());
            assert!(plan.cannot_contend().is_none(), "{bug}");
        }
    }

    #[test]
    fn the_right_thing_is_run_under_the_same_strategies() {
        let scenarios = Scenario::without_bugs(&[Bug::LockAndRead, Bug::BlindRetry, Bug::EarlyUnlock, Bug::NoShow]).unwrap();
        let told: Vec<String> = scenarios
            .iter()
            .map(|s| {
                let booking = s.booking().unwrap();
                assert_eq!((booking.bug, &s.faults[..], &s.claims[..]), (None, &[][..], &[][..]));
                let names: Vec<&str> = booking.strategies.iter().map(|s| s.name()).collect();
                format!("{}: {}", s.name, names.join(", "))
            })
            .collect();
        assert_eq!(told, ["churn: for-update", "contention: advisory, serializable"]);
    }
}
