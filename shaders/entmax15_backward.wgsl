// entmax15_backward: with r = sqrt(y), dx = r (dy - sum r dy / sum r).
// y, dy, dx: (rows, columns).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use sparse_backward

fn weight_of(p: f32) -> f32 {
    return sqrt(max(p, 0.0));
}

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    write_row(in);
}
