//! What the tests of all crates share: oracles in `f64`, errors in units in the last place, every
//! instruction set, AMX also where the CPU has none, the sizes that break kernels, and numbers that are random but
//! always the same.

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod amx;
mod isa;
mod oracle;
mod random;
mod ulp;

#[cfg(target_arch = "x86_64")]
pub use isa::has_configured_tiles;
pub use isa::{at_best, each_isa, with_tiles};
pub use oracle::{cross_entropy, log_sum_exp, philox4x32, softmax};
pub use random::Random;
pub use ulp::{assert_within_ulps, same_bits, ulps};

use logitscope_simd::Element;

/// Lengths around everything a kernel treats specially: nothing, one element, a vector more or less, a
/// few vectors with a rest, primes, and some that are long for a test.
pub fn sizes<T: Element>() -> Vec<usize> {
    let lanes = T::LANES;
    vec![0, 1, 2, lanes - 1, lanes, lanes + 1, 4 * lanes + 3, 61, 127, 257, 1000, 8191]
}
