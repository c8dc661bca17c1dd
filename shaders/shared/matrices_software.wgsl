// Products of matrices as cooperative matrices make them, without any: for tests on devices that have none.

struct Builtins {
    @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) group: vec3<u32>,
}

/// product = q_tile tile^T; nothing strange has been seen among the values, which come next.
fn multiply_keys(in: Builtins) {
    for (var place = in.thread; place < BR * BC; place += BR * TPR) {
        var sum = 0.0;
        for (var column = 0u; column < SIZE; column++) {
            sum += f32(q_tile[place / BC * SIZE + column]) * f32(tile[place % BC * SIZE + column]);
        }
        product[place] = sum;
    }
    if (in.thread == 0u) {
        atomicStore(&is_strange, 0u);
    }
    workgroupBarrier();
}

/// product = shares tile.
fn multiply_values(in: Builtins) {
    for (var place = in.thread; place < BR * SIZE; place += BR * TPR) {
        var sum = 0.0;
        for (var key = 0u; key < BC; key++) {
            sum += f32(shares[place / SIZE * BC + key]) * f32(tile[key * SIZE + place % SIZE]);
        }
        product[place] = sum;
    }
    workgroupBarrier();
}
