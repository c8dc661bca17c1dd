// The two products of attention as products of matrices of float16 in workgroup memory, with sums of float32. What makes a
// product is in shared/matrices_cooperative.wgsl, or in shared/matrices_software.wgsl, which computes the same.

/// A tile of keys, and then of values, and whether one of those is no number.
var<workgroup> tile: array<f16, BC * SIZE>;
var<workgroup> is_strange: atomic<u32>;
var<workgroup> q_tile: array<f16, BR * SIZE>;
/// Weights after dropout.
var<workgroup> shares: array<f16, BR * BC>;
/// Of queries and keys, then of weights and values.
var<workgroup> product: array<f32, BR * max(BC, SIZE)>;

fn put_query(row: u32, column: u32, number: f32) {
    q_tile[row * SIZE + column] = f16(number);
}

fn put_in_tile(place: u32, number: f32) {
    tile[place] = f16(number);
    if ((bitcast<u32>(number) & INFINITY_BITS) == INFINITY_BITS) {
        atomicStore(&is_strange, 1u);
    }
}

fn dot_of(own_row: u32, key: u32) -> f32 {
    return product[own_row * BC + key];
}

fn put_shares(own_row: u32, lane: u32, start: u32) {
    for (var key = lane; key < BC; key += TPR) {
        let place = own_row * BC + key;
        shares[place] = f16(max(weights[place], 0.0) * kept_in_tile(own_row, start, key));
    }
}

/// Adds the product with the values to the columns of a thread. Where one of the values is no number, the product may hold a
/// NaN that is hidden from the row: there the thread makes it itself.
fn add_values(mixed: ptr<function, array<f32, OWN>>, own_row: u32, lane: u32, start: u32) {
    if (atomicLoad(&is_strange) == 0u) {
        for (var column = 0u; column < OWN; column++) {
            (*mixed)[column] += product[own_row * SIZE + lane + column * TPR];
        }
        return;
    }
    for (var key = 0u; key < BC; key++) {
        if (weights[own_row * BC + key] >= 0.0) {
            let share = f32(shares[own_row * BC + key]);
            for (var column = 0u; column < OWN; column++) {
                (*mixed)[column] += share * f32(tile[key * SIZE + lane + column * TPR]);
            }
        }
    }
}
