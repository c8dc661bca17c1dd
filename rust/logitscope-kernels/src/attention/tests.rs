//! Attention against a dense computation in `f64` that shares no code with it.

use super::*;
use crate::threads::{self, Cancel};
use crate::view::{Heads, Rows};
use logitscope_simd::Element;

/// A stream of numbers in [-1, 1), the same on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn vec<T: Element>(&mut self, n: usize) -> Vec<T> {
        (0..n).map(|_| T::from_f64(2.0 * self.next())).collect()
    }
}

/// Batch, query heads, key heads, queries, keys, `head_dim`, value dim.
#[derive(Clone, Copy, Debug)]
struct Sizes(usize, usize, usize, usize, usize, usize, usize);

struct Case<T> {
    sizes: Sizes,
    causal: Causal,
    scale: T,
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    temperature: Vec<T>,
    dout: Vec<T>,
    dlse: Vec<T>,
    dentropy: Vec<T>,
}

#[derive(Default, Debug, PartialEq)]
struct Results<T> {
    out: Vec<T>,
    max_logit: Vec<T>,
    inv_sum: Vec<T>,
    lse: Vec<T>,
    entropy: Vec<T>,
    dq: Vec<T>,
    dk: Vec<T>,
    dv: Vec<T>,
    dtemperature: Vec<T>,
}

impl<T: Element> Case<T> {
    fn new(sizes: Sizes, causal: Causal) -> Self {
        let Sizes(b, h, g, lq, lk, d, dv) = sizes;
        let mut numbers = Numbers(1 + lq as u64);
        Self {
            sizes,
            causal,
            scale: T::from_f64(0.4),
            q: numbers.vec(b * h * lq * d),
            k: numbers.vec(b * g * lk * d),
            v: numbers.vec(b * g * lk * dv),
            temperature: numbers.vec(b * h * lq),
            dout: numbers.vec(b * h * lq * dv),
            dlse: numbers.vec(b * h * lq),
            dentropy: numbers.vec(b * h * lq),
        }
    }

    fn run(&self) -> Results<T> {
        let Sizes(b, h, g, lq, lk, d, dv) = self.sizes;
        let rows = b * h * lq;
        let row_view = |data| Rows::new(data, [b, h, lq], [h * lq, lq, 1]);
        let problem = Problem {
            queries: Heads::contiguous(&self.q, [b, h, lq, d]),
            keys: Heads::contiguous(&self.k, [b, g, lk, d]),
            values: Heads::contiguous(&self.v, [b, g, lk, dv]),
            scale: self.scale,
            inv_temperature: Some(row_view(&self.temperature)),
            causal: self.causal,
        };
        let zeros = |n| vec![T::NAN; n];
        let mut r = Results {
            out: zeros(rows * dv),
            max_logit: zeros(rows),
            inv_sum: zeros(rows),
            lse: zeros(rows),
            entropy: zeros(rows),
            dq: zeros(rows * d),
            dk: zeros(b * g * lk * d),
            dv: zeros(b * g * lk * dv),
            dtemperature: zeros(rows),
        };
        let output = Output {
            out: &mut r.out,
            statistics: Statistics {
                max_logit: &mut r.max_logit,
                inv_sum: &mut r.inv_sum,
                lse: &mut r.lse,
                entropy: Some(&mut r.entropy),
            },
            map: None,
        };
        forward(&problem, output, &Cancel::default()).unwrap();
        let upstream = Upstream {
            out: Heads::contiguous(&r.out, [b, h, lq, dv]),
            max_logit: row_view(&r.max_logit),
            inv_sum: row_view(&r.inv_sum),
            dout: Heads::contiguous(&self.dout, [b, h, lq, dv]),
            dlse: Some(row_view(&self.dlse)),
            entropy: Some((row_view(&r.entropy), row_view(&self.dentropy))),
        };
        let gradients = Gradients {
            queries: &mut r.dq,
            keys: &mut r.dk,
            values: &mut r.dv,
            inv_temperature: Some(&mut r.dtemperature),
        };
        backward(&problem, &upstream, gradients, &Cancel::default()).unwrap();
        r
    }

    /// The formulas of the module, row by row, in `f64`.
    fn dense(&self) -> Results<f64> {
        let Sizes(b, h, g, lq, lk, d, dv) = self.sizes;
        let wide = |x: &[T]| x.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
        let (q, k, v, dout) = (wide(&self.q), wide(&self.k), wide(&self.v), wide(&self.dout));
        let scale = self.scale.to_f64();
        let mut r = Results::<f64> { dk: vec![0.0; k.len()], dv: vec![0.0; v.len()], ..Default::default() };
        for row in 0..b * h * lq {
            let (batch, head, i) = (row / (h * lq), row / lq % h, row % lq);
            let kv = (batch * g + head / (h / g)) * lk;
            let visible = match self.causal {
                Causal::No => lk,
                Causal::TopLeft => lk.min(i + 1),
                Causal::BottomRight => (i + 1 + lk).saturating_sub(lq).min(lk),
            };
            let (q, dout) = (&q[row * d..][..d], &dout[row * dv..][..dv]);
            let k = |j: usize| &k[(kv + j) * d..][..d];
            let v = |j: usize| &v[(kv + j) * dv..][..dv];
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let t = self.temperature[row].to_f64();
            let s: Vec<_> = (0..visible).map(|j| scale * t * dot(q, k(j))).collect();
            let m = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let l: f64 = s.iter().map(|s| (s - m).exp()).sum();
            let p: Vec<_> = s.iter().map(|s| (s - m).exp() / l).collect();
            let entropy: f64 = -p.iter().filter(|&&p| p > 0.0).map(|p| p * p.ln()).sum::<f64>();
            let out: Vec<_> = (0..dv).map(|c| (0..visible).map(|j| p[j] * v(j)[c]).sum::<f64>()).collect();
            let delta = dot(dout, &out);
            let (dlse, dentropy) = (self.dlse[row].to_f64(), self.dentropy[row].to_f64());
            let mut u = vec![0.0; d];
            for (j, p) in p.iter().enumerate() {
                let slope = dot(dout, v(j)) - delta + dlse - dentropy * (p.ln() + entropy);
                let ds = p * slope;
                for c in 0..d {
                    u[c] += scale * ds * k(j)[c];
                    r.dk[(kv + j) * d + c] += scale * t * ds * q[c];
                }
                for (dv, dout) in r.dv[(kv + j) * dv..].iter_mut().zip(dout) {
                    *dv += p * dout;
                }
            }
            r.dtemperature.push(dot(q, &u));
            r.dq.extend(u.iter().map(|u| t * u));
            r.max_logit.push(m);
            r.inv_sum.push(if visible > 0 { 1.0 / l } else { 0.0 });
            r.lse.push(if visible > 0 { m + l.ln() } else { f64::NEG_INFINITY });
            r.entropy.push(if visible > 0 { entropy } else { 0.0 });
            r.out.extend(out);
        }
        r
    }
}

/// The largest difference relative to the largest number of the reference.
fn error<T: Element>(got: &[T], wanted: &[f64]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let size = wanted.iter().filter(|x| x.is_finite()).fold(1e-3_f64, |a, b| a.max(b.abs()));
    let difference = |(a, b): (&T, &f64)| if a.to_f64() == *b { 0.0 } else { (a.to_f64() - b).abs() / size };
    got.iter().zip(wanted).map(difference).fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

const CASES: [(Sizes, Causal); 9] = [
    (Sizes(1, 1, 1, 1, 1, 1, 1), Causal::No),
    (Sizes(2, 2, 2, 17, 15, 8, 5), Causal::No),
    (Sizes(1, 4, 2, 127, 131, 40, 16), Causal::BottomRight),
    (Sizes(1, 2, 1, 67, 67, 33, 64), Causal::TopLeft),
    (Sizes(1, 1, 1, 150, 20, 16, 16), Causal::BottomRight),
    (Sizes(1, 1, 1, 20, 300, 16, 16), Causal::TopLeft),
    (Sizes(1, 8, 1, 3, 257, 64, 80), Causal::BottomRight),
    (Sizes(1, 1, 1, 5, 0, 4, 4), Causal::No),
    (Sizes(1, 1, 1, 31, 129, 128, 128), Causal::No),
];

fn agrees<T: Element>(limit: f64) {
    for (sizes, causal) in CASES {
        let case = Case::<T>::new(sizes, causal);
        let (got, wanted) = (case.run(), case.dense());
        let errors = [
            ("out", error(&got.out, &wanted.out)),
            ("max_logit", error(&got.max_logit, &wanted.max_logit)),
            ("inv_sum", error(&got.inv_sum, &wanted.inv_sum)),
            ("lse", error(&got.lse, &wanted.lse)),
            ("entropy", error(&got.entropy, &wanted.entropy)),
            ("dq", error(&got.dq, &wanted.dq)),
            ("dk", error(&got.dk, &wanted.dk)),
            ("dv", error(&got.dv, &wanted.dv)),
            ("dtemperature", error(&got.dtemperature, &wanted.dtemperature)),
        ];
        for (name, error) in errors {
            assert!(
                error <= limit,
                "{name} of {sizes:?} {causal:?}: {error:e} on {:?}",
                logitscope_simd::Isa::current()
            );
        }
    }
}

#[test]
fn forward_and_gradients_agree_with_a_dense_computation_on_every_isa() {
    logitscope_testing::each_isa(|_| {
        agrees::<f64>(1e-12);
        agrees::<f32>(2e-5);
    });
}

#[test]
fn results_have_the_same_bits_at_any_number_of_threads() {
    let case = Case::<f32>::new(Sizes(2, 6, 3, 200, 200, 32, 32), Causal::BottomRight);
    threads::set_num_threads(1);
    let wanted = case.run();
    for count in [2, 3, 8] {
        threads::set_num_threads(count);
        assert!(case.run() == wanted, "{count} threads");
    }
    threads::set_num_threads(0);
}

#[test]
fn what_is_hidden_cannot_leak() {
    let (sizes, causal) = (Sizes(1, 1, 1, 80, 80, 16, 16), Causal::BottomRight);
    let clean = Case::<f32>::new(sizes, causal);
    let wanted = clean.run();
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut case = Case::<f32>::new(sizes, causal);
        // The last position: hidden from all queries but the last, and the last query sees all keys.
        let last = 79 * 16;
        for data in [&mut case.q, &mut case.k, &mut case.v, &mut case.dout] {
            data[last..].fill(poison);
        }
        let got = case.run();
        assert!(got.out[..last] == wanted.out[..last], "out with {poison}");
        assert!(got.dq[..last] == wanted.dq[..last], "dq with {poison}");
        assert!(got.lse[..79] == wanted.lse[..79], "lse with {poison}");
        assert!(got.out[last..].iter().all(|x| x.is_nan()), "the poisoned row with {poison}");
    }
}

#[test]
fn a_poisoned_query_changes_no_gradient_of_keys_that_it_does_not_see() {
    let (sizes, causal) = (Sizes(1, 1, 1, 80, 80, 16, 16), Causal::BottomRight);
    let wanted = Case::<f32>::new(sizes, causal).run();
    let mut case = Case::<f32>::new(sizes, causal);
    case.q[..16].fill(f32::NAN);
    let got = case.run();
    assert!(got.dk[16..] == wanted.dk[16..] && got.dv[16..] == wanted.dv[16..]);
    assert!(got.dk[..16].iter().all(|x| x.is_nan()));
}

#[test]
fn a_large_common_offset_costs_no_accuracy() {
    // k = offset in one dimension shifts all scores of a row alike.
    let mut case = Case::<f32>::new(Sizes(1, 1, 1, 33, 65, 4, 4), Causal::No);
    case.scale = 1.0;
    case.temperature.fill(1.0);
    case.q.chunks_mut(4).for_each(|q| q[3] = 1.0);
    case.k.chunks_mut(4).for_each(|k| k[3] = 65536.0);
    case.dout.fill(1.0);
    case.dlse.fill(0.0);
    case.dentropy.fill(0.0);
    let sums = case.run().dv;
    let total: f32 = sums.iter().step_by(4).sum();
    assert!((total / 33.0 - 1.0).abs() < 1e-5, "weights sum to {}", total / 33.0);
}

#[test]
fn the_map_is_the_pooled_dense_map() {
    let Sizes(b, h, _, lq, lk, d, dv) = Sizes(2, 2, 2, 150, 170, 8, 4);
    let mut numbers = Numbers(7);
    let (q, k): (Vec<f64>, Vec<f64>) = (numbers.vec(b * h * lq * d), numbers.vec(b * h * lk * d));
    // Values that are one-hot columns hand out the dense weights.
    let v = vec![0.0; b * h * lk * dv];
    let problem = Problem {
        queries: Heads::contiguous(&q, [b, h, lq, d]),
        keys: Heads::contiguous(&k, [b, h, lk, d]),
        values: Heads::contiguous(&v, [b, h, lk, dv]),
        scale: 1.0,
        inv_temperature: None,
        causal: Causal::BottomRight,
    };
    let bins = MapBins { rows: 37, columns: 50 };
    let mut map = vec![f64::NAN; b * h * 37 * 50];
    let (mut out, mut stats) = (vec![0.0; b * h * lq * dv], vec![0.0; 3 * b * h * lq]);
    let (max_logit, rest) = stats.split_at_mut(b * h * lq);
    let (inv_sum, lse) = rest.split_at_mut(b * h * lq);
    let statistics = Statistics { max_logit, inv_sum, lse, entropy: None };
    let output = Output { out: &mut out, statistics, map: Some((bins, &mut map)) };
    forward(&problem, output, &Cancel::default()).unwrap();
    let mut wanted = vec![0.0; map.len()];
    for head in 0..b * h {
        for i in 0..lq {
            let visible = i + 1 + lk - lq;
            let s: Vec<f64> = (0..visible)
                .map(|j| (0..d).map(|c| q[(head * lq + i) * d + c] * k[(head * lk + j) * d + c]).sum())
                .collect();
            let total: f64 = s.iter().map(|s| s.exp()).sum();
            let row = (0..37).rfind(|&r| bin_edge(r, lq, 37) <= i).unwrap();
            let count = (bin_edge(row + 1, lq, 37) - bin_edge(row, lq, 37)) as f64;
            for (j, s) in s.iter().enumerate() {
                let column = (0..50).rfind(|&c| bin_edge(c, lk, 50) <= j).unwrap();
                wanted[(head * 37 + row) * 50 + column] += s.exp() / total / count;
            }
        }
    }
    assert!(error(&map, &wanted) < 1e-12, "{}", error(&map, &wanted));
    for row in map.chunks(50) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused_by_name() {
    let data = vec![0.0_f32; 1000];
    let heads = |shape| Heads::contiguous(&data, shape);
    let problem = |q, k, v| Problem {
        queries: heads(q),
        keys: heads(k),
        values: heads(v),
        scale: 1.0,
        inv_temperature: None,
        causal: Causal::No,
    };
    let refused = |q, k, v| problem(q, k, v).check().unwrap_err().to_string();
    assert_eq!(
        refused([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 4]),
        "attention: k has shape [1, 2, 3, 5]; use (1, key heads, keys, 4) as q has shape [1, 2, 3, 4]"
    );
    assert_eq!(
        refused([1, 3, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]),
        "attention: k has shape [1, 2, 3, 4]; use a number of heads that divides the 3 heads of q"
    );
    assert_eq!(
        refused([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 4, 4]),
        "attention: v has shape [1, 2, 4, 4]; use (1, 2, 3, any) as k"
    );
}
