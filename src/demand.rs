//! Can a correct server meet the thresholds at all? Arithmetic before the run: units that do not exist cannot be reserved. Pure.
//!
//! What is committed fits into the units that are free at the start and those that are given back, so that the rest of what is asked for
//! must be refused. The bounds are sound: a threshold that can be met is never called unreachable. They count on a server that answers;
//! one that aborts instead of refusing is not what anybody wishes for. Rows that run out one by one, and releases that find nothing to
//! give back, only make it worse than computed here.

use crate::metrics::{grouped, percent};
use crate::outcome::OutcomeClass;
use crate::threshold::{Counter, Figure, Operator, Threshold};

/// How improbable it is that a count drawn by weight lies beyond its bound: one in 10⁹.
const IMPROBABLE: f64 = 1e-9;
/// Rates are quotients of doubles: what is nearer than this is equal.
const ROUNDING: f64 = 1e-9;

/// An operation of the mix.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Its name.
    pub operation: String,
    /// How often it is drawn, relative to the others. Finite and not negative.
    pub weight: f64,
    /// Free units that it takes (positive) or gives back (negative).
    pub units: i64,
}

/// What is known of the number of iterations before the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// An open loop, or a given number.
    Exactly(u64),
    /// So many, or more.
    AtLeast(u64),
    /// As many as the server manages.
    Unknown,
}

/// What a plan asks of a server.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    /// The mix; each iteration draws one operation by weight.
    pub shares: &'a [Share],
    /// Iterations of the whole load.
    pub iterations: Known,
    /// How long the load lasts; 0 if that is not known, and rates per second are then not judged.
    pub seconds: f64,
    /// Units free at the start, in all rows aimed at.
    pub capacity: i64,
    /// What is to be met.
    pub thresholds: &'a [Threshold],
}

/// A threshold that no correct server can meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// The threshold in its one spelling.
    pub threshold: String,
    /// Why: `12,000 reservations of 5 units ask for 60,000 units, 29,500 exist: at least 6,100 (51 %) must be refused`.
    pub arithmetic: String,
}

/// The thresholds that no correct server can meet, or not together with the others: counts and rates of refused, of committed, and of all
/// iterations.
pub fn unreachable(demand: &Demand<'_>) -> Vec<Unreachable> {
    let arithmetic = |threshold: &Threshold| match threshold.figure() {
        Figure::Count(counter) | Figure::PerSecond(counter) | Figure::Share(counter) => demand.against(threshold, counter),
        Figure::Time(..) | Figure::Use(..) => None,
    };
    let found = demand.thresholds.iter().filter_map(|t| Some(Unreachable { threshold: t.to_string(), arithmetic: arithmetic(t)? }));
    found.collect()
}

/// The least share that a correct server refuses: of all iterations, and of those that take units. `None` where the number of iterations
/// is not known.
pub fn expected_refused_share(demand: &Demand<'_>) -> Option<(f64, f64)> {
    let (Known::Exactly(iterations) | Known::AtLeast(iterations)) = demand.iterations else { return None };
    let Some(shortage) = demand.shortage(None, iterations) else { return Some((0.0, 0.0)) };
    let (_, reservations) = demand.drawn(demand.weight(|share| share.units > 0), iterations);
    Some((shortage.refused_share(), Shortage { of: reservations, ..shortage }.refused_share()))
}

/// Reservations that ask for more than there is.
#[derive(Clone, Copy)]
struct Shortage {
    /// The fewest reservations, all shares together.
    reservations: u64,
    /// What they ask for at least.
    asked: i128,
    /// What there is at most: free at the start, and given back.
    exist: i128,
    returned: i128,
    /// The sizes of a reservation.
    smallest: i64,
    largest: i64,
    /// The iterations that a share is of, at most.
    of: u64,
    /// Whether all of those reserve.
    pure: bool,
    /// Whether the number of reservations is known, and not only the fewest.
    exact: bool,
}

impl Shortage {
    fn lacking(&self) -> i128 {
        self.asked - self.exist - self.returned
    }

    /// Reservations that are refused at least.
    fn refused(&self) -> u64 {
        let largest = i128::from(self.largest);
        u64::try_from((self.lacking() + largest - 1) / largest).unwrap_or(u64::MAX)
    }

    /// Units that all iterations together would take, if each were the largest reservation.
    fn whole(&self) -> i128 {
        i128::from(self.largest) * i128::from(self.of)
    }

    /// The share of refused iterations at least. Not rounded up to whole ones: so it holds for more iterations too.
    fn refused_share(&self) -> f64 {
        self.lacking() as f64 / self.whole() as f64
    }

    /// The share of committed iterations at most: the complement, without the rounding of a subtraction from 1.
    fn committed_share(&self) -> f64 {
        (self.whole() - self.lacking()) as f64 / self.whole() as f64
    }

    fn text(&self) -> String {
        let least = if self.exact { "" } else { "at least " };
        let returned = if self.returned > 0 { format!(" and at most {} come back", big(self.returned)) } else { String::new() };
        let all = if self.pure { "" } else { " of all iterations" };
        format!(
            "{least}{} reservations of {} ask for {} units, {} exist{returned}: at least {} ({}{all}) must be refused",
            grouped(self.reservations),
            units(self.smallest, self.largest),
            big(self.asked),
            big(self.exist),
            grouped(self.refused()),
            percent(self.refused_share()),
        )
    }
}

impl Demand<'_> {
    /// Why a threshold cannot be met, if so.
    fn against(&self, threshold: &Threshold, counter: Counter) -> Option<String> {
        let (operation, figure) = (threshold.operation(), threshold.figure());
        let is_rate = matches!(figure, Figure::PerSecond(_));
        if is_rate && !(self.seconds.is_finite() && self.seconds > 0.0) {
            return None;
        }
        let value = |count: u64| if is_rate { count as f64 / self.seconds } else { count as f64 };
        let is_share = matches!(figure, Figure::Share(_));
        match counter {
            Counter::Class(OutcomeClass::Refused) => {
                let (iterations, because) = self.least_iterations();
                let shortage = self.shortage(operation, iterations)?;
                let least = if is_share { shortage.refused_share() } else { value(shortage.refused()) };
                let least = if is_rate { least * (1.0 - ROUNDING) } else { least };
                below(threshold, least).then(|| because + &shortage.text())
            }
            Counter::Class(OutcomeClass::Committed) if is_share => {
                let (iterations, because) = self.least_iterations();
                let shortage = self.shortage(operation, iterations)?;
                above(threshold, shortage.committed_share()).then(|| because + &shortage.text())
            }
            Counter::Class(OutcomeClass::Committed) | Counter::Iterations if !is_share => {
                let (most, why) = self.most(operation, counter)?;
                let highest = if is_rate { value(most) * (1.0 + ROUNDING) } else { value(most) };
                let rate = if is_rate { format!(", {:.1}/s in {} s", value(most), self.seconds) } else { String::new() };
                above(threshold, highest).then(|| format!("{why}{rate}"))
            }
            _ => None,
        }
    }

    /// The iterations there are at least, given or because another threshold asks for them; with that reason.
    fn least_iterations(&self) -> (u64, String) {
        let given = match self.iterations {
            Known::Exactly(iterations) => return (iterations, String::new()),
            Known::AtLeast(iterations) => iterations,
            Known::Unknown => 0,
        };
        let asked = self.thresholds.iter().filter(|t| t.operator().is_floor()).filter_map(|threshold| {
            let count = match threshold.figure() {
                Figure::Count(counter) if counter != Counter::Dropped => threshold.limit(),
                Figure::PerSecond(counter) if counter != Counter::Dropped && self.seconds.is_finite() => {
                    threshold.limit() * self.seconds
                }
                _ => return None,
            };
            Some(((count * (1.0 - ROUNDING)).ceil() as u64, threshold))
        });
        match asked.max_by_key(|(count, _)| *count).filter(|(count, _)| *count > given) {
            Some((count, threshold)) => (count, format!("`{threshold}` asks for {} iterations or more; ", grouped(count))),
            None => (given, String::new()),
        }
    }

    /// The most that can be committed, or the most iterations, and why; `None` where there is no bound.
    fn most(&self, operation: Option<&str>, counter: Counter) -> Option<(u64, String)> {
        if let Known::Exactly(iterations) = self.iterations {
            let (_, all) = self.drawn(self.weight(|share| of(share, operation)), iterations);
            if counter != Counter::Iterations
                && let Some(shortage) = self.shortage(operation, iterations)
            {
                let most = shortage.of.saturating_sub(shortage.refused());
                return Some((most, format!("{}; at most {} commit", shortage.text(), grouped(most))));
            }
            let name = operation.map(|name| format!(" of {name}")).unwrap_or_default();
            return Some((all, format!("there are at most {} iterations{name}", grouped(all))));
        }
        let drawn = || self.shares.iter().filter(|share| share.weight > 0.0);
        let gives_back = drawn().any(|share| share.units < 0);
        let smallest = drawn().filter(|share| of(share, operation)).map(|share| share.units).min()?;
        if counter == Counter::Iterations || gives_back || smallest <= 0 {
            return None;
        }
        let most = self.capacity.max(0).unsigned_abs() / smallest.unsigned_abs();
        let (exist, size) = (big(self.capacity.max(0).into()), units(smallest, smallest));
        Some((most, format!("{exist} units exist, room for {} reservations of {size}", grouped(most))))
    }

    /// By how much the reservations of an operation, or of all, go beyond what exists. `None` if they may all find room.
    fn shortage(&self, operation: Option<&str>, iterations: u64) -> Option<Shortage> {
        let reserves = |share: &&Share| share.units > 0 && share.weight > 0.0 && of(share, operation);
        let shares = || self.shares.iter().filter(reserves);
        let (smallest, largest) = (shares().map(|s| s.units).min()?, shares().map(|s| s.units).max()?);
        let drawn_least = |share: &Share| self.drawn(share.weight, iterations).0;
        let returned = self.shares.iter().filter(|share| share.units < 0);
        let returned = returned.map(|share| i128::from(self.drawn(share.weight, iterations).1) * -i128::from(share.units)).sum();
        let whole = self.weight(|share| of(share, operation));
        let pure = self.weight(|share| reserves(&share)) == whole;
        let (_, most) = self.drawn(whole, iterations);
        let reservations = shares().map(drawn_least).sum();
        let shortage = Shortage {
            reservations,
            asked: shares().map(|share| i128::from(drawn_least(share)) * i128::from(share.units)).sum(),
            exist: self.capacity.max(0).into(),
            returned,
            smallest,
            largest,
            of: most,
            pure,
            exact: reservations == most && matches!(self.iterations, Known::Exactly(_)),
        };
        (shortage.lacking() > 0).then_some(shortage)
    }

    fn weight(&self, is: impl Fn(&Share) -> bool) -> f64 {
        self.shares.iter().filter(|share| is(share)).map(|share| share.weight).sum()
    }

    /// The fewest and the most iterations that draw something of that weight. A bound is missed with a probability of 10⁻⁹, by the better of
    /// two inequalities for sums of bounded random variables: W. Hoeffding's (1963), P(X ≤ np − t) ≤ exp(−2t²/n), and S. N. Bernstein's
    /// (as ibid.), P(X ≤ np − t) ≤ exp(−t² / (2np(1 − p) + 2t/3)), which is better for what is drawn seldom. What is drawn always or never
    /// is exact.
    fn drawn(&self, weight: f64, iterations: u64) -> (u64, u64) {
        let total = self.weight(|_| true);
        if weight >= total {
            return (iterations, iterations);
        }
        if weight <= 0.0 {
            return (0, 0);
        }
        let n = iterations as f64;
        let (share, exponent) = (weight / total, -IMPROBABLE.ln());
        let mean = n * share;
        let hoeffding = (n * exponent / 2.0).sqrt();
        let third = exponent / 3.0;
        let bernstein = third + (third * third + 2.0 * exponent * mean * (1.0 - share)).sqrt();
        let margin = hoeffding.min(bernstein);
        // A negative number becomes 0. Rounded away from the mean, so that the bound of a share holds for more iterations too.
        ((mean - margin).floor() as u64, ((mean + margin).ceil() as u64).min(iterations))
    }
}

fn of(share: &Share, operation: Option<&str>) -> bool {
    operation.is_none_or(|name| share.operation == name)
}

/// Whether a threshold forbids every value from `least` on.
fn below(threshold: &Threshold, least: f64) -> bool {
    match threshold.operator() {
        Operator::Less => least >= threshold.limit(),
        Operator::AtMost | Operator::Equal => least > threshold.limit(),
        Operator::Greater | Operator::AtLeast | Operator::NotEqual => false,
    }
}

/// Whether a threshold forbids every value up to `most`.
fn above(threshold: &Threshold, most: f64) -> bool {
    match threshold.operator() {
        Operator::Greater => most <= threshold.limit(),
        Operator::AtLeast | Operator::Equal => most < threshold.limit(),
        Operator::Less | Operator::AtMost | Operator::NotEqual => false,
    }
}

fn big(n: i128) -> String {
    grouped(u64::try_from(n).unwrap_or(u64::MAX))
}

fn units(smallest: i64, largest: i64) -> String {
    match (smallest, largest) {
        (1, 1) => "1 unit".into(),
        (a, b) if a == b => format!("{a} units"),
        (a, b) => format!("{a} to {b} units"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::ChaCha8Rng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn share(operation: &str, weight: f64, units: i64) -> Share {
        Share { operation: operation.into(), weight, units }
    }

    fn said(shares: &[Share], iterations: Known, thresholds: &[&str]) -> Vec<String> {
        let thresholds: Vec<Threshold> = thresholds.iter().map(|t| t.parse().unwrap()).collect();
        let demand = Demand { shares, iterations, seconds: 120.0, capacity: 29_500, thresholds: &thresholds };
        unreachable(&demand).into_iter().map(|found| format!("{}: {}", found.threshold, found.arithmetic)).collect()
    }

    #[test]
    fn more_is_asked_for_than_exists() {
        let shares = [share("reserve", 1.0, 5)];
        let arithmetic =
            "12,000 reservations of 5 units ask for 60,000 units, 29,500 exist: at least 6,100 (51 %) must be refused".to_owned();
        let exactly = Known::Exactly(12_000);
        assert_eq!(said(&shares, exactly, &["refused.rate<0.02"]), [format!("refused:rate<0.02: {arithmetic}")]);
        for threshold in [
            "reserve.refused:rate<0.5",
            "refused:count==0",
            "refused:count<6100",
            "refused:rate<50/s",
            "committed:rate>0.99",
            "committed:rate>=0.4917",
        ] {
            assert_eq!(said(&shares, exactly, &[threshold]), [format!("{threshold}: {arithmetic}")]);
        }
        assert_eq!(
            said(&shares, exactly, &["committed:rate>=100/s", "committed:count>=5901"]),
            [
                format!("committed:rate>=100/s: {arithmetic}; at most 5,900 commit, 49.2/s in 120 s"),
                format!("committed:count>=5901: {arithmetic}; at most 5,900 commit"),
            ]
        );
        let reachable = [
            "refused:count<=6100",
            "refused:rate<0.51",
            "refused:rate<51/s",
            "refused:rate>0.9",
            "refused:count!=0",
            "committed:count>=5900",
            "committed:count<5",
            "committed:rate>=0.49",
            "committed:rate>=49/s",
            "release.refused:count==0",
            "aborted:count==0",
            "response:p(95)<1ms",
            "dropped:count==0",
        ];
        assert_eq!(said(&shares, exactly, &reachable), [""; 0]);
        assert_eq!(said(&shares, Known::Exactly(5_900), &["refused:count==0", "committed:rate>=100%"]), [""; 0]);
        assert_eq!(
            said(&shares, Known::Exactly(100), &["iterations:count>100", "iterations:count>=100"]),
            ["iterations:count>100: there are at most 100 iterations"]
        );
    }

    #[test]
    fn a_closed_loop_is_bound_by_what_is_asked_of_it() {
        let shares = [share("reserve", 1.0, 5)];
        assert_eq!(
            said(&shares, Known::Unknown, &["committed:rate>=100/s"]),
            ["committed:rate>=100/s: 29,500 units exist, room for 5,900 reservations of 5 units, 49.2/s in 120 s"]
        );
        assert_eq!(said(&shares, Known::Unknown, &["refused:rate<0.02", "committed:rate>=49/s"]), [""; 0]);
        assert_eq!(
            said(&shares, Known::Unknown, &["refused:rate<0.02", "iterations:rate>=100/s"]),
            [
                "refused:rate<0.02: `iterations:rate>=100/s` asks for 12,000 iterations or more; at least 12,000 reservations of 5 units ask for 60,000 \
              units, 29,500 exist: at least 6,100 (51 %) must be refused"
            ]
        );
        assert_eq!(said(&shares, Known::AtLeast(12_000), &["refused:rate<50%", "refused:rate<52%"]).len(), 1);
        let mixed = [share("reserve", 1.0, 5), share("read", 1.0, 0)];
        assert_eq!(said(&mixed, Known::Unknown, &["committed:rate>=100/s"]), [""; 0], "reading needs no units");
        assert_eq!(said(&mixed, Known::Unknown, &["reserve.committed:rate>=100/s"]).len(), 1);
        let cycle = [share("reserve", 1.0, 5), share("release", 1.0, -5)];
        assert_eq!(said(&cycle, Known::Unknown, &["reserve.committed:rate>=100/s"]), [""; 0], "units come back");
    }

    #[test]
    fn a_mix_is_drawn_and_units_come_back() {
        let shares = [share("reserve", 3.0, 5), share("release", 1.0, -1)];
        let [found] = &said(&shares, Known::Exactly(20_000), &["refused:rate<10%"])[..] else { panic!("one") };
        assert_eq!(
            found,
            "refused:rate<0.1: at least 14,598 reservations of 5 units ask for 72,990 units, 29,500 exist and at most 5,402 come back: at \
             least 7,618 (38 % of all iterations) must be refused"
        );
        let cycle = [share("reserve", 1.0, 5), share("release", 1.0, -5)];
        assert_eq!(said(&cycle, Known::Exactly(1_000_000), &["refused:count==0"]), [""; 0], "as much comes back as is taken");
        let sizes = [share("reserve", 1.0, 5), share("bulk", 1.0, 20)];
        let [found] = &said(&sizes, Known::Exactly(12_000), &["refused:count==0"])[..] else { panic!("one") };
        assert!(found.contains("reservations of 5 to 20 units"), "{found}");
    }

    #[test]
    fn the_expected_share_needs_a_known_number() {
        let shares = [share("reserve", 1.0, 5)];
        let expected = |iterations| {
            expected_refused_share(&Demand { shares: &shares, iterations, seconds: 0.0, capacity: 29_500, thresholds: &[] })
        };
        assert_eq!(expected(Known::Exactly(12_000)), Some((6_100.0 / 12_000.0, 6_100.0 / 12_000.0)));
        assert_eq!(expected(Known::Exactly(10)), Some((0.0, 0.0)));
        assert_eq!(expected(Known::Unknown), None);
    }

    #[test]
    fn nothing_is_claimed_of_nothing() {
        for shares in [vec![], vec![share("reserve", 0.0, 5)], vec![share("read", 1.0, 0)]] {
            assert_eq!(said(&shares, Known::Exactly(1000), &["refused:count==0", "reserve.refused:rate<1%"]), [""; 0]);
        }
        let negative = Demand {
            capacity: -5,
            shares: &[share("reserve", 1.0, 5)],
            iterations: Known::Exactly(4),
            seconds: 0.0,
            thresholds: &[],
        };
        assert_eq!(expected_refused_share(&negative), Some((1.0, 1.0)), "overbooked already: nothing is free");
    }

    /// What a correct server did with a random plan: per operation, iterations and refusals.
    fn simulate(shares: &[Share], iterations: u64, rows: &mut [(i64, i64)], rng_seed: u64) -> Vec<(u64, u64)> {
        let mut rng = ChaCha8Rng::seed_from_u64(rng_seed);
        let total: f64 = shares.iter().map(|share| share.weight).sum();
        let mut counts = vec![(0, 0); shares.len()];
        for _ in 0..iterations {
            let mut draw = rng.random::<f64>() * total;
            let at = shares
                .iter()
                .position(|share| {
                    draw -= share.weight;
                    draw < 0.0
                })
                .unwrap_or(0);
            let (free, scheduled) = &mut rows[rng.random_range(0..rows.len())];
            counts[at].0 += 1;
            let units = shares[at].units;
            if *free >= units && *scheduled >= -units {
                *free -= units;
                *scheduled += units;
            } else {
                counts[at].1 += 1;
            }
        }
        counts
    }

    proptest! {
        #[test]
        fn what_a_correct_server_did_is_never_unreachable(
            mix in prop::collection::vec((0_u8..4, -6_i64..12), 1..4),
            rows in prop::collection::vec((0_i64..300, 0_i64..100), 1..4),
            iterations in 1_u64..3000,
            rng_seed in any::<u64>(),
        ) {
            let names = ["alpha", "beta", "gamma"];
            let shares: Vec<Share> = mix.iter().zip(names).map(|((weight, units), name)| share(name, f64::from(*weight), *units)).collect();
            prop_assume!(shares.iter().any(|share| share.weight > 0.0));
            let capacity = rows.iter().map(|(free, _)| free).sum();
            let counts = simulate(&shares, iterations, &mut rows.clone(), rng_seed);
            let mut promises = Vec::new();
            let mut promise = |prefix: String, n: u64, refused: u64| {
                let committed = n - refused;
                promises.extend([format!("{prefix}refused:count=={refused}"), format!("{prefix}committed:count=={committed}")]);
                promises.extend([format!("{prefix}iterations:count=={n}"), format!("{prefix}refused:rate=={}/s", refused as f64 / 7.0)]);
                promises.push(format!("{prefix}committed:rate=={}/s", committed as f64 / 7.0));
                if n > 0 {
                    promises.push(format!("{prefix}refused:rate=={}", refused as f64 / n as f64));
                    promises.push(format!("{prefix}committed:rate=={}", committed as f64 / n as f64));
                    promises.extend((committed > 0).then(|| format!("{prefix}committed:count>={committed}")));
                }
            };
            let refused = counts.iter().map(|(_, refused)| refused).sum::<u64>();
            promise(String::new(), iterations, refused);
            for ((n, refused), name) in counts.iter().zip(names) {
                promise(format!("{name}."), *n, *refused);
            }
            let thresholds: Vec<Threshold> = promises.iter().map(|text| text.parse().unwrap()).collect();
            for known in [Known::Exactly(iterations), Known::AtLeast(iterations / 2), Known::Unknown] {
                let demand = Demand { shares: &shares, iterations: known, seconds: 7.0, capacity, thresholds: &thresholds };
                prop_assert_eq!(unreachable(&demand), []);
                if let Some((of_all, of_reservations)) = expected_refused_share(&demand) {
                    prop_assert!(of_all <= refused as f64 / iterations as f64);
                    let reserving = counts.iter().zip(&shares).filter(|(_, share)| share.units > 0);
                    let (n, refused) = reserving.fold((0, 0), |sum, (count, _)| (sum.0 + count.0, sum.1 + count.1));
                    prop_assert!(of_reservations == 0.0 || of_reservations <= refused as f64 / n as f64);
                }
            }
        }
    }
}
