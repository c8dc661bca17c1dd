// matmul: c = a b + bias, or c += a b.
// a: (rows, depth), b: (depth, columns), bias: (columns), c: (rows, columns) without gaps; a and b lie at any steps.
// A workgroup of 16 x 16 threads makes 64 x 64 numbers of c, each thread 4 x 4 of them; sums go in the order of the depth.
#use numbers
#use call

const SIDE: u32 = 64u;
const DEEP: u32 = 16u;

struct Params {
    call: Call,
    rows: u32,
    columns: u32,
    depth: u32,
    /// Steps from a number to that of the next row and of the next column.
    a_row: u32,
    a_column: u32,
    b_row: u32,
    b_column: u32,
    adds: u32,
    has_bias: u32,
}

@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> c: array<f32>;

// One more than needed, so that no two threads of a column meet in a memory bank.
var<workgroup> a_tile: array<f32, DEEP * (SIDE + 1u)>;
var<workgroup> b_tile: array<f32, DEEP * (SIDE + 1u)>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32, @builtin(workgroup_id) group: vec3<u32>) {
    let across = (params.columns + SIDE - 1u) / SIDE;
    let index = index_of_group(group);
    let row = index / across * SIDE;
    let column = index % across * SIDE;
    if (row >= params.rows) {
        return;
    }
    let own_row = thread / 16u;
    let own_column = thread % 16u;
    var sums: array<f32, 16>;
    for (var place = 0u; place < 16u; place++) {
        sums[place] = 0.0;
    }
    for (var deep = 0u; deep < params.depth; deep += DEEP) {
        workgroupBarrier();
        for (var place = thread; place < DEEP * SIDE; place += 256u) {
            // Neighbouring threads read neighbours in memory.
            let a_at = split(place, params.a_column == 1u);
            var number = 0.0;
            if (row + a_at.y < params.rows && deep + a_at.x < params.depth) {
                number = a[shift(0u) + (row + a_at.y) * params.a_row + (deep + a_at.x) * params.a_column];
            }
            a_tile[a_at.x * (SIDE + 1u) + a_at.y] = number;
            let b_at = split(place, params.b_row == 1u);
            number = 0.0;
            if (column + b_at.y < params.columns && deep + b_at.x < params.depth) {
                number = b[shift(1u) + (deep + b_at.x) * params.b_row + (column + b_at.y) * params.b_column];
            }
            b_tile[b_at.x * (SIDE + 1u) + b_at.y] = number;
        }
        workgroupBarrier();
        for (var step = 0u; step < DEEP; step++) {
            for (var down = 0u; down < 4u; down++) {
                let left = a_tile[step * (SIDE + 1u) + own_row + down * 16u];
                for (var right = 0u; right < 4u; right++) {
                    sums[down * 4u + right] += left * b_tile[step * (SIDE + 1u) + own_column + right * 16u];
                }
            }
        }
    }
    for (var place = 0u; place < 16u; place++) {
        let c_row = row + own_row + place / 4u * 16u;
        let c_column = column + own_column + place % 4u * 16u;
        if (c_row < params.rows && c_column < params.columns) {
            let at = shift(3u) + c_row * params.columns + c_column;
            var number = sums[place];
            if (params.has_bias != 0u) {
                number += bias[shift(2u) + c_column];
            }
            if (params.adds != 0u) {
                number += c[at];
            }
            c[at] = number;
        }
    }
}

/// (depth, side) of a place in a tile, the depth fastest or the side.
fn split(place: u32, depth_first: bool) -> vec2<u32> {
    return select(
        vec2<u32>(place / SIDE, place % SIDE), vec2<u32>(place % DEEP, place / DEEP), depth_first
    );
}
