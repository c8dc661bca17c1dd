// Operations on rows of `columns` numbers: which row a thread works on, and where its numbers lie.
#use format
#use numbers
#use reduce

struct Params {
    /// Where each tensor begins within its binding.
    shifts: array<vec4<u32>, 3>,
    /// Workgroups in a row of the grid.
    wide: u32,
    rows: u32,
    columns: u32,
    /// What a row of nothing but -inf gives, as bits.
    empty: u32,
    /// 1 / temperature.
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;

/// The part of a thread: columns lane, lane + WIDTH, ... of a row.
struct Part {
    row: u32,
    lane: u32,
    /// False beyond the last row: such a thread reads the last row and writes nothing.
    live: bool,
    /// How many columns it has.
    count: u32,
}

fn part_of(in: Builtins) -> Part {
    let row = (in.group.x + in.group.y * params.wide) * (GROUP / WIDTH) + in.thread / WIDTH;
    let lane = in.thread % WIDTH;
    let last = params.columns + WIDTH - 1u - lane;
    return Part(min(row, params.rows - 1u), lane, row < params.rows, last / WIDTH);
}

fn shift(binding: u32) -> u32 {
    return params.shifts[binding / 4u][binding % 4u];
}

/// Index of the number with this place among those of a part, in a tensor with the shape of the rows.
fn index_of(part: Part, binding: u32, place: u32) -> u32 {
    return shift(binding) + part.row * params.columns + part.lane + place * WIDTH;
}
