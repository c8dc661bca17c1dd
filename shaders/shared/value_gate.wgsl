// Gates on the values of attention: what the shaders of the gates share.
// v: (batch, key heads, keys, width), gate: (batch, key heads, keys), lengths: (batch), how many keys are real.
#use format
#use numbers
#use call

struct Params {
    call: Call,
    /// Rows of this part, and where it begins among all.
    count: u32,
    first: u32,
    width: u32,
    keys: u32,
    /// Rows of a batch element.
    rows: u32,
}

@group(0) @binding(1) var<storage, read> v: array<Stored>;
@group(0) @binding(2) var<storage, read> gate: array<f32>;
@group(0) @binding(3) var<storage, read> lengths: array<u32>;

/// Whether the key of a row is one of those that are real; what others hold counts as 0.
fn is_real(row: u32) -> bool {
    let place = params.first + row;
    return place % params.keys < lengths[shift(2u) + place / params.rows];
}

fn gated(number: Stored, row: u32) -> Stored {
    let product = bitcast<f32>(unpack(number)) * gate[shift(1u) + row];
    return pack(select(0u, bitcast<u32>(product), is_real(row)));
}
