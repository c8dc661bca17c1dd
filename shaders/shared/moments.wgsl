// Sum of weights, mean and sum of squared deviations of numbers, put together by the rule of Chan, Golub and LeVeque (1979).
// The numbers are distances from a reference near them, so that a common offset costs no digit.

struct Moments {
    weight: f32,
    mean: f32,
    m2: f32,
}

/// From here on a sum of squares counts as infinite: three of it can be added.
const LARGEST_SQUARES: f32 = 1.0e38;

/// a - b for a >= b, not above the largest number.
fn distance(a: f32, b: f32) -> f32 {
    let half = 0.5 * a - 0.5 * b;
    return select(2.0 * half, 3.0e38, half > 1.5e38);
}

fn no_moments() -> Moments {
    return Moments(0.0, 0.0, 0.0);
}

/// Those of both; the root of a share is multiplied, not its square, which would be infinite first.
fn merged(a: Moments, b: Moments) -> Moments {
    let weight = a.weight + b.weight;
    if (weight <= 0.0) {
        return no_moments();
    }
    let share = b.weight / weight;
    let half = clamp(0.5 * b.mean - 0.5 * a.mean, -1.5e38, 1.5e38);
    let between = min(2.0 * min(abs(half), 1.0e30) * sqrt(a.weight * share), 1.0e19);
    let m2 = min(a.m2 + b.m2 + between * between, LARGEST_SQUARES);
    return Moments(weight, a.mean + 2.0 * half * share, m2);
}

/// The same seen from a reference that is higher by some, all weights multiplied by a factor.
fn moved(old: Moments, by: f32, factor: f32) -> Moments {
    if (old.weight * factor <= 0.0) {
        return no_moments();
    }
    let half = max(0.5 * old.mean - 0.5 * by, -1.5e38);
    return Moments(old.weight * factor, 2.0 * half, old.m2 * factor);
}

/// The bits of a sum of squares.
fn squares_bits(m2: f32) -> u32 {
    return select(bitcast<u32>(m2), INFINITY_BITS, m2 >= LARGEST_SQUARES);
}

/// The bits of the mean square distance from the mean.
fn variance_bits(all: Moments) -> u32 {
    let variance = bitcast<u32>(all.m2 / select(1.0, all.weight, all.weight > 0.0));
    return select(variance, INFINITY_BITS, all.m2 >= LARGEST_SQUARES);
}
