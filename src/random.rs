//! Randomness, in one place: ids and nonces that nobody can guess.

use uuid::Uuid;

/// 64 random bits.
pub fn bits() -> u64 {
    #[cfg(test)]
    if let Some(bits) = simulated::bits() {
        return bits;
    }
    // The six bits of an id that are not random lie under random ones of the other half.
    let (high, low) = Uuid::new_v4().as_u64_pair();
    high ^ low.rotate_left(32)
}

/// An unguessable id that sorts by time: 32 hexadecimal digits.
pub fn id() -> String {
    #[cfg(test)]
    if let (Some(high), Some(low)) = (simulated::bits(), simulated::bits()) {
        return format!("{high:016x}{low:016x}");
    }
    Uuid::now_v7().simple().to_string()
}

/// A random number below `bound`; 0 when that is 0.
pub fn below(bound: u64) -> u64 {
    if bound == 0 { 0 } else { bits() % bound }
}

/// Numbers that follow from a seed, on the threads of a simulation.
#[cfg(test)]
pub mod simulated {
    use std::cell::Cell;

    thread_local! {
        static STATE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// From here on this thread's numbers follow from `seed`.
    pub fn begin(seed: u64) {
        STATE.set(Some(seed));
    }

    /// This thread's numbers are random again.
    pub fn end() {
        STATE.set(None);
    }

    /// The next number (splitmix64).
    pub fn bits() -> Option<u64> {
        let state = STATE.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
        STATE.set(Some(state));
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(bits ^ (bits >> 31))
    }
}
