//! Dropout of attention weights, with the numbers that the CPU draws.

/// How many weights are dropped, and which.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share of the weights that is dropped; at least 0, below 1.
    pub rate: f64,
    /// Another seed drops others.
    pub seed: u64,
}

impl Dropout {
    /// What the shaders are told: numbers of 16 bits below the first are dropped, what is kept counts the second times.
    pub(super) fn words(self) -> [u32; 4] {
        // A rate that rounds to 1 would drop all.
        let threshold = ((self.rate * 65536.0).round_ties_even() as u32).min(65535);
        let kept = 65536.0 / f64::from(65536 - threshold);
        [threshold, (kept as f32).to_bits(), self.seed as u32, (self.seed >> 32) as u32]
    }
}
