//! The operations on one row: by instruction set and size, on one thread. Throughput is in bytes of the row.

use criterion::{BenchmarkId, Criterion, Throughput};
use logitscope_bench::{each_vector_isa, sizes};
use logitscope_kernels::cross_entropy::{
    Gradient, Options as LossOptions, Output, Problem, Statistics, Targets, cross_entropy,
};
use logitscope_kernels::log_softmax::{log_softmax, log_softmax_backward};
use logitscope_kernels::logsumexp::logsumexp;
use logitscope_kernels::softmax::{Algorithm, Options, softmax, softmax_backward};
use logitscope_kernels::softmax_stats::softmax_stats;
use logitscope_kernels::{Cancel, Heads, Result, threads};
use logitscope_testing::Random;
use std::hint::black_box;
use std::time::Duration;

/// A row and arrays of its size.
struct Arrays {
    x: Vec<f32>,
    y: Vec<f32>,
    out: Vec<f32>,
}

type Operation = fn(&mut Arrays) -> Result<()>;

const OPERATIONS: [(&str, Operation); 11] = [
    ("softmax_three_pass_recompute", |arrays| softmax_by(Algorithm::ThreePassRecompute, arrays)),
    ("softmax_three_pass_reload", |arrays| softmax_by(Algorithm::ThreePassReload, arrays)),
    ("softmax_two_pass", |arrays| softmax_by(Algorithm::TwoPass, arrays)),
    ("softmax_online", |arrays| softmax_by(Algorithm::Online, arrays)),
    ("softmax_backward", |Arrays { x, y, out }| {
        softmax_backward(y, x, x.len(), 1.0, out, &Cancel::default())
    }),
    ("log_softmax", |Arrays { x, out, .. }| log_softmax(x, x.len(), 1.0, out, &Cancel::default())),
    ("log_softmax_backward", |Arrays { x, y, out }| {
        log_softmax_backward(y, x, x.len(), 1.0, out, &Cancel::default())
    }),
    ("logsumexp", |Arrays { x, out, .. }| logsumexp(x, x.len(), &mut out[..1], &Cancel::default())),
    ("softmax_stats", |Arrays { x, .. }| {
        softmax_stats(x, x.len(), &Cancel::default()).map(|stats| {
            black_box(stats);
        })
    }),
    ("cross_entropy", |Arrays { x, .. }| loss(x, None)),
    ("cross_entropy_with_gradient", |Arrays { x, out, .. }| loss(x, Some(out))),
];

fn softmax_by(algorithm: Algorithm, Arrays { x, out, .. }: &mut Arrays) -> Result<()> {
    softmax(x, x.len(), Options { algorithm, ..Options::default() }, out, &Cancel::default())
}

fn loss(x: &[f32], gradient: Option<&mut Vec<f32>>) -> Result<()> {
    let problem = Problem {
        logits: Heads::contiguous(x, [1, 1, 1, x.len()]),
        targets: Targets::Classes { of_rows: &[1], ignore_index: -100 },
        weight: None,
        options: LossOptions::default(),
    };
    let output = Output {
        losses: &mut [0.0],
        gradient: gradient.map(|logits| Gradient { logits, upstream: None }),
        statistics: Statistics::default(),
    };
    cross_entropy(&problem, output, &Cancel::default()).map(|loss| {
        black_box(loss);
    })
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    threads::set_num_threads(1);
    let mut random = Random::new(0);
    for bytes in sizes() {
        let x: Vec<f32> = (0..bytes / 4).map(|_| random.normal(0.0, 3.0) as f32).collect();
        let mut arrays = Arrays { y: x.clone(), out: x.clone(), x };
        for (name, operation) in OPERATIONS {
            let mut group = criterion.benchmark_group(name);
            group.throughput(Throughput::Bytes(bytes as u64));
            each_vector_isa(|isa| {
                group.bench_function(BenchmarkId::new(isa.name(), bytes), |bencher| {
                    bencher.iter(|| operation(&mut arrays).expect("the arrays fit"));
                });
            });
            group.finish();
        }
    }
    criterion.final_summary();
}
