// The tiles of the gradients of attention: of a query its numbers and the gradient of its output, of a key its numbers and
// its value, side by side.
#use attention_gradient

/// Columns that a thread keeps.
const OWN: u32 = SIZE / TPR;

/// The rows that a workgroup owns, one more column than needed, and those that it sees at once.
var<workgroup> own: array<vec2<f32>, BR * (SIZE + 1u)>;
var<workgroup> seen: array<vec2<f32>, BC * SIZE>;

/// The product of query and key, and of the output's gradient and value.
fn products_of(own_row: u32, other: u32) -> vec2<f32> {
    var sums = vec2<f32>(0.0, 0.0);
    for (var column = 0u; column < max(params.dim, params.value_dim); column++) {
        sums += own[own_row * (SIZE + 1u) + column] * seen[other * SIZE + column];
    }
    return sums;
}
