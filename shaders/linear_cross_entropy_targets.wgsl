// linear_cross_entropy_targets: what a chunk of classes adds to the costs and masses of targets that are spread over classes,
// once the sums over all of them are known.
// x: (rows, width) logits of classes first, first + 1, ...; masses: (rows, columns), state: (rows, 16).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use loss_state

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    let live = take_row(in);
    let targets = targets_of(in, label_of_row(), sums_of(found_so_far()));
    if (!live || lane != 0u) {
        return;
    }
    var before = Targets(vec2<f32>(0.0, 0.0), vec2<f32>(0.0, 0.0), 0.0);
    if (params.first > 0u) {
        before = targets_so_far();
    }
    let start = place_of_state() + 9u;
    state[start] = bitcast<u32>(before.others.x + targets.others.x);
    state[start + 1u] = bitcast<u32>(before.others.y + targets.others.y);
    state[start + 2u] = bitcast<u32>(before.own.x + targets.own.x);
    state[start + 3u] = bitcast<u32>(before.own.y + targets.own.y);
    state[start + 4u] = bitcast<u32>(max(before.infinite, targets.infinite));
}
