//! 16-bit numbers against their definition, every one of the 65536 bit patterns.

use logitscope_simd::{BF16, Element, F16, Kernel, Simd, Stored};
use logitscope_testing::{at_best, each_isa};

/// What the bits of a number with so many exponent and fraction bits mean.
fn meaning(bits: u16, exponent_bits: u32, fraction_bits: u32) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((bits >> fraction_bits) & ((1 << exponent_bits) - 1));
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1_u32 << fraction_bits);
    let bias = (1 << (exponent_bits - 1)) - 1;
    if exponent == (1 << exponent_bits) - 1 {
        return if fraction == 0.0 { sign * f64::INFINITY } else { f64::NAN };
    }
    if exponent == 0 {
        return sign * fraction * 2.0_f64.powi(1 - bias);
    }
    sign * (1.0 + fraction) * 2.0_f64.powi(exponent - bias)
}

fn check_widening<X: Stored<Wide = f32>>(new: fn(u16) -> X, exponent_bits: u32, fraction_bits: u32) {
    let all: Vec<X> = (0..=u16::MAX).map(new).collect();
    each_isa(|isa| {
        let mut buffer = Vec::new();
        // Not from the start, so that blocks are not aligned and a tail is left.
        let wide = X::wide(&all[1..], &mut buffer);
        for (bits, &wide) in (1..=u16::MAX).zip(wide) {
            let want = meaning(bits, exponent_bits, fraction_bits);
            let same = f64::from(wide) == want || wide.is_nan() && want.is_nan();
            assert!(same, "{bits:#06x} is {want}, got {wide} on {}", isa.name());
        }
    });
}

#[test]
fn widening_is_exact() {
    check_widening(F16, 5, 10);
    check_widening(BF16, 8, 7);
}

/// Every number rounds to itself; what lies between two neighbours goes to the nearer, in the middle to the even one.
fn check_rounding<X: Stored<Wide = f32>>(new: fn(u16) -> X, bits_of: fn(X) -> u16, infinity: u16) {
    for bits in 0..infinity {
        let (here, next) = (new(bits).widen(), new(bits + 1).widen());
        // From the largest number on, infinity is as far away as the number before.
        let below = || (here - new(bits - 1).widen()) / 2.0;
        let middle = if next.is_infinite() { here + below() } else { f32::midpoint(here, next) };
        let even = if bits % 2 == 0 { bits } else { bits + 1 };
        let cases = [(here, bits), (middle.next_down(), bits), (middle, even), (middle.next_up(), bits + 1)];
        for (number, want) in cases {
            assert_eq!(bits_of(X::narrow(number)), want, "{number:e} beside {here:e}");
            assert_eq!(bits_of(X::narrow(-number)), want | 0x8000, "{number:e} beside {here:e}");
        }
    }
    assert_eq!(bits_of(X::narrow(f32::INFINITY)), infinity);
    assert!(X::narrow(f32::NAN).widen().is_nan());
    assert!(X::narrow(f32::from_bits(0x7f80_0001)).widen().is_nan(), "a NaN of low bits alone stays one");
}

#[test]
fn rounding_is_to_nearest_even() {
    check_rounding(F16, |x| x.0, 0x7c00);
    check_rounding(BF16, |x| x.0, 0x7f80);
}

#[test]
fn rows_round_like_numbers_on_every_instruction_set() {
    let numbers: Vec<f32> =
        (0..1_000_003_u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761))).collect();
    let check = |name: &str| {
        let mut halves = vec![F16(0); numbers.len()];
        F16::settle(&numbers, &mut halves);
        let mut brains = vec![BF16(0); numbers.len()];
        BF16::settle(&numbers, &mut brains);
        for (index, &number) in numbers.iter().enumerate() {
            assert_eq!(halves[index], F16::narrow(number), "{number:e} on {name}");
            assert_eq!(brains[index], BF16::narrow(number), "{number:e} on {name}");
        }
    };
    each_isa(|isa| check(isa.name()));
    at_best(|| check("instructions for bfloat16"));
}

#[test]
fn two_vectors_round_like_numbers_but_for_denormals() {
    struct Two<'a> {
        numbers: &'a [f32],
        out: &'a mut [BF16],
    }
    impl Kernel<f32> for Two<'_> {
        type Output = ();

        fn run<S: Simd<f32>>(self, simd: S) {
            let blocks = self.numbers.as_chunks::<16>().0.as_chunks::<2>().0;
            for ([a, b], packs) in blocks.iter().zip(BF16::packs_mut(self.out).0.as_chunks_mut().0) {
                BF16::store_two(simd, [simd.load(a), simd.load(b)], packs);
            }
        }
    }
    let any = (0..100_000_u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
    let mut numbers: Vec<f32> = any.filter(|x| !x.is_subnormal()).collect();
    numbers.truncate(numbers.len() / 32 * 32);
    let check = |name: &str| {
        let mut brains = vec![BF16(0); numbers.len()];
        BF16::run(Two { numbers: &numbers, out: &mut brains });
        for (got, &number) in brains.iter().zip(&numbers) {
            assert_eq!(*got, BF16::narrow(number), "{number:e} on {name}");
        }
    };
    each_isa(|isa| check(isa.name()));
    at_best(|| check("instructions for bfloat16"));
}

/// Two packs as they are read together, and put in order again.
struct Twos<'a>(&'a [BF16; 32]);

impl Kernel<f32> for Twos<'_> {
    type Output = ([[f32; 16]; 2], [f32; 32]);

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) -> Self::Output {
        let packs = BF16::packs(self.0).0;
        let [a, b] = BF16::load_two(simd, &[packs[0], packs[1]]);
        let read = [simd.to_block(a), simd.to_block(b)];
        let mut ordered = read;
        BF16::put_in_order(&mut ordered);
        (read, ordered.as_flattened().try_into().expect("two vectors"))
    }
}

#[test]
fn two_packs_read_together_are_those_numbers_in_one_order_everywhere() {
    let numbers: [BF16; 32] = std::array::from_fn(|i| BF16((i * 1999 + 127) as u16));
    each_isa(|isa| {
        let (read, ordered) = f32::dispatch(Twos(&numbers));
        for i in 0..32 {
            assert_eq!(ordered[i].to_bits(), numbers[i].widen().to_bits(), "{i} on {}", isa.name());
            assert_eq!(read[i % 2][i / 2].to_bits(), ordered[i].to_bits(), "{i} on {}", isa.name());
        }
    });
}
