//! How long after something went wrong did anything succeed again?
//!
//! From the moment it was done to the first acknowledgement of an attempt that began afterwards: what was under way already proves nothing.

/// The first success after each of the moments at which something went wrong. Times are nanoseconds on the run's clock.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// In ascending order.
    moments: Vec<u64>,
    /// By moment: the first answer among the attempts that began after it and before the next.
    first: Vec<u64>,
}

impl Recovery {
    /// After these moments.
    pub fn after(mut moments: Vec<u64>) -> Self {
        moments.sort_unstable();
        let first = vec![u64::MAX; moments.len()];
        Self { moments, first }
    }

    /// An attempt that began then succeeded then.
    pub fn success(&mut self, began: u64, finished: u64) {
        if let Some(last) = self.moments.partition_point(|at| *at <= began).checked_sub(1) {
            self.first[last] = self.first[last].min(finished);
        }
    }

    /// From `moment` to the first success after it, nanoseconds; `None` if there was none.
    pub fn time(&self, moment: u64) -> Option<u64> {
        let from = self.moments.partition_point(|at| *at < moment);
        let first = self.first[from..].iter().min().copied().filter(|first| *first < u64::MAX)?;
        Some(first.saturating_sub(moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_began_afterwards_counts() {
        let mut recovery = Recovery::after(vec![500, 100]);
        recovery.success(50, 120);
        recovery.success(99, 101);
        recovery.success(100, 160);
        recovery.success(110, 150);
        assert_eq!((recovery.time(100), recovery.time(500)), (Some(50), None));
        recovery.success(700, 900);
        assert_eq!((recovery.time(100), recovery.time(500)), (Some(50), Some(400)));
    }

    #[test]
    fn a_success_after_a_later_moment_is_one_after_the_earlier_too() {
        let mut recovery = Recovery::after(vec![100, 200, 300]);
        recovery.success(310, 400);
        assert_eq!([100, 200, 300].map(|at| recovery.time(at)), [Some(300), Some(200), Some(100)]);
    }
}
