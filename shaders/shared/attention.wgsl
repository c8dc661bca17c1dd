// What the attention shaders share: the arguments, which keys a query sees, and the way from a dot product to a score.
#use format
#use numbers
#use call

struct Params {
    call: Call,
    batch: u32,
    heads: u32,
    /// Query heads that share a key head.
    share: u32,
    queries: u32,
    keys: u32,
    dim: u32,
    value_dim: u32,
    flags: u32,
    /// Keys before and after its own position that a query sees.
    left: u32,
    right: u32,
    scale: f32,
    softcap: f32,
    /// Strides of the bias, 0 where it is broadcast.
    bias_batch: u32,
    bias_head: u32,
    bias_query: u32,
    bias_key: u32,
    /// Bins of the map; for the gradient of the bias, which of its axes are not broadcast; for rows computed anew, what is done.
    map_rows: u32,
    map_columns: u32,
    /// Where this part of the batch, of the heads, of the queries and of the keys begins, and how many there are in all.
    first_batch: u32,
    first_head: u32,
    first_query: u32,
    first_key: u32,
    all_batch: u32,
    all_heads: u32,
    all_queries: u32,
    all_keys: u32,
    /// Strides of the gradient of the bias.
    dbias_batch: u32,
    dbias_head: u32,
    dbias_query: u32,
    dbias_key: u32,
    /// Of dropout: numbers of 16 bits below which a weight is dropped, what others are multiplied by, and the seed.
    dropped: u32,
    kept: f32,
    seed_low: u32,
    seed_high: u32,
}

const TEMPERATURE: u32 = 1u;
const BIAS: u32 = 2u;
const SOFTCAP: u32 = 4u;
const BOTTOM_RIGHT: u32 = 8u;
const SINKS: u32 = 16u;
const SIGMOID: u32 = 32u;
/// Whether what is written is added to what an earlier part has left, or goes on from there.
const ADDS: u32 = 64u;
/// Whether rows without keys are NaN.
const EMPTY_IS_NAN: u32 = 128u;
/// Whether the bias of the sigmoid is minus the logarithm of how many keys a row sees.
const AUTO_ROW: u32 = 256u;
const DROPOUT: u32 = 512u;
/// Whether a later part has further keys of the same queries.
const OPEN: u32 = 1024u;
/// Whether a bin of the map is its largest weight.
const MAX_POOLING: u32 = 2048u;

/// (batch, heads, queries, dim), (batch, key heads, keys, dim), (batch, key heads, keys, value_dim).
@group(0) @binding(1) var<storage, read> q: array<Stored>;
@group(0) @binding(2) var<storage, read> k: array<Stored>;
@group(0) @binding(3) var<storage, read> v: array<Stored>;
/// Of all parts, first (heads, 3): slope, sink, bias of the sigmoid; then (batch, 2): how many queries and keys are real;
/// then (batch, heads, queries): inverse temperatures, if there are some.
@group(0) @binding(4) var<storage, read> aside: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;

struct Score {
    s: f32,
    /// Whether the query sees the key.
    seen: bool,
    /// FINE, INFINITE or NAN.
    kind: f32,
    /// The derivative of the score with respect to scale * temperature * dot product.
    slope: f32,
}

fn has(flag: u32) -> bool {
    return (params.flags & flag) != 0u;
}

fn real(bits: u32) -> f32 {
    return bitcast<f32>(bits);
}

/// A number of a query, of a key and of a value, zeros beyond their ends; `pair` is a head, or a key head, of all of the batch.
fn of_query(pair: u32, query: u32, column: u32) -> f32 {
    if (query >= params.queries || column >= params.dim) {
        return 0.0;
    }
    return real(unpack(q[shift(0u) + (pair * params.queries + query) * params.dim + column]));
}

fn of_key(pair: u32, key: u32, column: u32) -> f32 {
    if (key >= params.keys || column >= params.dim) {
        return 0.0;
    }
    return real(unpack(k[shift(1u) + (pair * params.keys + key) * params.dim + column]));
}

fn of_value(pair: u32, key: u32, column: u32) -> f32 {
    if (key >= params.keys || column >= params.value_dim) {
        return 0.0;
    }
    return real(unpack(v[shift(2u) + (pair * params.keys + key) * params.value_dim + column]));
}

/// A number of a head of this part, by its place.
fn of_head(head: u32, place: u32) -> f32 {
    return aside[shift(3u) + 3u * (params.first_head + head) + place];
}

fn slope_of(head: u32) -> f32 {
    return of_head(head, 0u);
}

fn sink_of(head: u32) -> f32 {
    return of_head(head, 1u);
}

fn has_sink(head: u32) -> bool {
    return has(SINKS) && !is_hidden(bitcast<u32>(sink_of(head)));
}

fn all_real_queries(batch: u32) -> u32 {
    return u32(aside[shift(3u) + 3u * params.all_heads + 2u * (params.first_batch + batch)]);
}

/// How many queries of this part are real.
fn real_queries(batch: u32) -> u32 {
    return max(all_real_queries(batch), params.first_query) - params.first_query;
}

fn real_keys(batch: u32) -> u32 {
    return u32(aside[shift(3u) + 3u * params.all_heads + 2u * (params.first_batch + batch) + 1u]);
}

fn temperature_of(batch: u32, head: u32, query: u32) -> f32 {
    if (!has(TEMPERATURE)) {
        return 1.0;
    }
    let start = shift(3u) + 3u * params.all_heads + 2u * params.all_batch;
    let of_pair = (params.first_batch + batch) * params.all_heads + params.first_head + head;
    return aside[start + of_pair * params.all_queries + params.first_query + query];
}

/// What is added to the scores of a row before the sigmoid.
fn sigmoid_bias_of(batch: u32, head: u32, query: u32) -> f32 {
    if (!has(AUTO_ROW)) {
        return of_head(head, 2u);
    }
    let span = whole_span_of(batch, query);
    var count = span.y - span.x;
    if (has(BIAS)) {
        for (var key = span.x; key < span.y; key++) {
            count -= select(0u, 1u, is_hidden(bitcast<u32>(bias_of(batch, head, query, key))));
        }
    }
    return -ln_of_number(max(f32(count), 1.0));
}

/// The position of a query among the keys.
fn position_of(batch: u32, query: u32) -> i32 {
    let aligned = select(0, i32(real_keys(batch)) - i32(all_real_queries(batch)), has(BOTTOM_RIGHT));
    return i32(params.first_query + query) + aligned;
}

/// How far a query is from a key of this part.
fn distance_of(batch: u32, query: u32, key: u32) -> f32 {
    return abs(f32(position_of(batch, query) - i32(params.first_key + key)));
}

/// The keys from x up to but not including y are those that lengths and window leave to a query.
fn whole_span_of(batch: u32, query: u32) -> vec2<u32> {
    if (query >= real_queries(batch)) {
        return vec2<u32>(0u, 0u);
    }
    let position = position_of(batch, query);
    var first = 0;
    var end = i32(real_keys(batch));
    if (params.left < 0x40000000u) {
        first = max(position - i32(params.left), 0);
    }
    if (params.right < 0x40000000u) {
        end = min(position + i32(params.right) + 1, end);
    }
    return vec2<u32>(u32(first), u32(max(end, first)));
}

/// Those of them that this part has, counted from its first.
fn span_of(batch: u32, query: u32) -> vec2<u32> {
    let first = vec2<u32>(params.first_key);
    return clamp(whole_span_of(batch, query), first, first + params.keys) - first;
}

/// The bias of a key, counted from the first of all.
fn bias_of(batch: u32, head: u32, query: u32, key: u32) -> f32 {
    let place = batch * params.bias_batch + head * params.bias_head + query * params.bias_query + key * params.bias_key;
    return bias[shift(4u) + place];
}

/// From a dot product to a score; `span` is that of the query.
fn score(batch: u32, head: u32, query: u32, key: u32, span: vec2<u32>, dot: f32, temperature: f32) -> Score {
    return score_of_product(batch, head, query, key, span, dot * params.scale * temperature);
}

/// From a dot product that is multiplied already to a score.
fn score_of_product(batch: u32, head: u32, query: u32, key: u32, span: vec2<u32>, product: f32) -> Score {
    if (key < span.x || key >= span.y) {
        return Score(LEAST, false, FINE, 0.0);
    }
    var added = 0.0;
    if (has(BIAS)) {
        let bits = bitcast<u32>(bias_of(batch, head, query, params.first_key + key));
        if (is_hidden(bits)) {
            return Score(LEAST, false, FINE, 0.0);
        }
        added = real(bits);
    }
    added -= slope_of(head) * distance_of(batch, query, key);
    var z = product;
    var slope = 1.0;
    if (has(SOFTCAP) && kind_of(bitcast<u32>(z)) != NAN) {
        // Bounded before it is divided; far enough for a slope of 0.
        let bound = min(1.0e3 * params.softcap, 3.0e38);
        let ratio = clamp(z, -bound, bound) / params.softcap;
        let e = exp_below(-2.0 * abs(ratio), 0.0, 1.0);
        slope = 4.0 * e / ((1.0 + e) * (1.0 + e));
        z = params.softcap * tanh_of(ratio);
    }
    let s = z + added;
    let bits = bitcast<u32>(s);
    if (is_hidden(bits)) {
        return Score(LEAST, false, FINE, 0.0);
    }
    return Score(s, true, kind_of(bits), slope);
}

/// 1 / (1 + e^-x) without an overflow.
fn sigmoid(x: f32) -> f32 {
    let e = exp_below(-abs(x), 0.0, 1.0);
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

/// ln sigmoid(x).
fn ln_sigmoid(x: f32) -> f32 {
    return min(x, 0.0) - ln_1p(exp_below(-abs(x), 0.0, 1.0));
}
