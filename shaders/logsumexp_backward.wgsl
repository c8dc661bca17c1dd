// logsumexp_backward: dx = dlse softmax(x). The softmax is computed anew, so no rounding of lse enters.
// x, dx: (rows, columns), dlse: (rows).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use exponentials

@group(0) @binding(2) var<storage, read> dlse: array<Stored>;
@group(0) @binding(3) var<storage, read_write> dx: array<Stored>;

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    let part = part_of(in);
    let sum = sum_of_row(in, part);
    if (!part.live) {
        return;
    }
    let upstream = unpack(dlse[shift(1u) + part.row]);
    let factor = bitcast<f32>(upstream) / max(sum.below + sum.at_max, 1.0);
    let is_nan = sum.kind != FINE || sum.at_max == 0.0 || kind_of(upstream) == NAN;
    for (var place = 0u; place < part.count; place++) {
        let bits = bits_at(part, place);
        var answer = 0u;
        if (is_nan) {
            answer = NAN_BITS;
        } else if (!is_hidden(bits)) {
            answer = flushed(exp_below(bitcast<f32>(bits), sum.max, 1.0) * factor);
        }
        dx[index_of(part, 2u, place)] = pack(answer);
    }
}
