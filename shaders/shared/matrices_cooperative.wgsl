// Products of matrices through cooperative matrices of SIDE rows and columns: a subgroup makes one at a time. There are at
// least SUBGROUPS subgroups; where there are more, several make the same.
#use side
enable wgpu_cooperative_matrix;

struct Builtins {
    @builtin(local_invocation_index) thread: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
}

/// product = q_tile tile^T; nothing strange has been seen among the values, which come next.
fn multiply_keys(in: Builtins) {
    const ACROSS: u32 = BC / SIDE;
    const COUNT: u32 = BR / SIDE * ACROSS;
    for (var first = 0u; first < COUNT; first += SUBGROUPS) {
        let index = (first + in.subgroup) % COUNT;
        let row = index / ACROSS * SIDE;
        let key = index % ACROSS * SIDE;
        var sum: Sum;
        for (var column = 0u; column < SIZE; column += SIDE) {
            let left = coopLoadT<Left>(&q_tile[row * SIZE + column], SIZE);
            let right = coopLoad<Right>(&tile[key * SIZE + column], SIZE);
            sum = coopMultiplyAdd(left, right, sum);
        }
        coopStoreT(sum, &product[row * BC + key], BC);
    }
    if (in.thread == 0u) {
        atomicStore(&is_strange, 0u);
    }
    workgroupBarrier();
}

/// product = shares tile.
fn multiply_values(in: Builtins) {
    const ACROSS: u32 = SIZE / SIDE;
    const COUNT: u32 = BR / SIDE * ACROSS;
    for (var first = 0u; first < COUNT; first += SUBGROUPS) {
        let index = (first + in.subgroup) % COUNT;
        let row = index / ACROSS * SIDE;
        let column = index % ACROSS * SIDE;
        var sum: Sum;
        for (var key = 0u; key < BC; key += SIDE) {
            let left = coopLoadT<Left>(&shares[row * BC + key], BC);
            let right = coopLoadT<Right>(&tile[key * SIZE + column], SIZE);
            sum = coopMultiplyAdd(left, right, sum);
        }
        coopStoreT(sum, &product[row * SIZE + column], SIZE);
    }
    workgroupBarrier();
}
