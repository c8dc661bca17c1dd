// The tiles of the gradients of attention: of a query its numbers and the gradient of its output, of a key its numbers and
// its value, side by side.
#use attention_block
#use attention_gradient

/// The rows that a workgroup owns, one more column than needed, and those that it sees at once.
var<workgroup> own: array<vec2<f32>, BR * (SIZE + 1u)>;
var<workgroup> seen: array<vec2<f32>, BC * SIZE>;

/// Takes in the rows that the workgroup owns from the first on, queries of a head or keys of a key head.
fn load_own(thread: u32, is_query: bool, pair: u32, first: u32) {
    for (var place = thread; place < BR * SIZE; place += BR * TPR) {
        own[place / SIZE * (SIZE + 1u) + place % SIZE] = of_row(is_query, pair, first + place / SIZE, place % SIZE);
    }
}

/// Takes in the rows that it sees next. What is from the end on may hold anything, and counts as zeros.
fn load_seen(thread: u32, is_query: bool, pair: u32, first: u32, end: u32) {
    for (var place = thread; place < BC * SIZE; place += BR * TPR) {
        let row = first + place / SIZE;
        var both = vec2<f32>(0.0, 0.0);
        if (row < end) {
            both = of_row(is_query, pair, row, place % SIZE);
        }
        seen[place] = both;
    }
}

fn of_row(is_query: bool, pair: u32, row: u32, column: u32) -> vec2<f32> {
    if (is_query) {
        return both_of_query(pair, row, column);
    }
    return both_of_key(pair, row, column);
}

/// The product of query and key, and of the output's gradient and value.
fn products_of(own_row: u32, other: u32) -> vec2<f32> {
    var sums = vec2<f32>(0.0, 0.0);
    for (var column = 0u; column < max(params.dim, params.value_dim); column++) {
        sums += own[own_row * (SIZE + 1u) + column] * seen[other * SIZE + column];
    }
    return sums;
}
