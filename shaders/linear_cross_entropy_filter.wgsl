// linear_cross_entropy_filter: dx = 0 in blocks of 64 rows and 1024 classes that nowhere reach a limit.
// dx: (rows, width).
// A workgroup takes a block, a thread some columns of it.
#use call

struct Params {
    call: Call,
    rows: u32,
    width: u32,
    limit: f32,
}

const ROWS: u32 = 64u;
const COLUMNS: u32 = 1024u;

@group(0) @binding(1) var<storage, read_write> dx: array<u32>;

var<workgroup> reached: atomic<u32>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let across = (params.width + COLUMNS - 1u) / COLUMNS;
    let index = index_of_group(group);
    let first_row = index / across * ROWS;
    if (first_row >= params.rows) {
        return;
    }
    if (thread == 0u) {
        atomicStore(&reached, 0u);
    }
    workgroupBarrier();
    let end_row = min(first_row + ROWS, params.rows);
    let first_column = index % across * COLUMNS;
    let end_column = min(first_column + COLUMNS, params.width);
    // Bits of magnitudes are ordered as the magnitudes are, NaN above all.
    var largest = 0u;
    for (var row = first_row; row < end_row; row++) {
        for (var column = first_column + thread; column < end_column; column += 256u) {
            largest = max(largest, dx[shift(0u) + row * params.width + column] & 0x7fffffffu);
        }
    }
    if (largest >= bitcast<u32>(params.limit)) {
        atomicStore(&reached, 1u);
    }
    workgroupBarrier();
    if (atomicLoad(&reached) == 1u) {
        return;
    }
    for (var row = first_row; row < end_row; row++) {
        for (var column = first_column + thread; column < end_column; column += 256u) {
            dx[shift(0u) + row * params.width + column] = 0u;
        }
    }
}
