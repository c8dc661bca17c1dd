// Rows picked by their index: which number a thread takes.
#use format
#use call

struct Params {
    call: Call,
    count: u32,
    width: u32,
    /// Whether there is an index; else rows stay where they are.
    has_index: u32,
}

/// The index of a row of zeros.
const ABSENT: u32 = 0xffffffffu;

@group(0) @binding(1) var<storage, read> index: array<u32>;

/// Where the number with this place comes from; ABSENT for a zero.
fn source_of(place: u32) -> u32 {
    if (params.has_index == 0u) {
        return place;
    }
    let row = index[shift(0u) + place / params.width];
    return select(row * params.width + place % params.width, ABSENT, row == ABSENT);
}

fn place_of(thread: u32, group: vec3<u32>) -> u32 {
    return index_of_group(group) * 256u + thread;
}
