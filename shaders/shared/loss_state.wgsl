// What is kept of each row between the chunks of classes of linear_cross_entropy, as bits.
#use loss_sums

/// (rows, 16).
@group(0) @binding(6) var<storage, read_write> state: array<u32>;

fn place_of_state() -> u32 {
    return shift(5u) + own_row * 16u;
}

fn load(place: u32) -> f32 {
    return bitcast<f32>(state[place_of_state() + place]);
}

fn found_so_far() -> Found {
    let start = place_of_state();
    let label = state[start + 8u];
    return Found(load(0u), load(1u), load(2u), state[start + 3u], load(4u), load(5u), load(6u), load(7u), label, label);
}

fn targets_so_far() -> Targets {
    return Targets(vec2<f32>(load(9u), load(10u)), vec2<f32>(load(11u), load(12u)), load(13u));
}

/// The class of the target: of soft targets the one with the largest mass.
fn label_of_row() -> u32 {
    return classes[shift(1u) + own_row];
}
