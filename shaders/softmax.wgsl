// softmax: y = e^(s x) / sum e^(s x) with s = 1 / temperature.
// x, y: (rows, columns).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use exponentials

@group(0) @binding(2) var<storage, read_write> y: array<Stored>;

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    let part = part_of(in);
    let sum = sum_of_row(in, part);
    if (!part.live) {
        return;
    }
    let factor = 1.0 / max(sum.below + sum.at_max, 1.0);
    for (var place = 0u; place < part.count; place++) {
        let bits = bits_at(part, place);
        var answer = 0u;
        if (sum.kind != FINE) {
            answer = NAN_BITS;
        } else if (sum.at_max == 0.0) {
            answer = params.empty;
        } else if (!is_hidden(bits)) {
            answer = flushed(exp_below(bitcast<f32>(bits), sum.max, params.scale) * factor);
        }
        y[index_of(part, 1u, place)] = pack(answer);
    }
}
