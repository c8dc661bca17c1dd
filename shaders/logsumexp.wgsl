// logsumexp: lse = ln sum e^x. Limits are kept: +inf for +inf without NaN, -inf for -inf alone.
// x: (rows, columns), lse: (rows).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use exponentials

@group(0) @binding(2) var<storage, read_write> lse: array<Stored>;

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    let part = part_of(in);
    let sum = sum_of_row(in, part);
    if (!part.live || part.lane != 0u) {
        return;
    }
    var answer = bitcast<u32>(sum.max + ln_of(sum));
    if (sum.kind == NAN) {
        answer = NAN_BITS;
    } else if (sum.kind == INFINITE) {
        answer = INFINITY_BITS;
    } else if (sum.at_max == 0.0) {
        answer = MINUS_INFINITY_BITS;
    }
    lse[shift(1u) + part.row] = pack(answer);
}
