//! One attention problem with everything that it may have, run by the kernels and by the book.

use super::super::*;
use crate::threads::Cancel;
use crate::view::{Heads, HeadsMut, Mask, Order, Rows, Scores};
use logitscope_simd::{Element, Stored};

/// A stream of numbers in [-1, 1), the same on every machine.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    pub(super) fn vec<T: Element>(&mut self, n: usize) -> Vec<T> {
        (0..n).map(|_| T::from_f64(2.0 * self.next())).collect()
    }
}

/// Numbers as an array of `X` holds them.
pub(super) fn narrowed<X: Stored>(list: &[X::Wide]) -> Vec<X> {
    list.iter().map(|&x| X::narrow(x)).collect()
}

/// How many top keys of each row are asked for.
pub(super) const TOP: usize = 5;

/// Batch, query heads, key heads, queries, keys, `head_dim`, value dim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes(
    pub(super) usize,
    pub(super) usize,
    pub(super) usize,
    pub(super) usize,
    pub(super) usize,
    pub(super) usize,
    pub(super) usize,
);

/// What hides keys, with its data; the default hides nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Hidden {
    pub(super) align: Align,
    pub(super) left: Option<usize>,
    pub(super) right: Option<usize>,
    pub(super) query_lengths: Option<Vec<usize>>,
    pub(super) key_lengths: Option<Vec<usize>>,
    pub(super) scores: Option<(Vec<u8>, [usize; 4])>,
}

impl Hidden {
    pub(super) fn causal(align: Align) -> Self {
        Self { align, right: Some(0), ..Self::default() }
    }

    fn masks(&self, shape: [usize; 4]) -> Masks<'_> {
        Masks {
            align: self.align,
            left: self.left,
            right: self.right,
            query_lengths: self.query_lengths.as_deref(),
            key_lengths: self.key_lengths.as_deref(),
            scores: self.scores.as_ref().map(|(data, strides)| Mask::new(data, shape, *strides)),
        }
    }

    /// How far key `j` is from the position of query `i`.
    fn distance(&self, [b, i, j]: [usize; 3], queries: usize, keys: usize) -> f64 {
        let queries = self.query_lengths.as_ref().map_or(queries, |lengths| lengths[b]);
        let keys = self.key_lengths.as_ref().map_or(keys, |lengths| lengths[b]);
        let shift = if self.align == Align::TopLeft { 0.0 } else { keys as f64 - queries as f64 };
        (i as f64 + shift - j as f64).abs()
    }

    /// Whether query `i` sees key `j`, by definition.
    pub(super) fn sees(&self, [b, h, i, j]: [usize; 4], queries: usize, keys: usize) -> bool {
        let queries = self.query_lengths.as_ref().map_or(queries, |lengths| lengths[b]);
        let keys = self.key_lengths.as_ref().map_or(keys, |lengths| lengths[b]);
        let shift = if self.align == Align::TopLeft { 0 } else { keys as i128 - queries as i128 };
        let distance = j as i128 - (i as i128 + shift);
        let allowed = |(data, strides): &(Vec<u8>, [usize; 4])| {
            data[b * strides[0] + h * strides[1] + i * strides[2] + j * strides[3]] != 0
        };
        i < queries
            && j < keys
            && self.left.is_none_or(|left| -distance <= left as i128)
            && self.right.is_none_or(|right| distance <= right as i128)
            && self.scores.as_ref().is_none_or(allowed)
    }
}

pub(super) struct Case<T> {
    pub(super) sizes: Sizes,
    pub(super) hidden: Hidden,
    pub(super) scale: T,
    pub(super) q: Vec<T>,
    pub(super) k: Vec<T>,
    pub(super) v: Vec<T>,
    pub(super) temperature: Vec<T>,
    pub(super) sinks: Option<Vec<T>>,
    pub(super) softcap: T,
    /// Numbers and the strides along which they are read; 0 where they are shared.
    pub(super) bias: Option<(Vec<T>, [usize; 4])>,
    pub(super) slopes: Option<Vec<T>>,
    /// Sigmoid weighting with these biases of the heads; with that of the visible keys if there are none.
    pub(super) sigmoid: Option<Vec<T>>,
    pub(super) dropout: Option<Dropout>,
    pub(super) dout: Vec<T>,
    pub(super) dlse: Vec<T>,
    pub(super) dentropy: Vec<T>,
}

#[derive(Default, Debug, PartialEq)]
pub(super) struct Results<T> {
    pub(super) out: Vec<T>,
    pub(super) max_logit: Vec<T>,
    pub(super) inv_sum: Vec<T>,
    pub(super) lse: Vec<T>,
    pub(super) entropy: Vec<T>,
    pub(super) logit_count: Vec<T>,
    pub(super) logit_mean: Vec<T>,
    pub(super) logit_m2: Vec<T>,
    pub(super) variance: Vec<T>,
    pub(super) top_keys: Vec<i64>,
    pub(super) top_weights: Vec<T>,
    pub(super) dq: Vec<T>,
    pub(super) dk: Vec<T>,
    pub(super) dv: Vec<T>,
    pub(super) dtemperature: Vec<T>,
    pub(super) dsinks: Vec<T>,
    pub(super) dslopes: Vec<T>,
    pub(super) dsigmoid: Vec<T>,
    pub(super) dbias: Vec<T>,
}

impl<T: Element> Case<T> {
    pub(super) fn new(sizes: Sizes, hidden: Hidden) -> Self {
        let Sizes(b, h, g, lq, lk, d, dv) = sizes;
        let mut numbers = Numbers(1 + lq as u64);
        Self {
            sizes,
            hidden,
            scale: T::from_f64(0.4),
            q: numbers.vec(b * h * lq * d),
            k: numbers.vec(b * g * lk * d),
            v: numbers.vec(b * g * lk * dv),
            temperature: numbers.vec(b * h * lq),
            sinks: None,
            softcap: T::ZERO,
            bias: None,
            slopes: None,
            sigmoid: None,
            dropout: None,
            dout: numbers.vec(b * h * lq * dv),
            dlse: numbers.vec(b * h * lq),
            dentropy: numbers.vec(b * h * lq),
        }
    }

    /// The results of the kernels.
    pub(super) fn run(&self) -> Results<T> {
        self.run_stored_as::<T>()
    }

    /// The same with queries, keys, values, the output and its gradient stored in fewer bits.
    pub(super) fn run_stored_as<X: Stored<Wide = T>>(&self) -> Results<T> {
        let Sizes(b, h, g, lq, lk, d, dv) = self.sizes;
        let rows = b * h * lq;
        let row_view = |data| Rows::new(data, [b, h, lq], [h * lq, lq, 1]);
        let [q, k, v, dout] = [&self.q, &self.k, &self.v, &self.dout].map(|list| narrowed::<X>(list));
        let (q, k) = (Heads::contiguous(&q, [b, h, lq, d]), Heads::contiguous(&k, [b, g, lk, d]));
        let (v, dout) = (Heads::contiguous(&v, [b, g, lk, dv]), Heads::contiguous(&dout, [b, h, lq, dv]));
        let problem = Problem {
            queries: Operand::new(&q),
            keys: Operand::new(&k),
            values: Operand::new(&v),
            scale: self.scale,
            inv_temperature: Some(row_view(&self.temperature)),
            masks: self.hidden.masks([b, h, lq, lk]),
            softcap: self.softcap,
            bias: self
                .bias
                .as_ref()
                .map(|(data, strides)| Bias::Wide(Scores::new(data, [b, h, lq, lk], *strides))),
            slopes: self.slopes.as_deref(),
            weighting: match &self.sigmoid {
                None => Weighting::Softmax(self.sinks.as_deref()),
                Some(bias) if bias.is_empty() => Weighting::Sigmoid(SigmoidBias::Visible),
                Some(bias) => Weighting::Sigmoid(SigmoidBias::Heads(bias)),
            },
            dropout: self.dropout,
        };
        let zeros = |n| vec![T::NAN; n];
        let stored = |n| vec![X::narrow(T::NAN); n];
        let mut out = stored(rows * dv);
        let (mut dq, mut dk, mut dvalues) =
            (stored(rows * d), stored(b * g * lk * d), stored(b * g * lk * dv));
        let mut r = Results {
            max_logit: zeros(rows),
            inv_sum: zeros(rows),
            lse: zeros(rows),
            entropy: zeros(rows),
            logit_count: zeros(rows),
            logit_mean: zeros(rows),
            logit_m2: zeros(rows),
            variance: zeros(rows),
            top_keys: vec![-2; rows * TOP],
            top_weights: zeros(rows * TOP),
            dtemperature: zeros(rows),
            dsinks: zeros(self.sinks.as_ref().map_or(0, Vec::len)),
            dslopes: zeros(self.slopes.as_ref().map_or(0, Vec::len)),
            dsigmoid: zeros(self.sigmoid.as_ref().map_or(0, |_| h)),
            dbias: zeros(self.bias.as_ref().map_or(0, |_| self.bias_shape().iter().product())),
            ..Results::default()
        };
        let output = Output {
            out: HeadsMut::new(&mut out, [b, h, lq, dv], Order::HeadsFirst),
            statistics: Statistics {
                max_logit: &mut r.max_logit,
                inv_sum: &mut r.inv_sum,
                lse: &mut r.lse,
                entropy: Some(&mut r.entropy),
                logits: Some(Logits {
                    count: &mut r.logit_count,
                    mean: &mut r.logit_mean,
                    m2: &mut r.logit_m2,
                }),
                variance: Some(&mut r.variance),
            },
            map: None,
            top: Some(TopKeys { count: TOP, keys: &mut r.top_keys, weights: &mut r.top_weights }),
        };
        forward(&problem, output, &Cancel::default()).unwrap();
        let out_heads = Heads::contiguous(&out, [b, h, lq, dv]);
        let upstream = Upstream {
            out: Operand::new(&out_heads),
            max_logit: row_view(&r.max_logit),
            inv_sum: row_view(&r.inv_sum),
            dout: Operand::new(&dout),
            dlse: Some(row_view(&self.dlse)),
            entropy: Some((row_view(&r.entropy), row_view(&self.dentropy))),
        };
        let gradients = Gradients {
            queries: HeadsMut::new(&mut dq, [b, h, lq, d], Order::HeadsFirst),
            keys: HeadsMut::new(&mut dk, [b, g, lk, d], Order::HeadsFirst),
            values: HeadsMut::new(&mut dvalues, [b, g, lk, dv], Order::HeadsFirst),
            inv_temperature: Some(&mut r.dtemperature),
            sinks: self.sinks.is_some().then_some(&mut r.dsinks),
            slopes: self.slopes.is_some().then_some(&mut r.dslopes),
            sigmoid_bias: self.sigmoid.is_some().then_some(&mut r.dsigmoid),
        };
        backward(&problem, &upstream, gradients, &Cancel::default()).unwrap();
        if self.bias.is_some() {
            let shape = self.bias_shape();
            bias_gradient(&problem, &upstream, shape, &mut r.dbias, &Cancel::default()).unwrap();
        }
        let wide = |list: &[X]| list.iter().map(|x| x.widen()).collect();
        Results { out: wide(&out), dq: wide(&dq), dk: wide(&dk), dv: wide(&dvalues), ..r }
    }

    /// 1 for each axis along which the bias is shared.
    fn bias_shape(&self) -> [usize; 4] {
        let Sizes(b, h, _, lq, lk, ..) = self.sizes;
        let strides = self.bias.as_ref().map_or([0; 4], |(_, strides)| *strides);
        let mut shape = [b, h, lq, lk];
        for (n, stride) in shape.iter_mut().zip(strides) {
            *n = if stride == 0 { 1 } else { *n };
        }
        shape
    }

    /// The formulas of the module, row by row, in `f64`.
    #[allow(clippy::too_many_lines, reason = "one formula after the other")]
    pub(super) fn dense(&self) -> Results<f64> {
        let Sizes(b, h, g, lq, lk, d, dv) = self.sizes;
        let wide = |x: &[T]| x.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
        let (q, k, v, dout) = (wide(&self.q), wide(&self.k), wide(&self.v), wide(&self.dout));
        let scale = self.scale.to_f64();
        let sinks: Option<Vec<f64>> = self.sinks.as_deref().map(wide);
        let mut r = Results::<f64> { dk: vec![0.0; k.len()], dv: vec![0.0; v.len()], ..Default::default() };
        r.dsinks = vec![0.0; sinks.as_ref().map_or(0, Vec::len)];
        let (slopes, cap) = (self.slopes.as_deref().map(wide), self.softcap.to_f64());
        r.dslopes = vec![0.0; slopes.as_ref().map_or(0, Vec::len)];
        r.dsigmoid = vec![0.0; self.sigmoid.as_ref().map_or(0, |_| h)];
        let bias_shape = self.bias_shape();
        r.dbias = vec![0.0; self.bias.as_ref().map_or(0, |_| bias_shape.iter().product())];
        for row in 0..b * h * lq {
            let (batch, head, i) = (row / (h * lq), row / lq % h, row % lq);
            let kv = (batch * g + head / (h / g)) * lk;
            let (q, dout) = (&q[row * d..][..d], &dout[row * dv..][..dv]);
            let k = |j: usize| &k[(kv + j) * d..][..d];
            let v = |j: usize| &v[(kv + j) * dv..][..dv];
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let t = self.temperature[row].to_f64();
            let bias = |j: usize| {
                let read = |(data, strides): &(Vec<T>, [usize; 4])| {
                    let at =
                        [batch, head, i, j].iter().zip(strides).map(|(i, stride)| i * stride).sum::<usize>();
                    data[at].to_f64()
                };
                self.bias.as_ref().map_or(0.0, read)
            };
            let sees =
                |&j: &usize| self.hidden.sees([batch, head, i, j], lq, lk) && bias(j) != f64::NEG_INFINITY;
            let seen: Vec<_> = (0..lk).filter(sees).collect();
            let z: Vec<_> = seen.iter().map(|&j| scale * t * dot(q, k(j))).collect();
            let bend = |z: f64| if cap > 0.0 { 1.0 / (z / cap).cosh().powi(2) } else { 1.0 };
            let distance = |j: usize| self.hidden.distance([batch, i, j], lq, lk);
            let slope = slopes.as_ref().map_or(0.0, |slopes| slopes[head]);
            let score = |(&z, &j): (&f64, &usize)| {
                let bent = if cap > 0.0 { cap * (z / cap).tanh() } else { z };
                bent + bias(j) - slope * distance(j)
            };
            let s: Vec<_> = z.iter().zip(&seen).map(score).collect();
            let real = self.hidden.query_lengths.as_ref().is_none_or(|lengths| i < lengths[batch]);
            let sink = sinks.as_ref().filter(|_| real).map_or(f64::NEG_INFINITY, |sinks| sinks[head]);
            let max_logit = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weight_bias = self
                .sigmoid
                .as_ref()
                .map(|bias| bias.get(head).map_or(-(seen.len().max(1) as f64).ln(), |bias| bias.to_f64()));
            let m = if weight_bias.is_some() { 0.0 } else { max_logit.max(sink) };
            let sink_share = if sink == f64::NEG_INFINITY { 0.0 } else { (sink - m).exp() };
            let raw: Vec<_> = match weight_bias {
                Some(bias) => s.iter().map(|s| 1.0 / (1.0 + (-s - bias).exp())).collect(),
                None => s.iter().map(|s| (s - m).exp()).collect(),
            };
            let l = raw.iter().sum::<f64>() + sink_share;
            // What is divided by the sum, and what the values are weighted with.
            let p: Vec<_> = raw.iter().map(|w| w / l).collect();
            let w = if weight_bias.is_some() { raw } else { p.clone() };
            let sink_share = if l > 0.0 { sink_share / l } else { 0.0 };
            let nats = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
            let entropy = p.iter().map(|&p| nats(p)).sum::<f64>() + nats(sink_share);
            let n = s.len() as f64;
            let mean = s.iter().sum::<f64>() / n.max(1.0);
            r.logit_count.push(n);
            r.logit_mean.push(mean);
            r.logit_m2.push(s.iter().map(|s| (s - mean).powi(2)).sum());
            let weighted = p.iter().zip(&s).map(|(&p, &s)| (p, s)).chain([(sink_share, sink)]);
            let weighted: Vec<_> = weighted.filter(|(p, _)| *p > 0.0).collect();
            let mean = weighted.iter().map(|(p, s)| p * s).sum::<f64>();
            r.variance.push(weighted.iter().map(|(p, s)| p * (s - mean).powi(2)).sum());
            let mut order: Vec<_> = (0..seen.len()).collect();
            order.sort_by(|&a, &b| s[b].total_cmp(&s[a]));
            for place in 0..TOP {
                r.top_keys.push(order.get(place).map_or(-1, |&index| seen[index] as i64));
                r.top_weights.push(order.get(place).map_or(0.0, |&index| w[index]));
            }
            let factor = |j: usize| self.dropout.map_or(1.0, |rule| dropped(rule, [batch, head, i, j]));
            let out: Vec<_> = (0..dv)
                .map(|c| w.iter().zip(&seen).map(|(w, &j)| factor(j) * w * v(j)[c]).sum::<f64>())
                .collect();
            let delta = dot(dout, &out);
            let (dlse, dentropy) = (self.dlse[row].to_f64(), self.dentropy[row].to_f64());
            let mut u = vec![0.0; d];
            for (index, &j) in seen.iter().enumerate() {
                let (p, w) = (p[index], w[index]);
                if p.is_nan() || p == 0.0 {
                    continue; // no weight at all in the row, or none of this key
                }
                let of_share = dlse - dentropy * (p.ln() + entropy);
                let ds = match weight_bias {
                    Some(_) => w * (1.0 - w) * (factor(j) * dot(dout, v(j)) + of_share / l),
                    None => p * (factor(j) * dot(dout, v(j)) - delta + of_share),
                };
                if let Some(slope) = r.dslopes.get_mut(head) {
                    *slope -= ds * distance(j);
                }
                if let Some(bias) = r.dsigmoid.get_mut(head) {
                    *bias += ds;
                }
                if self.bias.is_some() {
                    let place = [batch, head, i, j].into_iter().zip(bias_shape);
                    r.dbias[place.fold(0, |at, (i, n)| at * n + i.min(n - 1))] += ds;
                }
                let dz = ds * bend(z[index]);
                for c in 0..d {
                    u[c] += scale * dz * k(j)[c];
                    r.dk[(kv + j) * d + c] += scale * t * dz * q[c];
                }
                for (dv, dout) in r.dv[(kv + j) * dv..].iter_mut().zip(dout) {
                    *dv += factor(j) * w * dout;
                }
            }
            if sink_share > 0.0 {
                r.dsinks[head] += sink_share * (dlse - delta - dentropy * (sink_share.ln() + entropy));
            }
            r.dtemperature.push(dot(q, &u));
            r.dq.extend(u.iter().map(|u| t * u));
            r.max_logit.push(max_logit);
            r.inv_sum.push(if l > 0.0 { 1.0 / l } else { 0.0 });
            r.lse.push(if l > 0.0 { m + l.ln() } else { f64::NEG_INFINITY });
            r.entropy.push(entropy);
            r.out.extend(out);
        }
        r
    }
}

/// What the weight of one score is multiplied by.
fn dropped(rule: Dropout, [batch, head, query, key]: [usize; 4]) -> f64 {
    let counter = [key / 8, query, head, batch].map(|x| u32::try_from(x).unwrap());
    let words = logitscope_testing::philox4x32(counter, [rule.seed as u32, (rule.seed >> 32) as u32]);
    let number = (words[key % 8 / 2] >> (16 * (key % 2))) & 0xffff;
    let threshold = (rule.rate * 65536.0).round_ties_even();
    if f64::from(number) < threshold { 0.0 } else { 65536.0 / (65536.0 - threshold) }
}
