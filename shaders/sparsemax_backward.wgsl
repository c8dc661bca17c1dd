// sparsemax_backward: dx = dy - mean of dy over the support of y, 0 outside.
// y, dy, dx: (rows, columns).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use sparse_backward

fn weight_of(p: f32) -> f32 {
    return select(0.0, 1.0, p > 0.0);
}

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    write_row(in);
}
