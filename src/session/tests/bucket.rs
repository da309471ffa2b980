//! `Bucket` against exact arithmetic: tokens counted in 256ths (which floats hold
//! exactly), time in whole milliseconds.

use proptest::prelude::*;

use super::*;

const UNIT: u64 = 256;

struct Model {
    tokens: u64,
    at_ms: u64,
    rate: u64,
    burst: u64,
}

impl Model {
    fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        self.tokens = self.burst.min(self.tokens + passed_ms * self.rate);
        if self.tokens >= UNIT {
            self.tokens -= UNIT;
            return Ok(());
        }
        Err((UNIT - self.tokens).div_ceil(self.rate).clamp(1, 3_600_000))
    }
}

proptest! {
    #[test]
    fn it_counts_as_exact_arithmetic_does(
        power in 0..8_u32,
        burst in 1..50_u64,
        steps in proptest::collection::vec((0..3_000_i64).prop_map(|step| step - 200), 1..200),
    ) {
        let per_ms = 1_u64 << power;
        let mut bucket = Bucket::new(per_ms as f64 / UNIT as f64, burst as f64, 10_000);
        let mut model = Model { tokens: burst * UNIT, at_ms: 10_000, rate: per_ms, burst: burst * UNIT };
        let mut now_ms = 10_000_u64;
        for step in steps {
            now_ms = now_ms.saturating_add_signed(step / 8);
            let taken = bucket.take(now_ms);
            prop_assert_eq!(taken, model.take(now_ms));
            if let Err(wait_ms) = taken {
                let mut later = bucket;
                prop_assert_eq!(later.take(model.at_ms + wait_ms), Ok(()));
            }
        }
    }
}

#[test]
fn a_rate_of_nothing_waits_no_longer_than_an_hour() {
    let mut bucket = Bucket::new(0.0, 1.0, 0);
    assert_eq!(bucket.take(0), Ok(()));
    assert_eq!(bucket.take(1), Err(3_600_000));
}
