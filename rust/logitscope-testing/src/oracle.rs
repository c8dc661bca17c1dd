//! The operations in `f64`, written as in a textbook.

/// The maximum of a row, NaN if it holds one.
fn maximum(row: &[f64]) -> f64 {
    row.iter().fold(f64::NEG_INFINITY, |m, &x| if x > m || x.is_nan() { x } else { m })
}

/// Exponentials over their sum.
pub fn softmax(row: &[f64]) -> Vec<f64> {
    let max = maximum(row);
    let powers: Vec<f64> = row.iter().map(|x| (x - max).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.iter().map(|power| power / total).collect()
}

/// Logarithm of the sum of exponentials; negative infinity for an empty row or one of negative infinities.
pub fn log_sum_exp(row: &[f64]) -> f64 {
    let max = maximum(row);
    if max.is_infinite() { max } else { max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln() }
}

/// -ln p of the target, from the sum over the other classes so that nothing cancels, and its gradient.
pub fn cross_entropy(row: &[f64], target: usize) -> (f64, Vec<f64>) {
    let max = maximum(row);
    let own = (row[target] - max).exp();
    let others: f64 =
        row.iter().enumerate().filter(|&(k, _)| k != target).map(|(_, x)| (x - max).exp()).sum();
    let distance = max - row[target];
    let loss = if distance == 0.0 { others.ln_1p() } else { distance + (others + own).ln() };
    let mut gradient: Vec<f64> = row.iter().map(|x| (x - max).exp() / (others + own)).collect();
    gradient[target] = -others / (others + own);
    (loss, gradient)
}

/// One draw of Philox4x32-10, round by round as in the paper.
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut counter, mut key) = (counter, key);
    for _ in 0..10 {
        let product = |multiplier: u64, word: u32| {
            let wide = multiplier * u64::from(word);
            ((wide >> 32) as u32, (wide & 0xffff_ffff) as u32)
        };
        let (high0, low0) = product(0xD251_1F53, counter[0]);
        let (high1, low1) = product(0xCD9E_8D57, counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}
