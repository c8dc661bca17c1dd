// linear_cross_entropy_fold: what a chunk of classes adds to the largest logit of each row and the sums below it; the sums
// are rescaled whenever the largest grows.
// x: (rows, width) logits of classes first, first + 1, ...; classes: (rows), state: (rows, 16).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads.
#use loss_state

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    let live = take_row(in);
    let label = label_of_row();
    var before = Found(LEAST, FINE, 0.0, 0u, 0.0, 0.0, LEAST, 0.0, MINUS_INFINITY_BITS, MINUS_INFINITY_BITS);
    if (params.first > 0u) {
        before = found_so_far();
    }
    let largest = largest_of(in);
    let top = max(before.top, largest.top);
    let kind = max(before.kind, largest.kind);
    let others = others_of(in, top, kind, label, label);
    if (!live || lane != 0u) {
        return;
    }
    let scale = scale_of_logits();
    let shrink = exp_below(before.top, top, scale);
    let grows = largest.top > before.top || before.seen == 0.0;
    let is_new = before.kind != INFINITE && (largest.kind == INFINITE || (largest.seen > 0.0 && grows));
    let start = place_of_state();
    state[start] = bitcast<u32>(top);
    state[start + 1u] = bitcast<u32>(kind);
    state[start + 2u] = bitcast<u32>(before.seen + largest.seen);
    state[start + 3u] = select(before.argmax, params.first + largest.column, is_new);
    state[start + 4u] = bitcast<u32>(before.others * shrink + others.x);
    // Where nothing is left of the sum nothing is left of its distances, however large.
    let deeper = shrink * (before.depth + before.others * distance_of(top, before.top, scale));
    state[start + 5u] = bitcast<u32>(select(0.0, deeper, shrink * before.others > 0.0) + others.y);
    state[start + 6u] = bitcast<u32>(max(before.rival, others.z));
    state[start + 7u] = bitcast<u32>(max(before.rival_seen, others.w));
    var bits = before.label;
    if (label >= params.first && label < params.first + params.width) {
        bits = logit(label - params.first);
    } else if (label == IGNORED && params.first == 0u) {
        bits = logit(0u);
    }
    state[start + 8u] = bits;
}
