//! The passes of the algorithms one at a time, for who measures what each of them costs.

use super::sweep;
use crate::error::Result;
use crate::ext_sum::ExtSum;
use crate::logsumexp;
use crate::rows;
use crate::threads::Cancel;
use logitscope_simd::Element;

/// One pass over a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Both three-pass algorithms, first: the maximum of x.
    Maximum,
    /// Recomputing, second: the sum of powers of x.
    SumPowers,
    /// Reloading, second: powers of x written and summed.
    StorePowers,
    /// Reloading, third: y scaled where it lies.
    Scale,
    /// Recomputing, third, and online, second: scaled powers of x written.
    WritePowers,
    /// Two-pass, first: the sum of powers of x as a pair.
    SumPairs,
    /// Two-pass, second: quotients of pairs written.
    WriteQuotients,
    /// Online, first: maximum and sum together.
    OnlineSum,
}

impl Pass {
    /// The passes and the names that Python knows them by.
    pub const NAMED: [(&'static str, Pass); 8] = [
        ("maximum", Pass::Maximum),
        ("sum_powers", Pass::SumPowers),
        ("store_powers", Pass::StorePowers),
        ("scale", Pass::Scale),
        ("write_powers", Pass::WritePowers),
        ("sum_pairs", Pass::SumPairs),
        ("write_quotients", Pass::WriteQuotients),
        ("online_sum", Pass::OnlineSum),
    ];
}

/// What passes that need the sum of a row take for it.
const SUM: ExtSum = ExtSum { mantissa: 1.0, exponent: 20.0 };

/// Does one pass over a row of numbers near 0, whose maximum is taken for 0 and whose sum for 2^20: the passes before
/// it are not done. What it returns only keeps the compiler from leaving work out.
///
/// # Errors
/// [`crate::Error`] if lengths differ, or when cancelled.
pub fn softmax_pass<T: Element>(pass: Pass, x: &[T], y: &mut [T], cancel: &Cancel) -> Result<f64> {
    rows::check_len("softmax_pass", "y", y.len(), x.len())?;
    let (max, scale, total) = (T::ZERO, T::ONE, SUM.exponent.exp2());
    match pass {
        Pass::Maximum => return sweep::maximum_of_long(x, cancel).map(Element::to_f64),
        Pass::SumPowers => return sweep::sum_powers_of_long(x, max, scale, cancel),
        Pass::StorePowers => return sweep::store_powers_long(x, max, scale, y, cancel),
        Pass::SumPairs => return Ok(sweep::sum_pairs_of_long(x, scale, cancel)?.mantissa),
        Pass::OnlineSum => return Ok(logsumexp::of_long_row(x, scale, cancel)?.total()),
        Pass::Scale => sweep::scale_long(y, total, cancel)?,
        Pass::WritePowers => sweep::write_long(x, max, scale, total, y, cancel)?,
        Pass::WriteQuotients => sweep::write_quotients_long(x, scale, SUM, y, cancel)?,
    }
    Ok(total)
}
