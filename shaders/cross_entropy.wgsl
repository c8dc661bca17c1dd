// cross_entropy: losses of the target's probability p = softmax(z)[target], phi(-ln p), their gradient and statistics.
// x, masses, dx: (rows, columns), classes: (rows), weight: (columns), factors: (rows or 1, 2), numbers: (rows, 8).
// A workgroup takes GROUP / WIDTH rows, one for each team of WIDTH threads. The target's class is left out of the sum of
// exponentials (complement form), so that a confident row keeps its digits: see spread_row.rs, of which this is the twin.
#use format
#use numbers
#use reduce
#use links

struct Params {
    /// Where each tensor begins within its binding.
    shifts: array<vec4<u32>, 3>,
    /// Workgroups in a row of the grid.
    wide: u32,
    rows: u32,
    columns: u32,
    flags: u32,
    /// 1 / temperature.
    scale: f32,
    softcap: f32,
    smoothing: f32,
    lse_square_scale: f32,
    entropy_weight: f32,
    link: u32,
    link_a: f32,
    link_b: f32,
    /// phi and its slope at infinity, as bits.
    limit: u32,
    limit_slope: u32,
}

const SOFT: u32 = 1u;
const WEIGHTED: u32 = 2u;
const GRADIENT: u32 = 4u;
const CAPPED: u32 = 8u;
const FINITE_ONLY: u32 = 16u;
const FACTOR_PER_ROW: u32 = 32u;
const TEXTBOOK: u32 = 64u;
const IGNORED: u32 = 0xffffffffu;
/// 2^-24: what 1 absorbs.
const ABSORBED: f32 = 5.9604645e-8;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Stored>;
@group(0) @binding(2) var<storage, read> classes: array<u32>;
@group(0) @binding(3) var<storage, read> masses: array<Stored>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> factors: array<f32>;
@group(0) @binding(6) var<storage, read_write> numbers: array<u32>;
@group(0) @binding(7) var<storage, read_write> dx: array<Stored>;

var<private> kept: array<u32, max(KEEP, 1u)>;
var<private> row: u32;
var<private> lane: u32;

fn has(flag: u32) -> bool {
    return (params.flags & flag) != 0u;
}

fn shift(binding: u32) -> u32 {
    return params.shifts[binding / 4u][binding % 4u];
}

fn column_of(place: u32) -> u32 {
    return lane + place * WIDTH;
}

/// The bits of a logit after the softcap.
fn logit(column: u32) -> u32 {
    let bits = unpack(x[shift(0u) + row * params.columns + column]);
    if (!has(CAPPED) || kind_of(bits) == NAN) {
        return bits;
    }
    if ((bits & INFINITY_BITS) == INFINITY_BITS) {
        return bitcast<u32>(select(-params.softcap, params.softcap, bits == INFINITY_BITS));
    }
    return bitcast<u32>(params.softcap * tanh_of(bounded_ratio(bitcast<f32>(bits))));
}

/// z / softcap after the temperature; beyond 20 the CPU's kernels do not look either.
fn bounded_ratio(x: f32) -> f32 {
    return clamp(x * (params.scale / params.softcap), -20.0, 20.0);
}

fn z_bits(place: u32) -> u32 {
    if (KEEP > 0u) {
        return kept[place];
    }
    return logit(column_of(place));
}

/// Distance below the maximum, scaled; LARGE where it is more than that.
const LARGE: f32 = 3.0e38;

fn distance_of(max: f32, z: f32, scale: f32) -> f32 {
    let half = (0.5 * max - 0.5 * z) * scale;
    return select(2.0 * half, LARGE, half > 0.5 * LARGE);
}

/// The first place with the value that `top` is the maximum of; 0 where nobody has it.
fn first_of(in: Builtins, mine: u32) -> u32 {
    // Columns are fewer than 2^24: a float holds them exactly.
    let found = team_max(in, vec2<f32>(-f32(mine), 0.0)).x;
    let first = u32(-found);
    return select(first, 0u, first >= params.columns);
}

/// The mass of a class before any link: w ((1 - smoothing) q + its share of the smoothing).
fn mass_of(column: u32, class_: u32, share: f32, hidden: bool) -> f32 {
    var mass = select(share, 0.0, hidden && has(FINITE_ONLY));
    let kept_share = 1.0 - params.smoothing;
    if (has(SOFT)) {
        mass += kept_share * bitcast<f32>(unpack(masses[shift(2u) + row * params.columns + column]));
    } else if (column == class_) {
        mass += kept_share;
    }
    return select(mass, mass * weight[shift(3u) + select(0u, column, has(WEIGHTED))], has(WEIGHTED));
}

@compute @workgroup_size(GROUP)
fn main(in: Builtins) {
    let place_of_row = (in.group.x + in.group.y * params.wide) * (GROUP / WIDTH) + in.thread / WIDTH;
    let live = place_of_row < params.rows;
    row = min(place_of_row, params.rows - 1u);
    lane = in.thread % WIDTH;
    let count = (params.columns + WIDTH - 1u - lane) / WIDTH;
    let scale = select(params.scale, 1.0, has(CAPPED));
    let target_class = classes[shift(1u) + select(row, 0u, has(SOFT))];
    let ignored = !has(SOFT) && target_class == IGNORED;

    // The maximum, the first of it, and the target: of masses the largest.
    var top = LEAST;
    var kind = FINE;
    var finite = 0.0;
    for (var place = 0u; place < count; place++) {
        let bits = logit(column_of(place));
        if (KEEP > 0u) {
            kept[place] = bits;
        }
        kind = max(kind, kind_of(bits));
        if (kind_of(bits) == FINE && !is_hidden(bits)) {
            top = max(top, bitcast<f32>(bits));
            finite += 1.0;
        }
    }
    let found = team_max(in, vec2<f32>(top, kind));
    let seen = team_sum(in, vec2<f32>(finite, 0.0)).x;
    var first = params.columns;
    var largest_mass = LEAST;
    for (var place = 0u; place < count; place++) {
        let bits = z_bits(place);
        let is_top = kind_of(bits) == INFINITE || (found.y != INFINITE && kind_of(bits) == FINE && !is_hidden(bits)
            && bitcast<f32>(bits) == found.x);
        if (is_top) {
            first = min(first, column_of(place));
        }
        if (has(SOFT)) {
            let mass = bitcast<f32>(unpack(masses[shift(2u) + row * params.columns + column_of(place)]));
            largest_mass = max(largest_mass, mass);
        }
    }
    let argmax = first_of(in, first);
    let heaviest = team_max(in, vec2<f32>(largest_mass, 0.0)).x;
    var first_heavy = params.columns;
    if (has(SOFT)) {
        for (var place = 0u; place < count; place++) {
            if (bitcast<f32>(unpack(masses[shift(2u) + row * params.columns + column_of(place)])) == heaviest) {
                first_heavy = min(first_heavy, column_of(place));
            }
        }
    }
    let labelled = select(select(target_class, 0u, ignored), first_of(in, first_heavy), has(SOFT));
    let class_ = select(labelled, argmax, has(SOFT));

    // The sum without the class, how deep the others lie, the largest of the others than the label.
    var sums = vec2<f32>(0.0, 0.0);
    var runner_up = LEAST;
    var others_seen = 0.0;
    for (var place = 0u; place < count; place++) {
        let bits = z_bits(place);
        let column = column_of(place);
        if (found.y == FINE && !is_hidden(bits)) {
            let z = bitcast<f32>(bits);
            if (column != class_) {
                let power = exp_below(z, found.x, scale);
                sums += vec2<f32>(power, select(0.0, power * distance_of(found.x, z, scale), power > 0.0));
            }
            if (column != labelled) {
                runner_up = max(runner_up, z);
                others_seen = 1.0;
            }
        }
    }
    let others = team_sum(in, sums);
    let rival = team_max(in, vec2<f32>(runner_up, others_seen));
    let is_nan = found.y != FINE || seen == 0.0;
    let class_bits = logit(class_);
    let label_bits = logit(labelled);
    let class_distance = select(distance_of(found.x, bitcast<f32>(class_bits), scale), LARGE, is_hidden(class_bits));
    let label_distance = select(distance_of(found.x, bitcast<f32>(label_bits), scale), LARGE, is_hidden(label_bits));
    let own = select(exp_below(-class_distance, 0.0, 1.0), 0.0, class_distance >= LARGE);
    let total = max(others.x + own, 1e-37);
    let textbook = has(TEXTBOOK);
    let absorbs = class_distance == 0.0 && others.x <= ABSORBED;
    let ln = select(ln_of_number(total), ln_1p(others.x), class_distance == 0.0 && !textbook);
    let missing = select(others.x / total, 1.0 - own / total, textbook);
    let lse = found.x * scale + ln;
    let depth = (others.y + select(own * class_distance, 0.0, own == 0.0)) / total;
    let is_far = label_distance >= LARGE;
    let v = label_distance + ln;

    // The masses as loss and gradient see them.
    let share = params.smoothing / select(f32(params.columns), max(seen, 1.0), has(FINITE_ONLY));
    let spread = has(SOFT) || params.smoothing > 0.0;
    let class_weight = select(1.0, weight[shift(3u) + select(0u, class_, has(WEIGHTED))], has(WEIGHTED));
    var loss = 0.0;
    var infinite = is_far && class_weight > 0.0;
    var mass = class_weight;
    var rest = 0.0;
    var parts = vec2<f32>(0.0, 0.0);
    var own_parts = vec2<f32>(0.0, 0.0);
    var has_infinite = 0.0;
    if (spread) {
        for (var place = 0u; place < count; place++) {
            let bits = z_bits(place);
            let column = column_of(place);
            var share_of_class = mass_of(column, class_, share, is_hidden(bits));
            if (share_of_class != 0.0) {
                var cost = 0.0;
                if (is_hidden(bits)) {
                    has_infinite = max(has_infinite, select(0.0, 1.0, params.limit == INFINITY_BITS));
                    cost = select(bitcast<f32>(params.limit), 0.0, params.limit == INFINITY_BITS) * share_of_class;
                    share_of_class *= select(bitcast<f32>(params.limit_slope), 0.0, params.limit_slope == INFINITY_BITS);
                } else {
                    let far = distance_of(found.x, bitcast<f32>(bits), scale);
                    if (params.link == CROSS_ENTROPY) {
                        cost = share_of_class * (far + ln);
                    } else {
                        cost = share_of_class * phi(far + ln);
                        share_of_class *= phi_slope(far + ln);
                    }
                }
                if (column == class_) {
                    own_parts += vec2<f32>(cost, share_of_class);
                } else {
                    parts += vec2<f32>(cost, share_of_class);
                }
            }
        }
    }
    let of_others = team_sum(in, parts);
    let of_class = team_sum(in, own_parts);
    let any_infinite = team_max(in, vec2<f32>(has_infinite, 0.0)).x;
    if (!live) {
        return;
    }
    if (spread) {
        loss = of_others.x + of_class.x;
        rest = of_others.y;
        mass = rest + of_class.y;
        infinite = any_infinite > 0.0;
    } else if (is_far) {
        infinite = infinite && params.limit == INFINITY_BITS;
        loss = class_weight * select(bitcast<f32>(params.limit), 0.0, params.limit == INFINITY_BITS);
        mass = class_weight * select(bitcast<f32>(params.limit_slope), 0.0, params.limit_slope == INFINITY_BITS);
    } else {
        loss = class_weight * phi(v);
        mass = class_weight * phi_slope(v);
    }
    let entropy = ln + depth;
    let penalty = params.lse_square_scale * lse * lse + params.entropy_weight * entropy;
    if (lane == 0u) {
        let start = shift(5u) + row * 8u;
        numbers[start] = select(select(bitcast<u32>(loss), INFINITY_BITS, infinite), NAN_BITS, is_nan);
        numbers[start + 1u] = select(bitcast<u32>(penalty), NAN_BITS, is_nan);
        numbers[start + 2u] = select(select(bitcast<u32>(v), INFINITY_BITS, is_far), NAN_BITS, is_nan);
        numbers[start + 3u] = select(bitcast<u32>(lse), NAN_BITS, is_nan);
        numbers[start + 4u] = select(bitcast<u32>(entropy), NAN_BITS, is_nan);
        var margin = bitcast<u32>(distance_of(bitcast<f32>(label_bits), rival.x, scale));
        if (rival.y == 0.0) {
            margin = INFINITY_BITS;
        } else if (is_far) {
            margin = MINUS_INFINITY_BITS;
        }
        numbers[start + 5u] = select(margin, NAN_BITS, is_nan || ignored);
        numbers[start + 6u] = argmax;
        numbers[start + 7u] = select(0u, 1u, absorbs && label_distance == 0.0 && !is_nan && !ignored);
        if (ignored) {
            numbers[start] = 0u;
            numbers[start + 1u] = 0u;
            numbers[start + 2u] = 0u;
        }
    }
    if (!has(GRADIENT)) {
        return;
    }
    let place_of_factor = shift(4u) + select(0u, 2u * row, has(FACTOR_PER_ROW));
    let of_loss = factors[place_of_factor] * params.scale;
    let of_penalty = factors[place_of_factor + 1u] * params.scale;
    let even = of_penalty * (2.0 * params.lse_square_scale * lse - params.entropy_weight * depth);
    let deep = of_penalty * params.entropy_weight;
    for (var place = 0u; place < count; place++) {
        let bits = z_bits(place);
        let column = column_of(place);
        var answer = 0u;
        if (!ignored && is_nan) {
            answer = NAN_BITS;
        } else if (!ignored) {
            var gradient = 0.0;
            if (column == class_) {
                let p = own / total;
                gradient = of_loss * (rest - mass * missing) + select(p * (even + deep * class_distance), 0.0, p == 0.0);
            } else {
                if (!is_hidden(bits)) {
                    let z = bitcast<f32>(bits);
                    let p = exp_below(z, found.x, scale) / total;
                    let of_depth = select(0.0, deep * distance_of(found.x, z, scale), p > 0.0);
                    gradient = p * (of_loss * mass + even + of_depth);
                }
                if (rest != 0.0) {
                    gradient -= of_loss * linked_mass(column, class_, share, bits, found.x, scale, ln);
                }
            }
            if (has(CAPPED)) {
                gradient *= slope_of_cap(unpack(x[shift(0u) + row * params.columns + column]));
            }
            answer = flushed(gradient);
        }
        dx[shift(6u) + row * params.columns + column] = pack(answer);
    }
}

/// The mass of a class as the gradient sees it.
fn linked_mass(column: u32, class_: u32, share: f32, bits: u32, top: f32, scale: f32, ln: f32) -> f32 {
    let mass = mass_of(column, class_, share, is_hidden(bits));
    if (params.link == CROSS_ENTROPY || mass == 0.0) {
        return mass;
    }
    if (is_hidden(bits)) {
        return mass * select(bitcast<f32>(params.limit_slope), 0.0, params.limit_slope == INFINITY_BITS);
    }
    return mass * phi_slope(distance_of(top, bitcast<f32>(bits), scale) + ln);
}

/// 1 - tanh^2 u = 4 e / (1 + e)^2 with e = e^(-2 |u|): no digits are lost where tanh is near 1.
fn slope_of_cap(bits: u32) -> f32 {
    let is_infinite = (bits & INFINITY_BITS) == INFINITY_BITS;
    let e = exp_below(-2.0 * select(abs(bounded_ratio(bitcast<f32>(bits))), 20.0, is_infinite), 0.0, 1.0);
    return 4.0 * e / ((1.0 + e) * (1.0 + e));
}
