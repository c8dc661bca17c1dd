// transpose: y[o, j, i] = x[o, i, j].
// x: (outer, rows, columns), y: (outer, columns, rows).
// A workgroup of 16 x 16 threads turns a square of as many numbers through workgroup memory.
#use format
#use call

const SIDE: u32 = 16u;

struct Params {
    call: Call,
    outer: u32,
    rows: u32,
    columns: u32,
}

@group(0) @binding(1) var<storage, read> x: array<Stored>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored>;

// One more column than needed, so that no two threads of a column meet in a memory bank.
var<workgroup> square: array<Stored, SIDE * (SIDE + 1u)>;

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(local_invocation_id) thread: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
    let across = (params.columns + SIDE - 1u) / SIDE;
    let down = (params.rows + SIDE - 1u) / SIDE;
    let index = index_of_group(group);
    let outer = index / (across * down);
    if (outer >= params.outer) {
        return;
    }
    let row = (index / across) % down * SIDE;
    let column = index % across * SIDE;
    let start = outer * params.rows * params.columns;
    if (row + thread.y < params.rows && column + thread.x < params.columns) {
        let from_place = start + (row + thread.y) * params.columns + column + thread.x;
        square[thread.y * (SIDE + 1u) + thread.x] = x[shift(0u) + from_place];
    }
    workgroupBarrier();
    if (column + thread.y < params.columns && row + thread.x < params.rows) {
        let to_place = start + (column + thread.y) * params.rows + row + thread.x;
        y[shift(1u) + to_place] = square[thread.x * (SIDE + 1u) + thread.y];
    }
}
