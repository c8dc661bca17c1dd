// The queries of a head that a workgroup of attention takes, BR of them with TPR threads for each, and the keys that they see,
// in tiles of BC.
#use attention

/// Columns of a row that a thread keeps.
const OWN: u32 = SIZE / TPR;

struct Block {
    /// The head among all of the batch, and its key head.
    pair: u32,
    key_pair: u32,
    batch: u32,
    head: u32,
    /// The first query.
    first: u32,
}

/// What a thread has of a block.
struct Seat {
    /// The row of its query in the block, and its place among the threads of the row.
    row: u32,
    lane: u32,
    /// A query of the head in any case, and whether it is one of the row.
    query: u32,
    live: bool,
}

/// The block of a workgroup; beyond the last one its pair is none.
fn block_of(group: vec3<u32>) -> Block {
    let blocks = (params.queries + BR - 1u) / BR;
    let index = index_of_group(group);
    let pair = index / blocks;
    let batch = pair / params.heads;
    let head = pair % params.heads;
    let key_pair = batch * (params.heads / params.share) + head / params.share;
    return Block(pair, key_pair, batch, head, index % blocks * BR);
}

fn is_beyond(block: Block) -> bool {
    return block.pair >= params.batch * params.heads;
}

fn seat_of(block: Block, thread: u32) -> Seat {
    let row = thread / TPR;
    let query = block.first + row;
    return Seat(row, thread % TPR, min(query, params.queries - 1u), query < params.queries);
}

/// Where the first tile that some query of a block sees begins, and the end of the keys; the spans of the first and the last
/// query bound those of the others.
fn keys_of(block: Block) -> vec2<u32> {
    let last = min(block.first + BR, params.queries) - 1u;
    let end = span_of(block.batch, min(last, max(real_queries(block.batch), 1u) - 1u)).y;
    return vec2<u32>(span_of(block.batch, block.first).x / BC * BC, end);
}
