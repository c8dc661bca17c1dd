// log_stablemax: y = ln(s(x) / sum s(x)) with s(x) = x + 1 from 0 up, 1 / (1 - x) below (arXiv 2501.04697).
// x, y: (rows, columns).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use growth

@group(0) @binding(2) var<storage, read_write> y: array<Stored>;

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    let part = part_of(in);
    let growth = growth_of_row(in, part);
    if (!part.live) {
        return;
    }
    // Near 1 a probability is told by what it lacks.
    let of_sum = ln_1p(growth.below + (growth.at_max - 1.0));
    for (var place = 0u; place < part.count; place++) {
        let bits = bits_of(part, place);
        var answer = MINUS_INFINITY_BITS;
        if (growth.kind != FINE) {
            answer = NAN_BITS;
        } else if (!is_hidden(bits)) {
            let number = bitcast<f32>(bits);
            let size = ln_1p(abs(number));
            let top = ln_1p(abs(growth.max));
            let distance = select(size, -size, number < 0.0) - select(top, -top, growth.max < 0.0);
            answer = flushed(select(distance, 0.0, number == growth.max) - of_sum);
        }
        y[index_of(part, 1u, place)] = pack(answer);
    }
}
