// sparsemax: y = max(x - t, 0) with the threshold t at which a row sums to 1 (arXiv 1602.02068).
// x, y: (rows, columns).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use sparse

/// The distance above the largest, at most 0.
fn argument(bits: u32, top: f32) -> f32 {
    return select(2.0 * max_of(0.5 * bitcast<f32>(bits) - 0.5 * top, -2.0), -4.0, is_hidden(bits));
}

fn probability(above: f32) -> f32 {
    return above;
}

/// The derivative of the probability.
fn steepness(above: f32) -> f32 {
    return 1.0;
}

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    write_row(in);
}
