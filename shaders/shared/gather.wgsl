// Rows picked by their index: which number a thread takes.
#use format

struct Params {
    /// Where each tensor begins within its binding.
    shifts: array<vec4<u32>, 3>,
    /// Workgroups in a row of the grid.
    wide: u32,
    count: u32,
    width: u32,
    /// Whether there is an index; else rows stay where they are.
    has_index: u32,
}

/// The index of a row of zeros.
const ABSENT: u32 = 0xffffffffu;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> index: array<u32>;

/// Where the number with this place comes from; ABSENT for a zero.
fn source_of(place: u32) -> u32 {
    if (params.has_index == 0u) {
        return place;
    }
    let row = index[params.shifts[0].x + place / params.width];
    return select(row * params.width + place % params.width, ABSENT, row == ABSENT);
}

fn place_of(thread: u32, group: vec3<u32>) -> u32 {
    return (group.x + group.y * params.wide) * 256u + thread;
}
