//! Chance, so that what failed together does not come back together.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// From 0 to 1, evenly. The standard library's hash keys differ at each call; nothing secret is made of them.
pub fn share() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 32;
    f64::from(u32::try_from(bits).unwrap_or_default()) / f64::from(u32::MAX)
}

/// Up to `most`, evenly.
pub fn up_to(most: Duration) -> Duration {
    most.mul_f64(share())
}

/// Around `middle`, a quarter more or less.
pub fn about(middle: Duration) -> Duration {
    middle.mul_f64(0.75 + share() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_spread() {
        let low = (0..1000).filter(|_| share() < 0.5).count();
        assert!((300..700).contains(&low), "{low} of 1000");
        assert!((0..1000).all(|_| (750..=1250).contains(&about(Duration::from_secs(1)).as_millis())));
    }
}
