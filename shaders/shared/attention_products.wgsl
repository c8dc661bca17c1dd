// The two products of attention, made by each thread for itself from tiles of float32 in workgroup memory.

struct Builtins {
    @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) group: vec3<u32>,
}

/// A tile of keys, and then of values.
var<workgroup> tile: array<f32, BC * SIZE>;
var<workgroup> q_tile: array<f32, BR * (SIZE + 1u)>;

fn put_query(row: u32, column: u32, number: f32) {
    q_tile[row * (SIZE + 1u) + column] = number;
}

fn put_in_tile(place: u32, number: f32) {
    tile[place] = number;
}

/// Nothing: products with the keys are made when they are asked for.
fn multiply_keys(in: Builtins) {}

fn dot_of(own_row: u32, key: u32) -> f32 {
    var dot = 0.0;
    for (var column = 0u; column < params.dim; column++) {
        dot += q_tile[own_row * (SIZE + 1u) + column] * tile[key * SIZE + column];
    }
    return dot;
}

/// Nothing: weights are read where they are.
fn put_shares(own_row: u32, lane: u32, start: u32) {}

/// Nothing: products with the values are made when they are added.
fn multiply_values(in: Builtins) {}

/// Adds the values of the tile, which begins at a key, to the columns of a thread.
fn add_values(mixed: ptr<function, array<f32, OWN>>, own_row: u32, lane: u32, start: u32) {
    for (var key = 0u; key < BC; key++) {
        let weight = weights[own_row * BC + key];
        // What is hidden may hold a NaN: it is passed over, not multiplied by 0.
        if (weight >= 0.0) {
            let share = weight * kept_in_tile(own_row, start, key);
            for (var column = 0u; column < OWN; column++) {
                (*mixed)[column] += share * tile[key * SIZE + lane + column * TPR];
            }
        }
    }
}
