// The way of sparsemax and 1.5-entmax: Newton's method from below on the threshold t at which the probabilities of a
// row sum to 1. The sum is convex and falls with t, and at -1 it is at least 1: no step goes beyond the solution.
// A file that uses this says what the argument, the probability and its steepness are.
#use largest

@group(0) @binding(2) var<storage, read_write> y: array<Stored>;

/// Set by every team that has not found its threshold.
var<workgroup> unfinished: u32;

/// Newton's steps end long before.
const STEPS: u32 = 64u;

fn threshold_of(in: Builtins, part: Part, top: f32) -> f32 {
    var threshold = -1.0;
    for (var step = 0u; step < STEPS; step++) {
        var sums = vec2<f32>(0.0, 0.0);
        for (var place = 0u; place < part.count; place++) {
            let above = argument(bits_of(part, place), top) - threshold;
            if (above > 0.0) {
                sums += vec2<f32>(probability(above), steepness(above));
            }
        }
        let total = team_sum(in, sums);
        if (in.thread == 0u) {
            unfinished = 0u;
        }
        workgroupBarrier();
        let next = threshold + (total.x - 1.0) / max(total.y, 1e-30);
        if (next > threshold) {
            threshold = next;
            // Whoever writes, writes the same.
            unfinished = 1u;
        }
        if (workgroupUniformLoad(&unfinished) == 0u) {
            break;
        }
    }
    return threshold;
}

fn write_row(in: Builtins) {
    let part = part_of(in);
    let found = largest(in, part);
    // A row that cannot be computed with keeps no other row of the workgroup waiting for long.
    let threshold = threshold_of(in, part, found.x);
    if (!part.live) {
        return;
    }
    for (var place = 0u; place < part.count; place++) {
        let above = argument(bits_of(part, place), found.x) - threshold;
        var answer = 0u;
        if (found.y != FINE) {
            answer = NAN_BITS;
        } else if (above > 0.0) {
            answer = flushed(probability(above));
        }
        y[index_of(part, 1u, place)] = pack(answer);
    }
}
