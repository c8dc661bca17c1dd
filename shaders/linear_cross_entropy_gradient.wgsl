// linear_cross_entropy_gradient: the gradient with respect to the logits of a chunk of classes.
// x, dx: (rows, width), of classes first, first + 1, ...; state: (rows, 16), factors: (rows or 1, 2).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use loss_state

@group(0) @binding(7) var<storage, read_write> dx: array<u32>;

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    if (!take_row(in)) {
        return;
    }
    let label = label_of_row();
    let sums = sums_of(found_so_far());
    var targets = Targets(vec2<f32>(0.0, 0.0), vec2<f32>(0.0, 0.0), 0.0);
    if (is_spread()) {
        targets = targets_so_far();
    }
    let loss = loss_of(sums, targets, select(label, 0u, label == IGNORED));
    let upstream = upstream_of(sums);
    let count = count_of_columns();
    for (var place = 0u; place < count; place++) {
        let column = column_of(place);
        let bits = gradient_of(column, z_bits(place), label, label == IGNORED, sums, loss, upstream);
        dx[shift(6u) + own_row * params.width + column] = bits;
    }
}
