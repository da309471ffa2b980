//! Randomness, in one place: ids and nonces that nobody can guess.

use uuid::Uuid;

/// 64 random bits.
pub fn bits() -> u64 {
    Uuid::new_v4().as_u64_pair().1.rotate_left(17) ^ Uuid::new_v4().as_u64_pair().0
}

/// An unguessable id that sorts by time: 32 hexadecimal digits.
pub fn id() -> String {
    Uuid::now_v7().simple().to_string()
}

/// A random number below `bound`; 0 when that is 0.
pub fn below(bound: u64) -> u64 {
    if bound == 0 { 0 } else { bits() % bound }
}
