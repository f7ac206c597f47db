//! [SIGNAL] The best period between checkpoints, after Young and Daly: the longer a checkpoint takes and the
//! rarer the machine fails, the fewer there should be.

/// Milliseconds of running time from one checkpoint to the next, for a checkpoint that makes the program stand
/// still for `cost` and a machine that fails once in `mtbf`, all in milliseconds.
///
/// With s = sqrt(2 cost mtbf) Daly's estimate of higher order is s (1 + a/3 + a²/9) - cost with a = cost / s; from
/// cost = 2 mtbf on it is mtbf.
pub fn best_period(cost: u64, mtbf: u64) -> u64 {
    // A year and some hours: their product, doubled, fits.
    let cost = cost.clamp(1, 1 << 28);
    let mtbf = mtbf.clamp(1, 1 << 34);
    if cost >= 2 * mtbf {
        return mtbf;
    }
    let s = (2 * cost * mtbf).isqrt().max(1);
    (s + cost * cost / (9 * s)).saturating_sub((2 * cost).div_ceil(3)).max(1)
}

#[cfg(test)]
mod tests {
    use super::best_period;

    #[test]
    fn as_the_formula_says() {
        const SECOND: u64 = 1000;
        const HOUR: u64 = 3600 * SECOND;
        // 10 s and a day: sqrt(2 * 10 * 86400) = 1314.5 s, less two thirds of the cost, plus 8 ms.
        let period = best_period(10 * SECOND, 24 * HOUR);
        assert!((1_307_500..1_308_500).contains(&period), "{period}");
        // 12 ms and an hour.
        let period = best_period(12, HOUR);
        assert!((9_250..9_300).contains(&period), "{period}");
        // Four times the cost, twice the period; four times the time between failures, too.
        let double = best_period(48, HOUR) as f64 / period as f64;
        assert!((1.98..2.0).contains(&double), "{double}");
        let double = best_period(12, 4 * HOUR) as f64 / period as f64;
        assert!((1.99..2.01).contains(&double), "{double}");
    }

    #[test]
    fn extremes_stay_in_bounds() {
        assert_eq!(best_period(10_000, 1000), 1000);
        assert_eq!(best_period(2000, 1000), 1000);
        assert!(best_period(0, 0) >= 1);
        for cost in [0, 1, 7, 1 << 20, 1 << 28, u64::MAX] {
            for mtbf in [0, 1, 1000, 1 << 34, u64::MAX] {
                let period = best_period(cost, mtbf);
                assert!(period <= 1 << 33, "{cost} {mtbf}: {period}");
            }
        }
    }
}
