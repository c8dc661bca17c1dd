// entmax15: y = max(x / 2 - t, 0)^2 with the threshold t at which a row sums to 1 (arXiv 1905.05702).
// x, y: (rows, columns).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use sparse

/// Half the distance above the largest, at most 0.
fn argument(bits: u32, top: f32) -> f32 {
    return select(max_of(0.5 * bitcast<f32>(bits) - 0.5 * top, -4.0), -4.0, is_hidden(bits));
}

fn probability(above: f32) -> f32 {
    return above * above;
}

/// The derivative of the probability.
fn steepness(above: f32) -> f32 {
    return 2.0 * above;
}

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    write_row(in);
}
