// log_softmax: y = s x - ln sum e^(s x) with s = 1 / temperature.
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
    let of_sum = ln_of(sum);
    for (var place = 0u; place < part.count; place++) {
        let bits = bits_at(part, place);
        var answer = MINUS_INFINITY_BITS;
        if (sum.kind != FINE || sum.at_max == 0.0) {
            answer = NAN_BITS;
        } else if (!is_hidden(bits)) {
            let half = (0.5 * bitcast<f32>(bits) - 0.5 * sum.max) * params.scale;
            if (half > HALF_LEAST) {
                answer = flushed(2.0 * half - of_sum);
            }
        }
        y[index_of(part, 1u, place)] = pack(answer);
    }
}
