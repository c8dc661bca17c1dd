// Operations on rows of `columns` numbers: which row a thread works on, and where its numbers lie.
#use format
#use numbers
#use reduce
#use call

struct Params {
    call: Call,
    rows: u32,
    columns: u32,
    /// What a row of nothing but -inf gives, as bits.
    empty: u32,
    /// 1 / temperature.
    scale: f32,
}

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
    let row = index_of_group(in.group) * (GROUP / WIDTH) + in.thread / WIDTH;
    let lane = in.thread % WIDTH;
    let last = params.columns + WIDTH - 1u - lane;
    return Part(min(row, params.rows - 1u), lane, row < params.rows, last / WIDTH);
}

/// Index of the number with this place among those of a part, in a tensor with the shape of the rows.
fn index_of(part: Part, binding: u32, place: u32) -> u32 {
    return shift(binding) + part.row * params.columns + part.lane + place * WIDTH;
}
