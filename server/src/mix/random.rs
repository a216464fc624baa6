//! The simulator's own random numbers: small, fast, and the same for a seed in every version. Used by all of `mix` and by
//! readers that want its popularity curve. Not for secrets.

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 by Steele, Lea and Flood: its state is a counter.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// SplitMix64's finalizer: a bijection that scatters.
pub fn scatter(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Random(scatter(seed ^ STEP))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        scatter(self.0)
    }

    /// Uniform in 0..bound; 0 when bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Zipf-like popularity over 0..count: rank 0 is the most popular. The inverse of the continuous distribution function
/// of x^-exponent, so sampling is a few multiplications and no table.
#[derive(Debug, Clone)]
pub struct Zipf {
    count: u64,
    span: f64,
    power: f64,
}

impl Zipf {
    /// Popularity over `count` ranks; the exponent is at least 0 and not exactly 1 (0.99 is the usual choice).
    pub fn new(count: u64, exponent: f64) -> Self {
        let flat = 1.0 - exponent;
        Zipf { count: count.max(1), span: (count.max(1) as f64).powf(flat) - 1.0, power: 1.0 / flat }
    }

    /// A rank in 0..count.
    pub fn sample(&self, random: &mut Random) -> u64 {
        let rank = (self.span * random.unit() + 1.0).powf(self.power) as u64;
        rank.saturating_sub(1).min(self.count - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_prefers_low_ranks_and_reaches_high_ones() {
        let (zipf, mut random) = (Zipf::new(1000, 0.99), Random::new(7));
        let mut counts = vec![0_u32; 1000];
        (0..200_000).for_each(|_| counts[zipf.sample(&mut random) as usize] += 1);
        assert!(counts[0] > 5 * counts[20], "{} {}", counts[0], counts[20]);
        assert!(counts[20] > counts[900], "{} {}", counts[20], counts[900]);
        assert!(counts[900..].iter().sum::<u32>() > 500);
    }

    #[test]
    fn below_stays_below() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
    }
}
