// What WGSL lacks: classes of numbers by their bits, logarithms and exponentials that keep small numbers.
// No function here makes an infinity or compares with NaN.

const NAN_BITS: u32 = 0x7fc00000u;
const INFINITY_BITS: u32 = 0x7f800000u;
const MINUS_INFINITY_BITS: u32 = 0xff800000u;
/// The smallest finite number: the maximum of nothing.
const LEAST: f32 = -3.4028234663852886e38;
/// Half of it.
const HALF_LEAST: f32 = -1.7014117331926443e38;

/// Kinds of what cannot be computed with, the worst last.
const FINE: f32 = 0.0;
const INFINITE: f32 = 1.0;
const NAN: f32 = 2.0;

fn is_hidden(bits: u32) -> bool {
    return bits == MINUS_INFINITY_BITS;
}

/// FINE for numbers and -inf, INFINITE for +inf, NAN.
fn kind_of(bits: u32) -> f32 {
    let magnitude = bits & 0x7fffffffu;
    if (magnitude > INFINITY_BITS) {
        return NAN;
    }
    return select(FINE, INFINITE, bits == INFINITY_BITS);
}

/// The bits of x, of 0 for what is below the normal numbers.
fn flushed(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits, 0u, (bits & INFINITY_BITS) == 0u);
}

/// e^(scale (x - max)) for x <= max; no difference overflows.
fn exp_below(x: f32, max: f32, scale: f32) -> f32 {
    let half = (0.5 * x - 0.5 * max) * scale;
    return select(exp(2.0 * max_of(half, -60.0)), 0.0, half < -60.0);
}

fn max_of(a: f32, b: f32) -> f32 {
    return select(b, a, a > b);
}

/// ln(1 + u) for u >= 0.
fn ln_1p(u: f32) -> f32 {
    let series = u * (1.0 - u * (0.5 - u * (0.33333334 - u * 0.25)));
    return select(log(1.0 + u), series, u < 0.015625);
}

/// e^u - 1 for u <= 0 (and for small u above).
fn exp_m1(u: f32) -> f32 {
    let series = u * (1.0 + u * (0.5 + u * (0.16666667 + u * (0.041666668 + u * 0.008333334))));
    return select(exp(max_of(u, -100.0)) - 1.0, series, abs(u) < 0.125);
}

/// tanh; the argument is bounded, since drivers overflow.
fn tanh_of(x: f32) -> f32 {
    return tanh(clamp(x, -15.0, 15.0));
}

/// e^x for x between -100 and 88.
fn grown_exp(x: f32) -> f32 {
    return exp(clamp(x, -100.0, 88.0));
}

/// ln x for x > 0; that of the smallest normal number for what is not.
fn ln_of_number(x: f32) -> f32 {
    return log(max_of(x, 1.1754944e-38));
}
