// What the losses of rows of logits share: the arguments, a logit after its softcap, the mass of a class, and the way from
// the sums over a row to its numbers and its gradient. x holds `width` columns of the logits, from class `first` on.
#use format
#use numbers
#use links
#use call

struct Params {
    call: Call,
    rows: u32,
    /// Classes.
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
    first: u32,
    width: u32,
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
/// Distance below the maximum where it is more than that.
const LARGE: f32 = 3.4028234663852886e38;

@group(0) @binding(1) var<storage, read> x: array<Stored>;
@group(0) @binding(2) var<storage, read> classes: array<u32>;
@group(0) @binding(3) var<storage, read> masses: array<Stored>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> factors: array<f32>;

/// The row of a thread.
var<private> own_row: u32;

fn has(flag: u32) -> bool {
    return (params.flags & flag) != 0u;
}

/// What logits are multiplied by after the softcap, which sees them multiplied already.
fn scale_of_logits() -> f32 {
    return select(params.scale, 1.0, has(CAPPED));
}

/// The bits of x in a column, before the softcap.
fn given(column: u32) -> u32 {
    return unpack(x[shift(0u) + own_row * params.width + column]);
}

/// The bits of a logit after the softcap.
fn logit(column: u32) -> u32 {
    let bits = given(column);
    if (!has(CAPPED) || kind_of(bits) == NAN) {
        return bits;
    }
    if ((bits & INFINITY_BITS) == INFINITY_BITS) {
        return bitcast<u32>(select(-params.softcap, params.softcap, bits == INFINITY_BITS));
    }
    return bitcast<u32>(params.softcap * tanh_of(bounded_ratio(bitcast<f32>(bits))));
}

/// z / softcap after the temperature; beyond 20 the CPU's kernels do not look either.
fn bounded_ratio(number: f32) -> f32 {
    return clamp(number * (params.scale / params.softcap), -20.0, 20.0);
}

/// 1 - tanh^2 u = 4 e / (1 + e)^2 with e = e^(-2 |u|): no digits are lost where tanh is near 1.
fn slope_of_cap(bits: u32) -> f32 {
    let is_infinite = (bits & INFINITY_BITS) == INFINITY_BITS;
    let e = exp_below(-2.0 * select(abs(bounded_ratio(bitcast<f32>(bits))), 20.0, is_infinite), 0.0, 1.0);
    return 4.0 * e / ((1.0 + e) * (1.0 + e));
}

fn distance_of(max: f32, z: f32, scale: f32) -> f32 {
    let half = (0.5 * max - 0.5 * z) * scale;
    return select(2.0 * half, LARGE, half > 0.5 * LARGE);
}

fn distance_of_bits(max: f32, bits: u32, scale: f32) -> f32 {
    return select(distance_of(max, bitcast<f32>(bits), scale), LARGE, is_hidden(bits));
}

fn weight_of(class_: u32) -> f32 {
    return select(1.0, weight[shift(3u) + select(0u, class_, has(WEIGHTED))], has(WEIGHTED));
}

fn mass_given(class_: u32) -> f32 {
    return bitcast<f32>(unpack(masses[shift(2u) + own_row * params.columns + class_]));
}

/// Whether other classes than the target's may have a mass.
fn is_spread() -> bool {
    return has(SOFT) || params.smoothing > 0.0;
}

/// The mass of a class before any link: w ((1 - smoothing) q + its share of the smoothing).
fn mass_of(class_: u32, own: u32, share: f32, hidden: bool) -> f32 {
    var mass = select(share, 0.0, hidden && has(FINITE_ONLY));
    let kept_share = 1.0 - params.smoothing;
    if (has(SOFT)) {
        mass += kept_share * mass_given(class_);
    } else if (class_ == own) {
        mass += kept_share;
    }
    return mass * weight_of(class_);
}

/// What is known of the logits of a row. One class, its own, is left out of the sums, so that a confident row keeps its
/// digits: see spread_row.rs, of which this is the twin.
struct Found {
    top: f32,
    /// FINE, or INFINITE or NAN where there is one.
    kind: f32,
    /// How many are not -inf.
    seen: f32,
    /// The first of the largest.
    argmax: u32,
    /// The sums over the other classes of e^(z - top) and of that times its distance from the top.
    others: f32,
    depth: f32,
    /// The largest of the others than the label, and whether there is one.
    rival: f32,
    rival_seen: f32,
    /// The bits of the own class and of the label, after the softcap.
    own: u32,
    label: u32,
}

/// Sums of the costs and masses of a row's targets, (cost, mass).
struct Targets {
    others: vec2<f32>,
    own: vec2<f32>,
    /// 1 where an infinite cost has a mass.
    infinite: f32,
}

/// What follows from what is found.
struct Sums {
    is_nan: bool,
    top: f32,
    scale: f32,
    own: f32,
    total: f32,
    ln: f32,
    /// 1 - p of the own class.
    missing: f32,
    lse: f32,
    depth: f32,
    own_distance: f32,
    label_distance: f32,
    /// Whether 1 absorbs the probabilities of all others.
    absorbs: bool,
    /// The share of the smoothing that a class gets.
    share: f32,
}

fn sums_of(found: Found) -> Sums {
    var sums: Sums;
    sums.is_nan = found.kind != FINE || found.seen == 0.0;
    sums.top = found.top;
    sums.scale = scale_of_logits();
    sums.own_distance = distance_of_bits(found.top, found.own, sums.scale);
    sums.label_distance = distance_of_bits(found.top, found.label, sums.scale);
    sums.own = select(exp_below(-sums.own_distance, 0.0, 1.0), 0.0, sums.own_distance >= LARGE);
    sums.total = max(found.others + sums.own, 1e-37);
    sums.absorbs = sums.own_distance == 0.0 && found.others <= ABSORBED;
    let from_others = sums.own_distance == 0.0 && !has(TEXTBOOK);
    sums.ln = select(ln_of_number(sums.total), ln_1p(found.others), from_others);
    sums.missing = select(found.others / sums.total, 1.0 - sums.own / sums.total, has(TEXTBOOK));
    sums.lse = found.top * sums.scale + sums.ln;
    sums.depth = (found.depth + select(sums.own * sums.own_distance, 0.0, sums.own == 0.0)) / sums.total;
    sums.share = params.smoothing / select(f32(params.columns), max(found.seen, 1.0), has(FINITE_ONLY));
    return sums;
}

/// Adds the cost and mass of a class with a logit of these bits.
fn add_target(targets: ptr<function, Targets>, class_: u32, own: u32, bits: u32, sums: Sums) {
    var mass = mass_of(class_, own, sums.share, is_hidden(bits));
    if (mass == 0.0) {
        return;
    }
    var cost = 0.0;
    if (is_hidden(bits)) {
        (*targets).infinite = max((*targets).infinite, select(0.0, 1.0, params.limit == INFINITY_BITS));
        cost = finite_limit() * mass;
        mass *= finite_slope();
    } else {
        let v = distance_of(sums.top, bitcast<f32>(bits), sums.scale) + sums.ln;
        cost = mass * phi(v);
        mass *= phi_slope(v);
    }
    if (class_ == own) {
        (*targets).own += vec2<f32>(cost, mass);
    } else {
        (*targets).others += vec2<f32>(cost, mass);
    }
}

/// phi at infinity; 0 where it is infinite, which is told apart.
fn finite_limit() -> f32 {
    return select(bitcast<f32>(params.limit), 0.0, params.limit == INFINITY_BITS);
}

fn finite_slope() -> f32 {
    return select(bitcast<f32>(params.limit_slope), 0.0, params.limit_slope == INFINITY_BITS);
}

/// The loss of a row, the mass of its targets as the gradient sees it, and that of the others than the own class.
struct Loss {
    loss: f32,
    infinite: bool,
    mass: f32,
    rest: f32,
}

fn loss_of(sums: Sums, targets: Targets, own: u32) -> Loss {
    if (is_spread()) {
        let rest = targets.others.y;
        return Loss(targets.others.x + targets.own.x, targets.infinite > 0.0, rest + targets.own.y, rest);
    }
    let factor = weight_of(own);
    if (sums.label_distance >= LARGE) {
        let infinite = factor > 0.0 && params.limit == INFINITY_BITS;
        return Loss(factor * finite_limit(), infinite, factor * finite_slope(), 0.0);
    }
    let v = sums.label_distance + sums.ln;
    return Loss(factor * phi(v), false, factor * phi_slope(v), 0.0);
}

/// The numbers of a row, as bits: loss, penalty, v, lse, entropy, margin, argmax, collapsed.
fn numbers_of(found: Found, sums: Sums, loss: Loss, ignored: bool) -> array<u32, 8> {
    let is_nan = sums.is_nan;
    let is_far = sums.label_distance >= LARGE;
    let entropy = sums.ln + sums.depth;
    let penalty = params.lse_square_scale * sums.lse * sums.lse + params.entropy_weight * entropy;
    var margin = bitcast<u32>(distance_of(bitcast<f32>(found.label), found.rival, sums.scale));
    if (found.rival_seen == 0.0) {
        margin = INFINITY_BITS;
    } else if (is_far) {
        margin = MINUS_INFINITY_BITS;
    }
    let collapsed = sums.absorbs && sums.label_distance == 0.0 && !is_nan && !ignored;
    var numbers = array<u32, 8>(
        select(select(bitcast<u32>(loss.loss), INFINITY_BITS, loss.infinite), NAN_BITS, is_nan),
        select(bitcast<u32>(penalty), NAN_BITS, is_nan),
        select(select(bitcast<u32>(sums.label_distance + sums.ln), INFINITY_BITS, is_far), NAN_BITS, is_nan),
        select(bitcast<u32>(sums.lse), NAN_BITS, is_nan),
        select(bitcast<u32>(entropy), NAN_BITS, is_nan),
        select(margin, NAN_BITS, is_nan || ignored),
        found.argmax,
        select(0u, 1u, collapsed),
    );
    if (ignored) {
        numbers[0] = 0u;
        numbers[1] = 0u;
        numbers[2] = 0u;
    }
    return numbers;
}

/// What the gradient of a row is multiplied by: that of the loss, that of every probability, that of its distance.
struct Upstream {
    loss: f32,
    even: f32,
    deep: f32,
}

fn upstream_of(sums: Sums) -> Upstream {
    let place = shift(4u) + select(0u, 2u * own_row, has(FACTOR_PER_ROW));
    let of_penalty = factors[place + 1u] * params.scale;
    let even = of_penalty * (2.0 * params.lse_square_scale * sums.lse - params.entropy_weight * sums.depth);
    return Upstream(factors[place] * params.scale, even, of_penalty * params.entropy_weight);
}

/// The bits of the gradient of a row's loss with respect to x in a column, whose logit has these bits.
fn gradient_of(column: u32, bits: u32, own: u32, ignored: bool, sums: Sums, loss: Loss, upstream: Upstream) -> u32 {
    if (ignored) {
        return 0u;
    }
    if (sums.is_nan) {
        return NAN_BITS;
    }
    let class_ = params.first + column;
    var gradient = 0.0;
    if (class_ == own) {
        let p = sums.own / sums.total;
        let of_penalty = select(p * (upstream.even + upstream.deep * sums.own_distance), 0.0, p == 0.0);
        gradient = upstream.loss * (loss.rest - loss.mass * sums.missing) + of_penalty;
    } else {
        if (!is_hidden(bits)) {
            let z = bitcast<f32>(bits);
            let p = exp_below(z, sums.top, sums.scale) / sums.total;
            let of_depth = select(0.0, upstream.deep * distance_of(sums.top, z, sums.scale), p > 0.0);
            gradient = p * (upstream.loss * loss.mass + upstream.even + of_depth);
        }
        if (loss.rest != 0.0) {
            gradient -= upstream.loss * linked_mass(class_, own, bits, sums);
        }
    }
    if (has(CAPPED)) {
        gradient *= slope_of_cap(given(column));
    }
    return flushed(gradient);
}

/// The mass of a class as the gradient sees it.
fn linked_mass(class_: u32, own: u32, bits: u32, sums: Sums) -> f32 {
    let mass = mass_of(class_, own, sums.share, is_hidden(bits));
    if (params.link == CROSS_ENTROPY || mass == 0.0) {
        return mass;
    }
    if (is_hidden(bits)) {
        return mass * finite_slope();
    }
    return mass * phi_slope(distance_of(sums.top, bitcast<f32>(bits), sums.scale) + sums.ln);
}
