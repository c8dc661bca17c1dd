// linear_cross_entropy_rows: from what all chunks of classes have left to the numbers of each row.
// state: (rows, 16), numbers: (rows, 8).
// A thread takes a row.
#use loss_state

@group(0) @binding(7) var<storage, read_write> numbers: array<u32>;

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    own_row = index_of_group(in.group) * GROUP + in.thread;
    if (own_row >= params.rows) {
        return;
    }
    let label = label_of_row();
    let found = found_so_far();
    let sums = sums_of(found);
    var targets = Targets(vec2<f32>(0.0, 0.0), vec2<f32>(0.0, 0.0), 0.0);
    if (is_spread()) {
        targets = targets_so_far();
    }
    let own = select(label, 0u, label == IGNORED);
    let of_row = numbers_of(found, sums, loss_of(sums, targets, own), label == IGNORED);
    for (var place = 0u; place < 8u; place++) {
        numbers[shift(6u) + own_row * 8u + place] = of_row[place];
    }
}
