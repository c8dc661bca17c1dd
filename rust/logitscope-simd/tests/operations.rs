//! Every operation of the vector trait gives the same bits on every instruction set.

use logitscope_simd::{BF16, Element, Isa, Kernel, Simd, Stored};
use logitscope_testing::{Random, each_isa, same_bits};

/// All operations over three lists of numbers, by name.
struct Everything<'a, T> {
    a: &'a [T],
    b: &'a [T],
    c: &'a [T],
    exponents: &'a [T],
}

impl<T: Element> Kernel<T> for Everything<'_, T> {
    type Output = Vec<(&'static str, Vec<T>)>;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> Self::Output {
        let names = [
            "splat",
            "add",
            "sub",
            "mul",
            "div",
            "mul_add",
            "max",
            "round",
            "scale_by_pow2",
            "scale_down_by_pow2",
            "mantissa",
            "exponent",
            "less",
            "bits",
            "zero_where_less",
            "sum",
            "max_lane",
        ];
        let mut results: Vec<_> = names.into_iter().map(|name| (name, Vec::new())).collect();
        let blocks = |list| T::blocks(list).0.iter();
        for (((a, b), c), n) in
            blocks(self.a).zip(blocks(self.b)).zip(blocks(self.c)).zip(blocks(self.exponents))
        {
            let (x, y, z, n) = (simd.load(a), simd.load(b), simd.load(c), simd.load(n));
            let positive = simd.scale_by_pow2(simd.splat(T::from_f64(1.7)), n);
            let vectors = [
                simd.splat(a.as_ref()[1]),
                simd.add(x, y),
                simd.sub(x, y),
                simd.mul(x, y),
                simd.div(x, y),
                simd.mul_add(x, y, z),
                simd.max(x, y),
                simd.round(x),
                positive,
                simd.scale_down_by_pow2(
                    x,
                    simd.sub(simd.splat(T::ZERO), simd.max(n, simd.sub(simd.splat(T::ZERO), n))),
                ),
                simd.split(positive).0,
                simd.split(positive).1,
                simd.select(simd.less(x, y), x, z),
                simd.splat(T::from_f64(simd.bits(simd.less(x, y)) as f64)),
                simd.zero_where_less(x, y, z),
                simd.splat(simd.sum(x)),
                simd.splat(simd.max_lane(x)),
            ];
            for (vector, (_, values)) in vectors.into_iter().zip(&mut results) {
                values.extend_from_slice(simd.to_block(vector).as_ref());
            }
        }
        results
    }
}

/// Random numbers of every size, with special values among them.
fn numbers<T: Element>(seed: u64) -> Vec<T> {
    let special = [
        T::ZERO,
        -T::ZERO,
        T::ONE,
        T::NAN,
        T::INFINITY,
        T::NEG_INFINITY,
        T::MIN_POSITIVE,
        T::from_f64(0.5),
        T::from_f64(2.5),
        T::from_f64(-1.5),
        T::from_f64(1e30),
    ];
    let mut random = Random::new(seed);
    let mut number = || match random.below(4) {
        0 => special[random.below(special.len())],
        1 => T::from_f64(random.normal(0.0, 1e5)),
        _ => T::from_f64(random.normal(0.0, 3.0)),
    };
    (0..64 * T::LANES).map(|_| number()).collect()
}

fn check_operations<T: Element>() {
    let (a, b, c) = (numbers::<T>(1), numbers::<T>(2), numbers::<T>(3));
    let limit = if T::LANES == 16 { 126.0 } else { 1022.0 };
    let mut random = Random::new(4);
    let exponents: Vec<T> =
        (0..a.len()).map(|_| T::from_f64(random.uniform(-limit, limit).round())).collect();
    let mut want = Vec::new();
    each_isa(|isa| {
        let got = T::dispatch(Everything { a: &a, b: &b, c: &c, exponents: &exponents });
        if want.is_empty() {
            // The first is the scalar one, which is plain Rust.
            assert_eq!(isa.name(), "scalar");
            want.clone_from(&got);
        }
        for ((name, got), (_, want)) in got.iter().zip(&want) {
            assert!(same_bits(got, want), "{name} on {}: got {got:?}, want {want:?}", isa.name());
        }
    });
}

#[test]
fn operations_give_the_bits_of_scalar_code() {
    check_operations::<f32>();
    check_operations::<f64>();
}

/// Copies a slice through partial loads and stores.
struct CopyTail<'a, T> {
    from: &'a [T],
    to: &'a mut [T],
    fill: T,
}

impl<T: Element> Kernel<T> for CopyTail<'_, T> {
    type Output = Vec<T>;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> Vec<T> {
        let vector = simd.load_partial(self.from, self.fill);
        simd.store_partial(vector, self.to);
        simd.to_block(vector).as_ref().to_vec()
    }
}

fn check_tails<T: Element>() {
    let numbers: Vec<T> = (0..3 * T::LANES).map(|i| T::from_f64(i as f64)).collect();
    each_isa(|isa| {
        for length in 0..=T::LANES {
            for offset in 0..T::LANES {
                let from = &numbers[offset..offset + length];
                let mut to = vec![T::NAN; 2 * T::LANES];
                let lanes = T::dispatch(CopyTail { from, to: &mut to[3..3 + length], fill: T::NEG_INFINITY });
                let name = isa.name();
                assert_eq!(&lanes[..length], from, "{name}, {length} elements at {offset}");
                assert!(lanes[length..].iter().all(|&x| x == T::NEG_INFINITY), "{name}: fill of {length}");
                assert_eq!(&to[3..3 + length], from, "{name}, {length} elements at {offset}");
                let outside = to[..3].iter().chain(&to[3 + length..]);
                assert!(
                    outside.into_iter().all(|x| x.is_nan()),
                    "{name}: {length} elements and no more are written"
                );
            }
        }
    });
}

#[test]
fn tails_read_and_write_their_elements_and_no_others() {
    check_tails::<f32>();
    check_tails::<f64>();
}

/// Writes one number over a slice past the caches.
struct Stream<'a, T>(&'a mut [T]);

impl<T: Element> Kernel<T> for Stream<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        for block in T::blocks_mut(self.0).0 {
            simd.store_stream(simd.splat(T::ONE), block);
        }
        simd.fence();
    }
}

#[test]
fn streamed_stores_arrive_at_any_alignment() {
    each_isa(|isa| {
        for offset in 0..16 {
            let mut numbers = [0.0_f32; 80];
            f32::dispatch(Stream(&mut numbers[offset..offset + 64]));
            let ones = numbers.iter().filter(|&&x| x == 1.0).count();
            assert_eq!(ones, 64, "{} at {offset}", isa.name());
            assert!(numbers[offset..offset + 64].iter().all(|&x| x == 1.0));
        }
    });
}

/// 1.5 * 2^n for an n far below the exponents of normal numbers.
struct FarDown(f64);

impl<T: Element> Kernel<T> for FarDown {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> f64 {
        let n = simd.splat(T::from_f64(self.0));
        simd.max_lane(simd.scale_down_by_pow2(simd.splat(T::from_f64(1.5)), n)).to_f64()
    }
}

#[test]
fn scaling_far_down_gives_next_to_nothing() {
    each_isa(|isa| {
        for n in [-127.0, -128.0, -150.0, -1000.0, -8_388_608.0] {
            let got = f32::dispatch(FarDown(n));
            assert!((0.0..=1.5 * 2.0_f64.powi(-127)).contains(&got), "{n} on {}: {got:e}", isa.name());
        }
        assert!(f64::dispatch(FarDown(-1e6)) == 0.0);
    });
}

/// Numbers as pairs, the sums that they add up to, and whether one instruction does that.
struct Pairs<'a>(&'a [[f32; 16]; 5]);

impl Kernel<f32> for Pairs<'_> {
    type Output = ([f32; 16], [f32; 16], bool);

    #[inline(always)]
    fn run<S: Simd<f32>>(self, simd: S) -> Self::Output {
        let [a, b, c, d, e] = self.0;
        let pairs = simd.pair(simd.load(a), simd.load(b));
        let sums = simd.add_pairs(pairs, simd.pair(simd.load(c), simd.load(d)), simd.load(e));
        (simd.to_block(pairs), simd.to_block(sums), S::HAS_PAIRS)
    }
}

#[test]
fn pairs_are_rounded_to_half_the_bits_and_their_products_added() {
    let mut random = Random::new(5);
    let mut numbers = [[0.0_f32; 16]; 5];
    for number in numbers.as_flattened_mut() {
        *number = random.uniform(-2.0, 2.0) as f32;
    }
    numbers[0][0] = f32::NAN;
    numbers[1][1] = f32::INFINITY;
    let bf16 = |x: f32| BF16::narrow(x).widen();
    let is_near = |a: f32, b: f32| a.is_nan() && b.is_nan() || a == b || (a - b).abs() < 1e-5;
    each_isa(|isa| {
        let (pairs, sums, is_instruction) = f32::dispatch(Pairs(&numbers));
        assert!(!is_instruction);
        for lane in 0..16 {
            let [a, b, c, d, e] = numbers.map(|list| list[lane]);
            let (low, high) = pairs[lane].halves();
            assert!(same_bits(&[low, high], &[bf16(a), bf16(b)]), "{low} {high} on {}", isa.name());
            let wanted = e + bf16(a) * bf16(c) + bf16(b) * bf16(d);
            assert!(is_near(sums[lane], wanted), "{} for {wanted} on {}", sums[lane], isa.name());
        }
        // The instruction, where there is one, against the plain path.
        Isa::select("auto").unwrap();
        let (other_pairs, other_sums, is_instruction) = f32::dispatch_pairs(Pairs(&numbers));
        assert_eq!(is_instruction, Isa::uses_pairs());
        assert!(same_bits(&other_pairs, &pairs));
        assert!(other_sums.iter().zip(&sums).all(|(&a, &b)| is_near(a, b)));
    });
}
